/**
 * One worker of a run: takes requests from its stream and sends them when they are due, so many at once as it may, until it is
 * done, its time is over, or the run is stopped.
 *
 * Invariants: requests are sent in the order of the stream, and what was sent is in the digests; those that change the same bytes
 * do so in the order in which they were sent, so the disk is at the end what the seed says.
 */
import { type Answer, guarded, isPromise } from "../../base/answer.ts";
import { type Deferred, deferred } from "../../base/signals.ts";
import type { RangeLock } from "../../base/ranges.ts";
import { type Errno, strerror } from "../../base/errno.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import { Req } from "../../block/model/contract.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import type { Operation, WorkerPlan } from "../model/plan.ts";
import { Draws, streamKey } from "../random/noise.ts";
import { Tally } from "../stats/tally.ts";
import type { DiskMap } from "../stats/disk-map.ts";
import type { Timeline } from "../stats/timeline.ts";
import { DataSource } from "../stream/data.ts";
import { Digest } from "../stream/digest.ts";
import { type Extent, type Request, RequestStream, passBytes } from "../stream/requests.ts";
import { TraceStream } from "../trace/stream.ts";
import type { JobResult } from "./document.ts";
import type { Ledger } from "./ledger.ts";
import type { Pacer } from "../time/pace.ts";
import { PacePlan } from "./pace.ts";

/** What all workers of a run share. */
export interface RunContext {
  /** The disk; after a power cut it is opened anew. */
  backend: BlockBackend;
  /** Resolves when the power is back; undefined: it is there. */
  outage?: Promise<void> | undefined;
  readonly kernels: Kernels;
  readonly pacer: Pacer;
  readonly seed: number;
  /** Held by requests that change the disk; undefined where no two can meet. */
  readonly lock: RangeLock | undefined;
  readonly timeline: Timeline;
  readonly map: DiskMap;
  /** Of the run, on the pacer's clock. */
  readonly beginNs: number;
  /** Aborts when the run is to end. */
  readonly stop: AbortSignal;
  /** A request has failed; `fatal`: the run ends. */
  failed(failure: Failure, fatal: boolean): void;
  /** What the disk may hold, where that is verified. */
  readonly ledger?: Ledger | undefined;
  /** Told of each request when it is sent. */
  readonly record?: ((request: Request, atNs: number) => void) | undefined;
  /** Lets the platform's events through now and then; undefined where nothing blocks them. */
  readonly breathe?: () => Answer<void>;
}

/** A request that failed. */
export interface Failure {
  readonly worker: string;
  /** Absent: it was a job. */
  readonly operation?: Operation;
  readonly offset?: number;
  readonly bytes?: number;
  readonly errno: Errno;
  readonly message: string;
}

const OPERATION_CODES: Readonly<Record<Operation, number>> = {
  read: 0,
  write: 1,
  zero: 2,
  discard: 3,
  flush: 4,
};

/** A worker of any kind. */
export interface Running {
  readonly plan: WorkerPlan;
  readonly tally: Tally;
  readonly requests: Digest;
  readonly data: Digest;
  readonly sent: number;
  /** When it began and ended, on the pacer's clock. */
  readonly beginNs: number;
  readonly endNs: number;
  /** What became of one that is a job. */
  readonly job?: JobResult | undefined;
  /** Rejects with nothing that a request or job does: see RunContext.failed. */
  run(): Promise<void>;
  /** Resolves when no request of it is under way. */
  settled(): Promise<void>;
}

/** A worker at work. */
export class Worker implements Running {
  readonly plan: WorkerPlan;
  readonly tally = new Tally();
  readonly requests: Digest;
  readonly data: Digest;
  /** When it began and ended, on the pacer's clock. */
  beginNs = 0;
  endNs = 0;
  sent = 0;
  readonly #context: RunContext;
  readonly #stream: { next(): Request };
  readonly #trace: TraceStream | undefined;
  readonly #source: DataSource;
  readonly #index: number;
  readonly #limits: { requests: number; bytes: number };
  readonly #buffers: Uint8Array[] = [];
  #sentBytes = 0;
  #inFlight = 0;
  #room: Deferred<void> | undefined;
  #ended = false;

