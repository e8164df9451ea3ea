/**
 * A job as a source of events: an EventTarget whose event types are QMP's event names, and an AsyncIterable that yields
 * the events from the moment of iteration until the job is gone. Listeners are called synchronously.
 */

/** An event of one job; `type` is QMP's name (`JOB_STATUS_CHANGE`, `BLOCK_JOB_ERROR`, …). */
export class JobEvent extends Event {
  /** The event's data, wire names. */
  readonly data: Readonly<Record<string, unknown>>;

  constructor(type: string, data: Readonly<Record<string, unknown>>) {
    super(type);
    this.data = data;
  }
}

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
export class JobEventSource extends EventTarget implements AsyncIterable<JobEvent> {
  readonly #queues = new Set<EventQueue>();
  #over = false;

  /** Hands an event to the listeners and iterators. */
  protected dispatchJobEvent(type: string, data: Readonly<Record<string, unknown>>): void {
    const event = new JobEvent(type, data);
    for (const queue of this.#queues) queue.push(event);
    this.dispatchEvent(event);
  }

  /** Ends all iterations after the events that are still queued. */
  protected endJobEvents(): void {
    this.#over = true;
    for (const queue of this.#queues) queue.end();
    this.#queues.clear();
  }

  /** Iterates over the events from now on; ends when the job is gone. */
  [Symbol.asyncIterator](): AsyncIterableIterator<JobEvent> {
    const queue = new EventQueue((closed) => this.#queues.delete(closed));
    if (this.#over) queue.end();
    else this.#queues.add(queue);
    return queue;
  }
}
