// The tracker of requests: who waits for whom.
import { describe, expect, test } from "vitest";
import { RequestTracker, type TrackedRequest } from "../../../src/base/ranges.ts";

const turn = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await Promise.resolve();
};

/** Begins a request; `through` tells whether it may work. */
function begin(
  tracker: RequestTracker,
  offset: number,
  bytes: number,
  alignment = 0,
): { request: TrackedRequest; through: () => boolean; end: () => void } {
  const request = tracker.begin("write", offset, bytes);
  if (alignment > 0) tracker.makeSerialising(request, alignment);
  let through = false;
  void tracker.waitSerialising(request).then(() => {
    through = true;
  });
  return { request, through: () => through, end: () => tracker.end(request) };
}

describe("waitSerialising", () => {
  test("plain requests never wait for each other", async () => {
    const tracker = new RequestTracker();
    const a = begin(tracker, 0, 10);
    const b = begin(tracker, 5, 10);
    await turn();
    expect([a.through(), b.through()]).toEqual([true, true]);
  });

  test("a serialising one waits for those at work, and later ones for it, over the widened range", async () => {
    const tracker = new RequestTracker();
    const a = begin(tracker, 600, 10);
    const b = begin(tracker, 520, 10, 512);
    const c = begin(tracker, 1000, 10);
    const d = begin(tracker, 1024, 10);
    await turn();
    // c overtakes b, which has not begun.
    expect([a, b, c, d].map((one) => one.through())).toEqual([true, false, true, true]);
    a.end();
    await turn();
    expect(b.through()).toBe(false);
    c.end();
    await turn();
    expect(b.through()).toBe(true);
    const e = begin(tracker, 512, 1);
    await turn();
    expect(e.through()).toBe(false);
    b.end();
    await turn();
    expect(e.through()).toBe(true);
  });

  test("one that woke up looks for conflicts anew: what began meanwhile goes first", async () => {
    const tracker = new RequestTracker();
    const a = begin(tracker, 512, 1, 512);
    const b = begin(tracker, 0, 1, 512);
    const both = begin(tracker, 0, 513, 512);
    await turn();
    expect([a.through(), b.through(), both.through()]).toEqual([true, true, false]);
    // b looks once more while `both` waits, and must not wait for it.
    let again = false;
    void tracker.waitSerialising(b.request).then(() => {
      again = true;
    });
    a.end();
    await turn();
    expect([again, both.through()]).toEqual([true, false]);
    b.end();
    await turn();
    expect(both.through()).toBe(true);
  });

  test("noWait: EBUSY, and nothing when there is no conflict", async () => {
    const tracker = new RequestTracker();
    begin(tracker, 0, 10, 512);
    const other = tracker.begin("read", 5, 1);
    await expect(tracker.waitSerialising(other, true)).rejects.toMatchObject({ code: "EBUSY" });
    const apart = tracker.begin("read", 512, 1);
    await tracker.waitSerialising(apart, true);
  });

  test("many in a crowd all get through, no two at once", async () => {
    const tracker = new RequestTracker();
    let now = 0;
    let most = 0;
    const work = async (index: number): Promise<void> => {
      const request = tracker.begin("write", index * 100, 150);
      tracker.makeSerialising(request, 512);
      await tracker.waitSerialising(request);
      most = Math.max(most, (now += 1));
      await turn();
      now -= 1;
      tracker.end(request);
    };
    await Promise.all([0, 1, 2, 3, 0, 1, 2, 3].map(work));
    expect([most, now]).toEqual([1, 0]);
  });
});

test("a request that ends twice breaks an invariant", () => {
  const tracker = new RequestTracker();
  const request = tracker.begin("write", 0, 10);
  tracker.makeSerialising(request, 512);
  tracker.end(request);
  expect(() => tracker.end(request)).toThrow("a request has ended twice");
  expect(tracker.anySerialising).toBe(false);
});
