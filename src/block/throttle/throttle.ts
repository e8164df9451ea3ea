/**
 * Throttle groups: leaky buckets that several nodes share, with a round robin between the nodes whose requests wait.
 *
 * A request is let go when no bucket overflows, and its cost is charged in full afterwards; so one large request may
 * overdraw a bucket, and the next one pays for it.
 * Invariants: requests of one member and direction go in the order in which they came; at most one timer per group and
 * direction is armed, and while requests wait there is one, unless their member is drained.
 * Source: QEMU's docs/throttle.txt, behaviour of 7.2.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import type { Clock } from "../../base/host.ts";
import { type Deferred, deferred } from "../../base/signals.ts";
import type { GraphView } from "../model/contract.ts";
import {
  type BucketConfig,
  type ThrottleBucketName,
  type ThrottleConfig,
  type ThrottleLimits,
  applyLimits,
  limitsOf,
  throttleBuckets,
  unlimited,
} from "./config.ts";

/** What a request does, as throttling sees it; zeroes and discards are writes. */
export type ThrottleDirection = "read" | "write";

const directions: readonly ThrottleDirection[] = ["read", "write"];

const checked: Readonly<Record<ThrottleDirection, readonly ThrottleBucketName[]>> = {
  read: ["bps-total", "iops-total", "bps-read", "iops-read"],
  write: ["bps-total", "iops-total", "bps-write", "iops-write"],
};

/** Without a burst rate a bucket still holds what flows out in this time, or every other request would have to wait. */
const BUCKET_SECONDS = 0.1;

class Bucket {
  readonly #config: BucketConfig;
  #level = 0;
  #burstLevel = 0;

  constructor(config: BucketConfig) {
    this.#config = config;
  }

  leak(seconds: number): void {
    const { average, burst, burstSeconds } = this.#config;
    this.#level = Math.max(this.#level - average * seconds, 0);
    if (burstSeconds > 1) this.#burstLevel = Math.max(this.#burstLevel - burst * seconds, 0);
  }

  charge(units: number): void {
    assert(units >= 0, "less than nothing is charged");
    this.#level += units;
    if (this.#config.burstSeconds > 1) this.#burstLevel += units;
  }

  /** Seconds until a request may go. */
  wait(): number {
    const { average, burst, burstSeconds } = this.#config;
    if (average === 0) return 0;
    const size = burst === 0 ? average * BUCKET_SECONDS : burst * burstSeconds;
    const over = this.#level - size;
    if (over > 0) return over / average;
    const overBurst = this.#burstLevel - burst * BUCKET_SECONDS;
    return burstSeconds > 1 && overBurst > 0 ? overBurst / burst : 0;
  }
}

function bucketsOf(config: ThrottleConfig): Map<ThrottleBucketName, Bucket> {
  return new Map(throttleBuckets.map((name) => [name, new Bucket(config.buckets[name])]));
}

interface Waiting {
  bytes: number;
  go: Deferred<void>;
}

/** One node's membership in a group. Made by ThrottleGroup.join. */
export class ThrottleMember {
  readonly group: ThrottleGroup;
  /** Waiting requests; changed by the group only. */
  readonly queues: Readonly<Record<ThrottleDirection, Waiting[]>> = { read: [], write: [] };
  #disabled = 0;

  constructor(group: ThrottleGroup) {
    this.group = group;
  }

  /** True while limits do not hold for this member (it is being drained). */
  get isDisabled(): boolean {
    return this.#disabled > 0;
  }

  /** Waits for the request's turn; undefined where it may go at once. */
  intercept(direction: ThrottleDirection, bytes: number): Promise<void> | undefined {
    return this.group.intercept(this, direction, bytes);
  }

  /** Lifts the limits and lets everything that waits go. Nests. */
  disable(): void {
    this.#disabled += 1;
    if (this.#disabled === 1) this.group.restart(this);
  }

  /** The reverse of disable. */
  enable(): void {
    assert(this.#disabled > 0, "throttling enabled twice");
    this.#disabled -= 1;
  }

  /** Leaves the group; what waits goes first. */
  leave(): void {
    this.disable();
    this.group.remove(this);
  }
}

/** A named set of limits that its members share. */
export class ThrottleGroup {
  readonly name: string;
  readonly #clock: Pick<Clock, "nowMs" | "timer">;
  readonly #members: ThrottleMember[] = [];
  #config: ThrottleConfig;
  #buckets: Map<ThrottleBucketName, Bucket>;
  #leakedAtMs: number;
  /** Whose turn it was last. */
  readonly #turn: Record<ThrottleDirection, ThrottleMember | undefined> = {
    read: undefined,
    write: undefined,
  };
  readonly #timers: Record<ThrottleDirection, { member: ThrottleMember; cancel: () => void } | undefined> = {
    read: undefined,
    write: undefined,
  };

