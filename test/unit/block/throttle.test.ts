// Throttle groups in virtual time: rates, bursts, fairness, drain, and the limits that are refused.
import { describe, expect, it } from "vitest";
import {
  type ThrottleDirection,
  ThrottleGroup,
  ThrottleGroups,
  type ThrottleMember,
} from "../../../src/block/throttle/throttle.ts";
import { type ThrottleLimits, limitsFromProperties } from "../../../src/block/throttle/config.ts";
import { VirtualClock } from "../support/virtual-host.ts";

/** A group in virtual time, with the moment (ms) at which each request was let go. */
class Bench {
  readonly clock = new VirtualClock();
  readonly group: ThrottleGroup;
  readonly log: [string, number][] = [];

  constructor(limits: ThrottleLimits) {
    this.group = new ThrottleGroup({ name: "t", clock: this.clock, limits });
  }

  /** Issues `count` requests at once. */
  issue(
    member: ThrottleMember,
    count: number,
    request: { label?: string; bytes?: number; direction?: ThrottleDirection } = {},
  ): Promise<void> {
    const { label = "r", bytes = 1, direction = "read" } = request;
    const one = async (): Promise<void> => {
      await member.intercept(direction, bytes);
      this.log.push([label, Math.round(this.clock.nowMs())]);
    };
    return Promise.all(Array.from({ length: count }, one)).then(() => undefined);
  }

  times(label = "r"): number[] {
    return this.log.filter(([at]) => at === label).map(([, time]) => time);
  }
}

describe("throttling one member", () => {
  it("lets a tenth of a second's worth go at once, then keeps the average", async () => {
    const bench = new Bench({ "iops-total": 100 });
    await bench.clock.settle(bench.issue(bench.group.join(), 31));
    // The bucket holds ten requests, and one more may overflow it.
    expect(bench.times().slice(0, 11)).toEqual(Array.from({ length: 11 }, () => 0));
    expect(bench.times().slice(11)).toEqual(Array.from({ length: 20 }, (_, i) => 10 * (i + 1)));
  });

  it("charges a large request in full, and makes the next one pay", async () => {
    const bench = new Bench({ "bps-total": 1000 });
    const member = bench.group.join();
    await bench.clock.settle(bench.issue(member, 2, { bytes: 5000 }));
    // The bucket holds 100 bytes: 4900 too many flow out in 4.9 s.
    expect(bench.times()).toEqual([0, 4900]);
  });

  it("allows a burst at its rate for its length", async () => {
    const bench = new Bench({ "iops-total": 10, "iops-total-max": 100, "iops-total-max-length": 2 });
    await bench.clock.settle(bench.issue(bench.group.join(), 260));
    const within = (fromMs: number, toMs: number): number =>
      bench.times().filter((time) => time >= fromMs && time < toMs).length;
    expect(within(0, 1)).toBe(11);
    expect(within(500, 1500)).toBe(100);
    // 200 requests of burst, then what flows out: 10 a second.
    expect(within(3000, 5000)).toBe(20);
  });

  it("allows a burst of one second's worth at once when only a maximum is set", async () => {
    const bench = new Bench({ "iops-total": 10, "iops-total-max": 50 });
    await bench.clock.settle(bench.issue(bench.group.join(), 53));
    expect(bench.times().filter((time) => time === 0)).toHaveLength(51);
    expect(bench.times().slice(51)).toEqual([100, 200]);
  });

  it("counts a large request as several by iops-size", async () => {
    const bench = new Bench({ "iops-total": 100, "iops-size": 4096 });
    await bench.clock.settle(bench.issue(bench.group.join(), 2, { bytes: 4096 * 30 }));
    expect(bench.times()).toEqual([0, 200]);
  });

  it("limits reads and writes apart", async () => {
    const bench = new Bench({ "iops-write": 10 });
    const member = bench.group.join();
    const reads = bench.issue(member, 100, { label: "read" });
    const writes = bench.issue(member, 4, { label: "write", direction: "write" });
    await bench.clock.settle(Promise.all([reads, writes]));
    expect(new Set(bench.times("read"))).toEqual(new Set([0]));
    expect(bench.times("write")).toEqual([0, 0, 100, 200]);
  });

  it("charges both directions to a total", async () => {
    const bench = new Bench({ "iops-total": 10 });
    const member = bench.group.join();
    const reads = bench.issue(member, 6);
    const writes = bench.issue(member, 6, { direction: "write" });
    await bench.clock.settle(Promise.all([reads, writes]));
    expect(Math.max(...bench.times())).toBeGreaterThanOrEqual(900);
  });

  it("sets no timer without limits", () => {
    const bench = new Bench({});
    expect(bench.group.join().intercept("read", 2 ** 40)).toBeUndefined();
    expect(bench.clock.pending).toBe(0);
  });
});