  constructor(context: RunContext, init: { plan: WorkerPlan; index: number; extent: Extent }) {
    const { plan, index, extent } = init;
    const { kernels, seed } = context;
    this.plan = plan;
    this.#context = context;
    this.#index = index;
    this.requests = new Digest(kernels);
    this.data = new Digest(kernels);
    this.#trace = plan.trace && new TraceStream(plan.trace());
    this.#stream = this.#trace ?? new RequestStream({ plan, extent, seed, worker: index, kernels });
    this.#source = new DataSource(plan.data, { seed, worker: index, kernels });
    const { requests = Infinity, bytes = Infinity, passes = Infinity } = plan.until;
    this.#limits = { requests, bytes: Math.min(bytes, passes * passBytes(plan, extent)) };
  }

  /** Runs to its end. Rejects with nothing that a request does: see RunContext.failed. */
  async run(): Promise<void> {
    const { pacer, stop } = this.#context;
    await pacer.until(pacer.nowNs() + this.plan.startDelayNs, stop).catch(() => undefined);
    this.beginNs = pacer.nowNs();
    const draws = new Draws(this.#context.kernels, streamKey(this.#context.seed, this.#index, "pace"));
    const pace = new PacePlan(this.plan.pace, { draws, startNs: this.beginNs });
    await this.#sendAll(pace);
    await this.#idle();
    if (this.plan.flushAtEnd && !this.#ended) {
      while (this.#context.outage) await this.#context.outage;
      this.#send({ operation: "flush", offset: 0, bytes: 0, fua: false }, pacer.nowNs());
      await this.#idle();
    }
    this.endNs = pacer.nowNs();
  }

  async #sendAll(pace: PacePlan): Promise<void> {
    const { pacer, stop, breathe } = this.#context;
    const lastNs = this.beginNs + (this.plan.until.durationNs ?? Infinity);
    while (!this.#isDone() && !this.#trace?.isOver) {
      const request = this.#stream.next();
      const dueNs = this.#trace ? this.#trace.dueNs(this.beginNs) : pace.next(request.bytes);
      if (dueNs !== undefined && dueNs >= lastNs) {
        await pacer.until(lastNs, stop).catch(() => undefined);
        return;
      }
      if (this.#inFlight >= this.plan.depth) await this.#waitForRoom();
      if (dueNs !== undefined && dueNs > pacer.nowNs()) await pacer.until(dueNs, stop).catch(() => undefined);
      while (this.#context.outage) await this.#context.outage;
      if (this.#isDone() || pacer.nowNs() >= lastNs) return;
      this.#send(request, dueNs ?? pacer.nowNs());
      const breath = breathe?.();
      if (breath) await breath;
      await this.#think();
    }
  }

  #isDone(): boolean {
    const { requests, bytes } = this.#limits;
    this.#ended ||= this.#context.stop.aborted;
    return this.#ended || this.sent >= requests || this.#sentBytes >= bytes;
  }

  async #think(): Promise<void> {
    const { ns, every } = this.plan.think;
    if (ns === 0 || this.sent % every !== 0) return;
    await this.#idle();
    const { pacer, stop } = this.#context;
    await pacer.until(pacer.nowNs() + ns, stop).catch(() => undefined);
  }

  async #waitForRoom(): Promise<void> {
    while (this.#inFlight >= this.plan.depth) await (this.#room ??= deferred()).promise;
  }

  /** Resolves when nothing of it is under way. */
  async settled(): Promise<void> {
    await this.#idle();
  }

  async #idle(): Promise<void> {
    while (this.#inFlight > 0) await (this.#room ??= deferred()).promise;
  }

  #send(request: Request, intendedNs: number): void {
    this.sent += 1;
    this.#sentBytes += request.bytes;
    const { operation, offset, bytes, fua } = request;
    this.requests.number(OPERATION_CODES[operation] + (fua ? 8 : 0));
    this.requests.number(offset);
    this.requests.number(bytes);
    const buffer = this.#bufferFor(request);
    this.#inFlight += 1;
    const { lock, ledger } = this.#context;
    this.#context.record?.(request, this.#context.pacer.nowNs() - this.#context.beginNs);
    // What is verified must not change while it is read.
    const isLocked = lock && operation !== "flush" && (operation !== "read" || ledger);
    if (isLocked) void this.#locked(lock, request, { buffer, intendedNs });
    else this.#begin(request, { buffer, intendedNs });
  }

  async #locked(lock: RangeLock, request: Request, sent: Sent): Promise<void> {
    const { offset, bytes, operation } = request;
    const held = await lock.inTurn({ offset, bytes, exclusive: operation !== "read" });
    this.#begin(request, sent, () => lock.end(held));
  }

