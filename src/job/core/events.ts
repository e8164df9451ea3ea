/**
 * A job as a source of events: an EventTarget whose event types are QMP's event names, and an AsyncIterable that yields
 * the events from the moment of iteration until the job is gone. Listeners are called synchronously.
 */
import { assert } from "../../base/assert.ts";
import type { EventDataOf } from "../../wire/qapi/index.ts";

/** The names of the events of one job. */
export type JobEventName =
  | "JOB_STATUS_CHANGE"
  | "BLOCK_JOB_READY"
  | "BLOCK_JOB_ERROR"
  | "BLOCK_JOB_PENDING"
  | "BLOCK_JOB_COMPLETED"
  | "BLOCK_JOB_CANCELLED";

/** The events of one job and their data, wire names. */
export type JobEvents = { readonly [N in JobEventName]: EventDataOf<N> };

class TypedJobEvent<N extends JobEventName> extends Event {
  static override readonly name = "JobEvent";
  declare readonly type: N;
  /** The event's data, wire names. */
  readonly data: JobEvents[N];

  constructor(type: N, data: JobEvents[N]) {
    super(type);
    this.data = data;
  }
}

/** An event of one job, told apart by `type`, which is QMP's name (`JOB_STATUS_CHANGE`, `BLOCK_JOB_ERROR` …). */
export type JobEvent<N extends JobEventName = JobEventName> = { [K in N]: TypedJobEvent<K> }[N];
/** The class of these events, for `instanceof`. */
export const JobEvent = TypedJobEvent;

type BareListener = Parameters<EventTarget["addEventListener"]>;

/** Hears an event of a job. */
export type JobListener<N extends JobEventName> =
  | ((event: JobEvent<N>) => void)
  | { handleEvent(event: JobEvent<N>): void }
  | null;

/** An EventTarget of a job's events alone. */
interface JobEventTarget extends EventTarget {
  /** Calls the listener within the change that the event tells of: to resume a job, wait for a microtask. */
  addEventListener<N extends JobEventName>(
    type: N,
    listener: JobListener<N>,
    options?: BareListener[2],
  ): void;
  removeEventListener<N extends JobEventName>(
    type: N,
    listener: JobListener<N>,
    options?: Parameters<EventTarget["removeEventListener"]>[2],
  ): void;
}

const JobEventTarget = EventTarget as new () => JobEventTarget;

/** Events that an iterator keeps for a slow reader; older ones are dropped beyond it. */
const maxQueued = 1024;

/** Keeps the events that one reader has not taken yet. */
class EventQueue implements AsyncIterableIterator<JobEvent> {
  readonly #events: JobEvent[] = [];
  readonly #onClose: (queue: EventQueue) => void;
  #reader: ((result: IteratorResult<JobEvent>) => void) | undefined;
  #ended = false;

  constructor(onClose: (queue: EventQueue) => void) {
    this.#onClose = onClose;
  }

  push(event: JobEvent): void {
    assert(!this.#ended, "an event after the end");
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader) return reader({ value: event, done: false });
    this.#events.push(event);
    if (this.#events.length > maxQueued) this.#events.shift();
  }

  end(): void {
    this.#ended = true;
    this.#reader?.({ value: undefined, done: true });
    this.#reader = undefined;
  }

  next(): Promise<IteratorResult<JobEvent>> {
    const event = this.#events.shift();
    if (event) return Promise.resolve({ value: event, done: false });
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  return(): Promise<IteratorResult<JobEvent>> {
    this.end();
    this.#onClose(this);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** The event side of a job. One reader per iterator; an iterator keeps at most 1024 unread events, the newest. */
export class JobEventSource extends JobEventTarget implements AsyncIterable<JobEvent> {
  readonly #queues = new Set<EventQueue>();
  #over = false;
  #isHeard = false;

  /** Whether somebody will hear how it ends: who waits for it, iterates, or listens to BLOCK_JOB_COMPLETED. @internal */
  get isHeard(): boolean {
    return this.#isHeard;
  }

  /** Notes that somebody does. @internal */
  hears(): void {
    this.#isHeard = true;
  }

  /** @internal */
  override addEventListener<N extends JobEventName>(
    type: N,
    listener: JobListener<N>,
    options?: BareListener[2],
  ): void {
    if (type === "BLOCK_JOB_COMPLETED") this.hears();
    super.addEventListener(type, listener, options);
  }

  /** Hands an event to the listeners and iterators. @internal */
  protected dispatchJobEvent<N extends JobEventName>(type: N, data: JobEvents[N]): void {
    const event = new JobEvent(type, data) as JobEvent;
    for (const queue of this.#queues) queue.push(event);
    this.dispatchEvent(event);
  }

  /** Ends all iterations after the events that are still queued. @internal */
  protected endJobEvents(): void {
    this.#over = true;
    for (const queue of this.#queues) queue.end();
    this.#queues.clear();
  }

  /** Iterates over the events from now on; ends when the job is gone. */
  [Symbol.asyncIterator](): AsyncIterableIterator<JobEvent> {
    this.hears();
    const queue = new EventQueue((closed) => this.#queues.delete(closed));
    if (this.#over) queue.end();
    else this.#queues.add(queue);
    return queue;
  }
}
