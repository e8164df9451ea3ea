/**
 * A declared device at work: told of each request when it comes, it says at once when that ends and whether it fails. It keeps no
 * data and sets no timer, so it serves the virtual clock and the real one.
 *
 * Invariants: all times are whole nanoseconds; requests are told in the order of their times; the same requests at the same
 * times have the same answers, whatever the engine.
 */
import type { Errno } from "../../base/errno.ts";
import type { Operation } from "../model/plan.ts";
import type { Draws } from "../random/noise.ts";
import type { DeviceModel, Fault } from "./model.ts";

/** A request as the device sees it. */
export interface DeviceRequest {
  readonly operation: Operation;
  readonly offset: number;
  readonly bytes: number;
}

/** When a request ends. */
export interface Ending {
  readonly atNs: number;
  readonly errno?: Errno;
  /** The power is cut while it is under way. */
  readonly cutsPower: boolean;
}

/** What came to a device. */
export interface DeviceCounts {
  readonly requests: Record<Operation, number>;
  readonly bytes: Record<Operation, number>;
  readonly errors: number;
  /** Time in which a channel worked, all channels together, ns. */
  readonly busyNs: number;
}

/** One device. */
export class ModelDevice {
  readonly model: DeviceModel;
  readonly #draws: Draws;
  readonly #length: number;
  readonly #channels: number[];
  /** When each of the requests that the device has taken ends, unordered. */
  #queue: number[] = [];
  /** When the ways of bytes are free again. */
  readonly #freeNs = { total: 0, read: 0, write: 0 };
  #headAt = 0;
  /** Bytes in the cache at #cacheAtNs. */
  #dirty = 0;
  #cacheAtNs = 0;
  #written = 0;
  #seen = 0;
  readonly #counts = {
    requests: { read: 0, write: 0, zero: 0, discard: 0, flush: 0 },
    bytes: { read: 0, write: 0, zero: 0, discard: 0, flush: 0 },
    errors: 0,
    busyNs: 0,
  };

  /** `length`: of the disk, bytes; `draws`: a stream of its own. */
  constructor(model: DeviceModel, { length, draws }: { length: number; draws: Draws }) {
    this.model = model;
    this.#length = Math.max(1, length);
    this.#draws = draws;
    this.#channels = new Array<number>(model.channels).fill(0);
  }

  /** What came so far. */
  get counts(): DeviceCounts {
    return structuredClone(this.#counts);
  }

  /** Takes a request at a time; tells when it ends. */
  take(request: DeviceRequest, nowNs: number): Ending {
    const { operation, bytes } = request;
    this.#seen += 1;
    this.#counts.requests[operation] += 1;
    this.#counts.bytes[operation] += bytes;
    const errno = this.#failure(request, nowNs);
    if (errno !== undefined) this.#counts.errors += 1;
    const atNs = this.#finish(request, this.#begin(nowNs), errno !== undefined);
    this.#queue.push(atNs);
    const cutsPower = this.model.faults.some(({ kind, nth }) => kind === "power-cut" && nth === this.#seen);
    return { atNs, cutsPower, ...(errno === undefined ? {} : { errno }) };
  }

  /** When there is room in the queue and nothing stalls. */
  #begin(nowNs: number): number {
    this.#queue = this.#queue.filter((endNs) => endNs > nowNs);
    let at = nowNs;
    const { queueDepth, faults } = this.model;
    if (this.#queue.length >= queueDepth)
      at = this.#queue.toSorted((a, b) => a - b)[this.#queue.length - queueDepth]!;
    for (const fault of faults) if (fault.kind === "stall") at = Math.max(at, endOf(fault, at) ?? at);
    return at;
  }

  #finish(request: DeviceRequest, fromNs: number, failed: boolean): number {
    const channel = this.#freeChannel();
    const startNs = this.#afterStalls(Math.max(fromNs, this.#channels[channel]!));
    const readyNs = startNs + this.#latency(request, startNs);
    const endNs = failed ? readyNs : this.#move(request, readyNs);
    this.#channels[channel] = endNs;
    this.#counts.busyNs += endNs - startNs;
    return endNs;
  }

  #afterStalls(atNs: number): number {
    let at = atNs;
    for (const fault of this.model.faults)
      if (fault.kind === "stall") at = Math.max(at, endOf(fault, at) ?? at);
    return at;
  }

  #freeChannel(): number {
    let best = 0;
    for (let i = 1; i < this.#channels.length; i++) if (this.#channels[i]! < this.#channels[best]!) best = i;
    return best;
  }

  #latency(request: DeviceRequest, atNs: number): number {
    const { latency, faults } = this.model;
    let ns = latency[request.operation](this.#draws) + this.#seek(request);
    for (const fault of faults) {
      const isSlow = fault.kind === "slow" && fault.operations.has(request.operation);
      if (isSlow && endOf(fault, atNs) !== undefined) ns = Math.round(ns * fault.factor);
    }
    return ns;
  }

  /** The way of the head, which a cache spares writes. */
  #seek({ operation, offset, bytes }: DeviceRequest): number {
    const { seek, cache } = this.model;
    if (!seek || operation === "flush" || operation === "discard") return 0;
    if (cache && operation !== "read") return 0;
    const distance = Math.abs(offset - this.#headAt);
    this.#headAt = offset + bytes;
    if (distance === 0) return 0;
    const way = Math.round((seek.mostNs - seek.leastNs) * Math.sqrt(Math.min(1, distance / this.#length)));
    return seek.leastNs + way + this.#draws.below(seek.rotationNs + 1);
  }

  /** Moves the bytes, from when they are ready; tells when they are there. */
  #move(request: DeviceRequest, readyNs: number): number {
    const { operation, bytes } = request;
    if (operation === "flush") return this.#empty(readyNs);
    if (operation !== "read" && operation !== "write") return readyNs;
    const { readSpeed, writeSpeed, totalSpeed } = this.model;
    const free = this.#freeNs;
    const shared = (free.total = over(readyNs, free.total, spent(bytes, totalSpeed)));
    if (operation === "read") {
      free.read = over(readyNs, free.read, spent(bytes, readSpeed));
      return Math.max(shared, free.read);
    }
    const speed = Math.min(writeSpeed, this.#cliffSpeed(bytes));
    free.write = over(readyNs, free.write, spent(bytes, speed));
    return this.#intoCache(bytes, Math.max(shared, free.write));
  }

  #cliffSpeed(bytes: number): number {
    this.#written += bytes;
    const { cliff } = this.model;
    return cliff && this.#written > cliff.afterBytes ? cliff.speed : Infinity;
  }

  #drainUntil(atNs: number): void {
    const { cache } = this.model;
    if (!cache || atNs <= this.#cacheAtNs) return;
    this.#dirty = Math.max(0, this.#dirty - Math.floor(((atNs - this.#cacheAtNs) / 1e9) * cache.speed));
    this.#cacheAtNs = atNs;
  }

  /** When the bytes are in the cache: at once while there is room, else when enough has left it. */
  #intoCache(bytes: number, atNs: number): number {
    const { cache } = this.model;
    if (!cache) return atNs;
    this.#drainUntil(atNs);
    this.#dirty += bytes;
    const excess = this.#dirty - cache.bytes;
    return excess <= 0 ? atNs : Math.max(atNs, this.#cacheAtNs + spent(excess, cache.speed));
  }

  /** When the cache is empty. */
  #empty(atNs: number): number {
    const { cache } = this.model;
    if (!cache) return atNs;
    this.#drainUntil(atNs);
    const endNs = Math.max(atNs, this.#cacheAtNs) + spent(this.#dirty, cache.speed) + cache.flushNs;
    this.#drainUntil(endNs);
    this.#dirty = 0;
    return endNs;
  }

  #failure({ operation, offset, bytes }: DeviceRequest, atNs: number): Errno | undefined {
    for (const fault of this.model.faults) {
      if (fault.kind !== "error" || !fault.operations.has(operation)) continue;
      if (fault.nth > 0 ? this.#seen === fault.nth : endOf(fault, atNs) !== undefined) return fault.errno;
    }
    for (const zone of this.model.zones) {
      if (!zone.operations.has(operation) || operation === "flush") continue;
      if (offset >= zone.end || offset + bytes <= zone.offset) continue;
      if (this.#draws.fraction() < zone.errorRate) return zone.errno;
    }
    return undefined;
  }
}

/** How long bytes take, whole ns. */
function spent(bytes: number, perSecond: number): number {
  return Math.ceil((bytes * 1e9) / perSecond);
}

/** When bytes have gone over a way that is free at some time; a way without a limit has room for all at once. */
function over(readyNs: number, freeNs: number, takesNs: number): number {
  return takesNs === 0 ? readyNs : Math.max(readyNs, freeNs) + takesNs;
}

/** When the fault that holds at a time is over; undefined where none does. */
function endOf({ atNs, everyNs, forNs, nth }: Fault, nowNs: number): number | undefined {
  if (nth > 0 || nowNs < atNs) return undefined;
  const since = nowNs - atNs;
  const into = everyNs > 0 ? since % everyNs : since;
  return into < forNs ? nowNs + forNs - into : undefined;
}
