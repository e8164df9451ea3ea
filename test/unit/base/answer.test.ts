// Answers that may be here at once: what is known is handed on in the same turn, and errors go the same way either way.
import { describe, expect, test } from "vitest";
import {
  type Answer,
  andThen,
  ending,
  guarded,
  isPromise,
  repeat,
  rescue,
  together,
} from "../../../src/base/answer.ts";

const fails = (): never => {
  throw new Error("at once");
};
const rejects = (): Promise<never> => Promise.reject(new Error("later"));
const messageOf = (error: unknown): string => (error as Error).message;

test("only what has a then is a promise", () => {
  const values = [undefined, 0, "", { bytes: 1 }, new Uint8Array(1)];
  expect(values.map((value) => isPromise<unknown>(value))).toEqual(values.map(() => false));
  expect(isPromise(Promise.resolve(1))).toBe(true);
});

test("andThen answers at once what is here at once", async () => {
  expect(andThen(1, (value) => value + 1)).toBe(2);
  const later = andThen(Promise.resolve(1), (value) => value + 1);
  expect(isPromise(later)).toBe(true);
  expect(await later).toBe(2);
  expect(await andThen(1, (value) => Promise.resolve(value + 1))).toBe(2);
});

test("ending ends once, after the answer or the error", async () => {
  const order: string[] = [];
  const end = (): void => void order.push("end");
  expect(ending(() => 1, end)).toBe(1);
  expect(() => ending(fails, end)).toThrow("at once");
  expect(order).toEqual(["end", "end"]);
  const later = ending(() => Promise.resolve().then(() => order.push("work")), end);
  expect(order).toHaveLength(2);
  await later;
  await expect(ending(rejects, end)).rejects.toThrow("later");
  expect(order).toEqual(["end", "end", "work", "end", "end"]);
});

test("rescue repairs what is thrown and what is rejected", async () => {
  expect(rescue(() => "fine", messageOf)).toBe("fine");
  expect(rescue<string>(fails, messageOf)).toBe("at once");
  expect(await rescue<string>(rejects, messageOf)).toBe("later");
});

test("guarded rejects what is thrown, and leaves a value alone", async () => {
  expect(guarded(() => 7)).toBe(7);
  await expect(guarded(fails)).rejects.toThrow("at once");
});

describe("repeat", () => {
  const count = async (later: (step: number) => boolean): Promise<[steps: number, atOnce: boolean]> => {
    let steps = 0;
    const answer = repeat(() => {
      steps += 1;
      const more = steps < 100_000;
      return later(steps) ? Promise.resolve(more) : more;
    });
    await answer;
    return [steps, !isPromise(answer)];
  };

  test("is over at once if every step is", async () => {
    expect(await count(() => false)).toEqual([100_000, true]);
  });

  test("goes on by itself where a step must be waited for, however many there are", async () => {
    expect(await count((step) => step === 50_000)).toEqual([100_000, false]);
    expect(await count((step) => step % 2 === 0)).toEqual([100_000, false]);
  });

  test("ends with a step's error", async () => {
    expect(() => repeat(fails)).toThrow("at once");
    await expect(repeat(rejects)).rejects.toThrow("later");
    let steps = 0;
    await expect(repeat(() => (++steps === 1 ? Promise.resolve(true) : fails()))).rejects.toThrow("at once");
  });
});

describe("together", () => {
  test("is over at once if all are", () => {
    expect(together([() => undefined, () => undefined])).toBeUndefined();
    expect(together([])).toBeUndefined();
  });

  test("waits for all, starts those behind a failure too, and tells the first error", async () => {
    const ended: number[] = [];
    const slow =
      (number: number): (() => Answer<void>) =>
      async () => {
        for (let turns = 0; turns < 5; turns++) await Promise.resolve();
        ended.push(number);
      };
    const all = together([slow(1), fails, rejects, slow(2)]);
    expect(ended).toEqual([]);
    await expect(all).rejects.toThrow("at once");
    expect(ended).toEqual([1, 2]);
  });
});