  constructor(init: { name: string; clock: Pick<Clock, "nowMs" | "timer">; limits: ThrottleLimits }) {
    this.name = init.name;
    this.#clock = init.clock;
    this.#config = applyLimits(unlimited(), init.limits);
    this.#buckets = bucketsOf(this.#config);
    this.#leakedAtMs = init.clock.nowMs();
  }

  /** The limits in force, all by wire name. */
  get limits(): Required<ThrottleLimits> {
    return limitsOf(this.#config);
  }

  /** Whether nodes use the group. */
  get isUsed(): boolean {
    return this.#members.length > 0;
  }

  /** Changes the limits given, keeps the others; the buckets start empty. Throws EINVAL, and then nothing changed. */
  configure(changes: ThrottleLimits): void {
    this.#config = applyLimits(this.#config, changes);
    this.#buckets = bucketsOf(this.#config);
    this.#leakedAtMs = this.#clock.nowMs();
    for (const member of this.#members) this.restart(member);
  }

  /** Makes a member. */
  join(): ThrottleMember {
    const member = new ThrottleMember(this);
    this.#members.push(member);
    return member;
  }

  /** Takes a member out; ThrottleMember.leave calls it. */
  remove(member: ThrottleMember): void {
    const at = this.#members.indexOf(member);
    assert(at >= 0, `not a member of throttle group '${this.name}'`);
    for (const direction of directions) {
      if (this.#turn[direction] === member) this.#turn[direction] = this.#members.at(at - 1);
    }
    this.#members.splice(at, 1);
    assert(
      directions.every((direction) => member.queues[direction].length === 0),
      "who leaves waits for nothing",
    );
    for (const direction of directions) {
      if (this.#turn[direction] === member) this.#turn[direction] = undefined;
    }
  }

  /** See ThrottleMember.intercept. */
  intercept(member: ThrottleMember, direction: ThrottleDirection, bytes: number): Promise<void> | undefined {
    const queue = member.queues[direction];
    if (
      queue.length > 0 ||
      (!member.isDisabled && this.#mustWait(this.#next(member, direction), direction))
    ) {
      const go = deferred();
      queue.push({ bytes, go });
      return go.promise;
    }
    this.#charge(direction, bytes);
    this.#pump(this.#choose(member, direction), direction);
    return undefined;
  }

  /** No limit holds any more, and what waits goes. */
  lift(): void {
    for (const member of this.#members) member.disable();
  }

  /** Looks again whether a member's requests may go: one at least does, and those of a drained member all do. */
  restart(member: ThrottleMember): void {
    for (const direction of directions) {
      const timer = this.#timers[direction];
      if (timer?.member === member) {
        timer.cancel();
        this.#timers[direction] = undefined;
      }
      this.#pump(member, direction);
    }
  }

  /** Lets requests go, one after the other, for as long as the buckets allow it. */
  #pump(first: ThrottleMember | undefined, direction: ThrottleDirection): void {
    for (let member = first; member; member = this.#choose(member, direction)) {
      const request = member.queues[direction].shift();
      if (!request) continue;
      this.#charge(direction, request.bytes);
      request.go.resolve();
    }
  }

  /** The member whose next waiting request may go now; undefined if none waits, or a timer was set for it. */
  #choose(current: ThrottleMember, direction: ThrottleDirection): ThrottleMember | undefined {
    const token = this.#next(current, direction);
    if (token.queues[direction].length === 0 || this.#mustWait(token, direction)) return undefined;
    const chosen = current.queues[direction].length > 0 ? current : token;
    this.#turn[direction] = chosen;
    return chosen;
  }

  /** Round robin: the first member with waiting requests after the one whose turn it was, else `member`. */
  #next(member: ThrottleMember, direction: ThrottleDirection): ThrottleMember {
    if (member.isDisabled && member.queues[direction].length > 0) return member;
    const last = this.#turn[direction];
    const start = last ? this.#members.indexOf(last) : -1;
    for (let step = 1; step <= this.#members.length; step++) {
      const candidate = this.#members[(start + step) % this.#members.length];
      if (candidate && candidate.queues[direction].length > 0) return candidate;
    }
    return member;
  }

  /** Whether a request of this member has to wait; if so, a timer is running afterwards. */
  #mustWait(member: ThrottleMember, direction: ThrottleDirection): boolean {
    if (member.isDisabled) return false;
    if (this.#timers[direction]) return true;
    this.#leak();
    const seconds = Math.max(...checked[direction].map((name) => this.#buckets.get(name)?.wait() ?? 0));
    if (seconds <= 0) return false;
    assert(Number.isFinite(seconds), "a wait ends");
    const cancel = this.#clock.timer(seconds * 1000, () => {
      this.#timers[direction] = undefined;
      this.#pump(member, direction);
    });
    this.#timers[direction] = { member, cancel };
    this.#turn[direction] = member;
    return true;
  }

  #leak(): void {
    const now = this.#clock.nowMs();
    const seconds = Math.max(0, now - this.#leakedAtMs) / 1000;
    this.#leakedAtMs = now;
    for (const bucket of this.#buckets.values()) bucket.leak(seconds);
  }

  #charge(direction: ThrottleDirection, bytes: number): void {
    const { requestBytes } = this.#config;
    const requests = requestBytes > 0 && bytes > requestBytes ? bytes / requestBytes : 1;
    for (const name of checked[direction]) {
      this.#buckets.get(name)?.charge(name.startsWith("bps") ? bytes : requests);
    }
  }
}

/** The throttle groups of an engine, by name. */
export class ThrottleGroups {
  #clock: Pick<Clock, "nowMs" | "timer">;
  readonly #groups = new Map<string, ThrottleGroup>();
  /** Groups that nobody made by name. */
  readonly #passing = new Set<ThrottleGroup>();

  constructor(clock: Pick<Clock, "nowMs" | "timer">) {
    this.#clock = clock;
  }

  /** Makes a group. Throws EINVAL for bad limits, and QEMU's words for a name that is taken or is none. */
  add(name: string, limits: ThrottleLimits = {}): ThrottleGroup {
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(name))
      throw new CommandError("Parameter 'id' expects an identifier");
    const group = new ThrottleGroup({ name, clock: this.#clock, limits });
    if (this.#groups.has(name)) {
      throw new CommandError(`attempt to add duplicate property '${name}' to object (type 'container')`, {
        code: "EEXIST",
      });
    }
    this.#groups.set(name, group);
    return group;
  }

  /** Removes a group that no node uses. */
  remove(name: string): void {
    const group = this.#groups.get(name);
    if (!group) throw new CommandError(`object '${name}' not found`, { code: "ENOENT" });
    if (group.isUsed)
      throw new CommandError(`object '${name}' is in use, can not be deleted`, { code: "EBUSY" });
    this.#groups.delete(name);
  }

  get(name: string): ThrottleGroup | undefined {
    return this.#groups.get(name);
  }

  /** Groups that are made from now on count by another clock. */
  countBy(clock: Pick<Clock, "nowMs" | "timer">): void {
    this.#clock = clock;
  }

  /** No limit holds any more, and what waits goes: the engine ends. */
  lift(): void {
    for (const group of this.#groups.values()) group.lift();
  }

  /** A member of the group of that name, which is made if there is none, and then goes with its last member. */
  join(name: string): ThrottleMember {
    let group = this.#groups.get(name);
    if (!group) {
      group = new ThrottleGroup({ name, clock: this.#clock, limits: {} });
      this.#groups.set(name, group);
      this.#passing.add(group);
    }
    return group.join();
  }

  /** Takes a member of join() out. */
  leave(member: ThrottleMember): void {
    const { group } = member;
    member.leave();
    if (!group.isUsed && this.#passing.delete(group)) this.#groups.delete(group.name);
  }
}

const groupsByGraph = new WeakMap<GraphView, ThrottleGroups>();

/** The groups of a graph (`object-add qom-type=throttle-group`); made when first asked for. */
export function throttleGroupsOf(graph: GraphView): ThrottleGroups {
  const known = groupsByGraph.get(graph);
  if (known) return known;
  const groups = new ThrottleGroups(graph.host.clock);
  groupsByGraph.set(graph, groups);
  graph.limits.add(() => groups.lift());
  return groups;
}