  #begin(request: Request, { buffer, intendedNs }: Sent, release?: () => void): void {
    const { pacer } = this.#context;
    const sentNs = pacer.nowNs();
    const mark = request.operation === "flush" ? this.#context.ledger?.mark() : undefined;
    const answer = guarded(() => this.#carryOut(request, buffer));
    const end = (error?: unknown): void => {
      if (mark !== undefined && error === undefined) this.#context.ledger?.flushed(mark);
      this.#enter(request, buffer, error);
      release?.();
      this.#complete(request, { intendedNs, sentNs, endNs: pacer.nowNs(), error });
      this.#giveBack(buffer);
      this.#inFlight -= 1;
      this.#room?.resolve();
      this.#room = undefined;
    };
    if (isPromise(answer)) answer.then(() => end(), end);
    else end();
  }

  /** Notes what the disk may hold now, or compares what was read with it. */
  #enter(request: Request, buffer: Uint8Array | undefined, error: unknown): void {
    const { ledger } = this.#context;
    if (!ledger) return;
    if (request.operation === "read") {
      if (error === undefined) ledger.check(request.offset, buffer!);
    } else ledger.changed(request, buffer, error !== undefined);
  }

  #carryOut({ operation, offset, bytes, fua }: Request, buffer: Uint8Array | undefined): Answer<void> {
    const { backend } = this.#context;
    if (operation === "read") return backend.pread(offset, buffer!);
    if (operation === "write") return backend.pwrite(offset, buffer!, fua ? Req.fua : 0);
    if (operation === "zero") return backend.pwriteZeroes(offset, bytes);
    return operation === "discard" ? backend.pdiscard(offset, bytes) : backend.flush();
  }

  #complete(
    { operation, offset, bytes }: Request,
    times: { intendedNs: number; sentNs: number; endNs: number; error: unknown },
  ): void {
    const { intendedNs, sentNs, endNs, error } = times;
    const failed = error !== undefined;
    const { timeline, map, beginNs } = this.#context;
    const responseNs = endNs - Math.min(intendedNs, sentNs);
    if (endNs >= this.beginNs + this.plan.warmupNs) {
      this.tally.record({ operation, bytes, responseNs, serviceNs: endNs - sentNs, failed });
      timeline.record({ operation, bytes, atNs: endNs - beginNs, responseNs, failed });
      if (!failed) map.record({ operation, offset, bytes, atNs: endNs - beginNs });
    }
    // What a power cut has lost is counted, and is no failure of the run.
    if (!failed || this.#context.outage) return;
    const errno = errnoOf(error);
    const isFatal = !this.plan.expected.includes(errno) && this.plan.onError === "stop";
    const message = messageOf(error) || strerror(errno);
    this.#context.failed({ worker: this.plan.name, operation, offset, bytes, errno, message }, isFatal);
  }

  #bufferFor({ operation, bytes }: Request): Uint8Array | undefined {
    if (operation !== "read" && operation !== "write") return undefined;
    const at = this.#buffers.findIndex((buffer) => buffer.length === bytes);
    const buffer = at < 0 ? new Uint8Array(bytes) : this.#buffers.splice(at, 1)[0]!;
    if (operation === "write") {
      const recorded = this.#trace?.data;
      if (recorded) buffer.set(recorded);
      else this.#source.fill(buffer);
      this.data.word(this.#context.kernels.xxh3(buffer));
    }
    return buffer;
  }

  #giveBack(buffer: Uint8Array | undefined): void {
    if (buffer && this.#buffers.length < this.plan.depth) this.#buffers.push(buffer);
  }
}

/** A request on its way. */
interface Sent {
  readonly buffer: Uint8Array | undefined;
  readonly intendedNs: number;
}
