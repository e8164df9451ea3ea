// What failed first is what everybody sees, whatever fails while things are closed.
import { expect, test } from "vitest";
import { closing } from "../../../src/base/lease.ts";
import { BlockError, blockError, errnoOf, firstFailure, messageOf } from "../../../src/base/errors.ts";

const full = blockError("ENOSPC", "pwrite");
const fails =
  (error: Error): (() => Promise<never>) =>
  () =>
    Promise.reject(error);

/** As the language makes it, and as a compiler's helper does where the language can't. */
function suppressed(error: unknown, first: unknown): Error {
  const made = new Error("An error was suppressed during disposal.");
  return Object.assign(made, { name: "SuppressedError", error, suppressed: first });
}

test("the body's error is thrown, with the closing's as its cause, and everything is closed", async () => {
  const [body, one, two] = [blockError("ENOSPC", "pwrite"), new Error("one"), new Error("two")];
  const closed: string[] = [];
  const close = (name: string, error: Error) => (): Promise<void> => {
    closed.push(name);
    return Promise.reject(error);
  };
  const thrown: unknown = await closing(fails(body), close("one", one), close("two", two)).catch(
    (e: unknown) => e,
  );
  expect(thrown).toBe(body);
  expect(closed).toEqual(["one", "two"]);
  expect(body.cause).toBe(one);
  expect(one.cause).toBe(two);
});

test("a failing close alone is told, and without a failure there is the body's result", async () => {
  await expect(closing(() => Promise.resolve(7), fails(full))).rejects.toBe(full);
  await expect(
    closing(
      () => Promise.resolve(7),
      () => Promise.resolve(),
    ),
  ).resolves.toBe(7);
  const thrower = (): Promise<never> => {
    throw full;
  };
  await expect(closing(thrower)).rejects.toBe(full);
});

test("an error that is thrown twice is not its own cause", async () => {
  const error = blockError("EIO", "flush");
  await expect(closing(fails(error), fails(error))).rejects.toBe(error);
  expect(error.cause).toBeUndefined();
});

test("a SuppressedError shows the first failure's words and errno, through any number of closings", () => {
  const first = blockError("ENOSPC", "pwrite");
  const nested = suppressed(new Error("third"), suppressed(blockError("EIO", "flush"), first));
  expect(messageOf(nested)).toBe("No space left on device");
  expect(errnoOf(nested)).toBe("ENOSPC");
  expect(firstFailure(nested)).toBe(first);
  expect(firstFailure(nested)).toBe(first);
  const causes: string[] = [];
  for (let at: unknown = first.cause; at instanceof Error; at = at.cause) causes.push(at.message);
  expect(causes).toEqual(["Input/output error", "third"]);
});

test("what `await using` throws in this program is understood", async () => {
  const body = async (): Promise<void> => {
    await using _file = { [Symbol.asyncDispose]: fails(blockError("EIO", "close")) };
    throw new BlockError({ code: "ENOSPC", op: "pwrite" });
  };
  const thrown: unknown = await body().catch((error: unknown) => error);
  expect(messageOf(thrown)).toBe("No space left on device");
  expect(errnoOf(thrown)).toBe("ENOSPC");
});