describe("sharing a group", () => {
  it("goes round between the members that wait", async () => {
    const bench = new Bench({ "iops-total": 10 });
    const [a, b, c] = [bench.group.join(), bench.group.join(), bench.group.join()];
    const all = [
      bench.issue(a, 12, { label: "a" }),
      bench.issue(b, 4, { label: "b" }),
      bench.issue(c, 4, { label: "c" }),
    ];
    await bench.clock.settle(Promise.all(all));
    const waited = bench.log.filter(([, time]) => time > 0).map(([label]) => label);
    expect(waited.slice(0, 9).toSorted().join("")).toBe("aaabbbccc");
    for (let i = 0; i < 9; i += 3) expect(new Set(waited.slice(i, i + 3)).size).toBe(3);
  });

  it("keeps each member's order", async () => {
    const bench = new Bench({ "iops-total": 10 });
    const member = bench.group.join();
    const labels = Array.from({ length: 8 }, (_, i) => String(i));
    await bench.clock.settle(Promise.all(labels.map((label) => bench.issue(member, 1, { label }))));
    expect(bench.log.map(([label]) => label)).toEqual(labels);
  });

  it("lets a drained member's requests go at once, and the others wait on", async () => {
    const bench = new Bench({ "iops-total": 10 });
    const [a, b] = [bench.group.join(), bench.group.join()];
    const drained = bench.issue(a, 20, { label: "a" });
    const other = bench.issue(b, 2, { label: "b" });
    a.disable();
    await drained;
    await bench.issue(a, 5, { label: "a" });
    expect(bench.clock.nowMs()).toBe(0);
    expect(bench.times("b")).toEqual([]);
    a.enable();
    await bench.clock.settle(other);
    // What was let go was charged: the first waits for the requests of before, the next one for all.
    expect(bench.times("b")).toEqual([1900, 2500]);
  });

  it("goes on for the others when a member leaves", async () => {
    const bench = new Bench({ "iops-total": 10 });
    const [a, b] = [bench.group.join(), bench.group.join()];
    const left = bench.issue(a, 4, { label: "a" });
    const other = bench.issue(b, 4, { label: "b" });
    a.leave();
    await left;
    await bench.clock.settle(other);
    expect(bench.times("b")).toHaveLength(4);
    b.leave();
    expect(bench.group.isUsed).toBe(false);
    expect(bench.clock.pending).toBe(0);
  });

  it("starts anew when limits change, and keeps those that were not named", async () => {
    const bench = new Bench({ "iops-total": 1, "bps-total": 1e6 });
    const waiting = bench.issue(bench.group.join(), 40);
    bench.group.configure({ "iops-total": 100 });
    await bench.clock.settle(waiting);
    expect(bench.clock.nowMs()).toBeLessThan(1000);
    expect(bench.group.limits).toMatchObject({
      "iops-total": 100,
      "bps-total": 1e6,
      "bps-read-max-length": 1,
    });
    expect(() => bench.group.configure({ "iops-read": 5 })).toThrow("cannot be used at the same time");
    expect(bench.group.limits["iops-read"]).toBe(0);
  });
});

describe("limits", () => {
  const together = "bps/iops/max total values and read/write values cannot be used at the same time";
  const range = "bps/iops/max values must be within [0, 1000000000000000]";

  it.each<[ThrottleLimits, string]>([
    [{ "bps-total": 1, "bps-read": 1 }, together],
    [{ "iops-total": 1, "iops-write": 1 }, together],
    [{ "bps-total-max": 100, "bps-read-max": 100 }, together],
    [{ "bps-total-max": 10 }, "bps_max/iops_max require corresponding bps/iops values"],
    [{ "bps-total": -1 }, range],
    [{ "bps-total": 1e15 + 1 }, range],
    [{ "bps-total": 100, "bps-total-max": 10 }, "bps_max/iops_max cannot be lower than bps/iops"],
    [{ "bps-total": 100, "bps-total-max-length": 10 }, "burst length set without burst rate"],
    [{ "bps-total": 100, "bps-total-max": 200, "bps-total-max-length": 0 }, "the burst length cannot be 0"],
    [
      { "bps-total": 100, "bps-total-max": 1e15, "bps-total-max-length": 10 },
      "burst length too high for this burst rate",
    ],
    [
      { "bps-total": 1, "bps-total-max": 2, "bps-total-max-length": -1 },
      "burst length too high for this burst rate",
    ],
    [
      { "bps-total": 100, "bps-total-max": 200, "bps-total-max-length": 2 ** 32 },
      "bps-total-max-length value must be in the range [0, 4294967295]",
    ],
    [{ "iops-size": 10 }, "iops size requires an iops value to be set"],
    [{ "iops-size": -1 }, "iops size requires an iops value to be set"],
  ])("refuses %j in QEMU's words", (limits, message) => {
    const make = (): ThrottleGroup => new ThrottleGroup({ name: "t", clock: new VirtualClock(), limits });
    expect(make).toThrow(expect.objectContaining({ message, code: "EINVAL" }));
  });

  it("takes the largest values", () => {
    const limits = { "bps-total": 1e15, "iops-read": 5, "iops-size": 4096 };
    expect(new ThrottleGroup({ name: "t", clock: new VirtualClock(), limits }).limits).toMatchObject(limits);
  });

  it("come from the struct and from single properties", () => {
    expect(limitsFromProperties({ limits: { "bps-total": 5 }, "x-iops-total": 7 })).toEqual({
      "bps-total": 5,
      "iops-total": 7,
    });
    expect(() => limitsFromProperties({ "x-bps-total": -100 })).toThrow("Property values cannot be negative");
    expect(() => limitsFromProperties({ limits: { foo: 1 } })).toThrow(
      "Parameter 'limits.foo' is unexpected",
    );
    expect(() => limitsFromProperties({ limits: { "bps-total": "1" } })).toThrow("expected: integer");
  });
});

describe("the groups of an engine", () => {
  it("are made, found and removed in QEMU's words", () => {
    const groups = new ThrottleGroups(new VirtualClock());
    const group = groups.add("t", { "bps-total": 5 });
    expect(groups.get("t")).toBe(group);
    expect(() => groups.add("t")).toThrow(
      "attempt to add duplicate property 't' to object (type 'container')",
    );
    expect(() => groups.add("9x")).toThrow("Parameter 'id' expects an identifier");
    const member = group.join();
    expect(() => groups.remove("t")).toThrow("object 't' is in use, can not be deleted");
    member.leave();
    groups.remove("t");
    expect(() => groups.remove("t")).toThrow("object 't' not found");
    expect(groups.get("t")).toBeUndefined();
  });
});
