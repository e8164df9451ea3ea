// The FIFO mutex and the wakeup that everything in the engine waits by, and waits that a signal ends.
import { describe, expect, it } from "vitest";
import { Mutex, Wakeup, abortable, deferred } from "../../../src/base/signals.ts";

describe("a mutex", () => {
  it("lets one in at a time, in the order of asking", async () => {
    const mutex = new Mutex();
    const order: string[] = [];
    const first = deferred();
    const body = (name: string, until?: Promise<void>) => async (): Promise<string> => {
      order.push(`${name} begins`);
      await until;
      order.push(`${name} ends`);
      return name;
    };
    const all = Promise.all([
      mutex.run(body("a", first.promise)),
      mutex.run(body("b")),
      mutex.run(body("c")),
    ]);
    await Promise.resolve();
    expect(mutex.locked).toBe(true);
    expect(order).toEqual(["a begins"]);
    first.resolve();
    expect(await all).toEqual(["a", "b", "c"]);
    expect(order).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
    expect(mutex.locked).toBe(false);
  });

  it("stays locked while it is handed on: nobody who comes later gets in between", async () => {
    const mutex = new Mutex();
    const unlock = await mutex.lock();
    const order: string[] = [];
    const waiting = mutex.lock().then((next) => {
      order.push("who waited");
      return next;
    });
    unlock();
    expect(mutex.locked).toBe(true);
    const late = mutex.run(async () => void order.push("who came late"));
    (await waiting)();
    await late;
    expect(order).toEqual(["who waited", "who came late"]);
  });

  it("is given back when its body fails", async () => {
    const mutex = new Mutex();
    await expect(mutex.run(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(mutex.locked).toBe(false);
    expect(await mutex.run(() => Promise.resolve(1))).toBe(1);
  });

  it("is not unlocked twice", async () => {
    const mutex = new Mutex();
    const unlock = await mutex.lock();
    unlock();
    expect(unlock).toThrow("mutex unlocked twice");
  });
});

describe("a wakeup", () => {
  it("wakes all who wait, and nobody who waits later", async () => {
    const wakeup = new Wakeup();
    const woken: string[] = [];
    const early = [wakeup.wait().then(() => woken.push("a")), wakeup.wait().then(() => woken.push("b"))];
    wakeup.wake();
    const late = wakeup.wait().then(() => woken.push("late"));
    await Promise.all(early);
    expect(woken).toEqual(["a", "b"]);
    wakeup.wake();
    await late;
    expect(woken).toEqual(["a", "b", "late"]);
  });

  it("tests a condition at once, and again at each wake", async () => {
    const wakeup = new Wakeup();
    let tested = 0;
    let value = 0;
    await wakeup.until(() => true);
    const reached = wakeup.until(() => {
      tested += 1;
      return value === 2;
    });
    expect(tested).toBe(1);
    value = 1;
    wakeup.wake();
    await Promise.resolve();
    await Promise.resolve();
    expect(tested).toBe(2);
    value = 2;
    wakeup.wake();
    await reached;
    expect(tested).toBe(3);
  });

  it("may wake when nobody waits", () => {
    expect(() => new Wakeup().wake()).not.toThrow();
  });
});

describe("an abortable wait", () => {
  const reason = new Error("enough");

  it("is the promise where there is no signal", async () => {
    expect(await abortable(Promise.resolve(1), undefined)).toBe(1);
    await expect(abortable(Promise.reject(new Error("own")), undefined)).rejects.toThrow("own");
  });

  it("ends with the signal's reason, before or while it waits", async () => {
    const never = new Promise<void>(() => undefined);
    await expect(abortable(never, AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const waiting = abortable(never, controller.signal);
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });

  it("ends with the promise where that settles first", async () => {
    const controller = new AbortController();
    expect(await abortable(Promise.resolve(2), controller.signal)).toBe(2);
    const failed = abortable(Promise.reject(new Error("own")), controller.signal);
    await expect(failed).rejects.toThrow("own");
    controller.abort(reason);
  });
});
