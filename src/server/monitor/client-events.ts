/**
 * The events that a QMP client sees, and those that wait for one reader.
 * Invariant: no event is lost silently: a reader that is too slow is told so.
 */
import { limits } from "../../base/limits.ts";
import { Wakeup } from "../../base/signals.ts";
import type { EventDataOf, EventName } from "../../wire/qapi/index.ts";

/** An event as a client sees it; `microseconds` is the sender's wall clock, since 1970. */
export interface ClientEvent<N extends EventName = EventName> {
  readonly event: N;
  readonly data: EventDataOf<N>;
  readonly microseconds: number;
}

/** Any event, told apart by its name. */
export type AnyClientEvent = { [N in EventName]: ClientEvent<N> }[EventName];

/** What the EventTarget dispatches, under the QMP event's name and under `event`. */
export class QmpClientEvent extends Event {
  readonly detail: AnyClientEvent;
  constructor(type: string, detail: AnyClientEvent) {
    super(type);
    this.detail = detail;
  }
}

/** Events that wait for one iterator. */
export class EventQueue implements AsyncIterableIterator<AnyClientEvent> {
  readonly #events: AnyClientEvent[] = [];
  readonly #changed = new Wakeup();
  readonly #onReturn: () => void;
  #isFinished = false;
  #isOverrun = false;

  constructor(onReturn: () => void) {
    this.#onReturn = onReturn;
  }

  push(event: AnyClientEvent): void {
    if (this.#events.length >= limits.maxQmpClientEvents) this.#isOverrun = true;
    else this.#events.push(event);
    this.#changed.wake();
  }

  finish(): void {
    this.#isFinished = true;
    this.#changed.wake();
  }

  async next(): Promise<IteratorResult<AnyClientEvent>> {
    await this.#changed.until(() => this.#events.length > 0 || this.#isFinished || this.#isOverrun);
    const value = this.#events.shift();
    if (value) return { done: false, value };
    if (this.#isOverrun) throw new Error("QMP events were lost: their reader is too slow");
    return { done: true, value: undefined };
  }

  return(): Promise<IteratorResult<AnyClientEvent>> {
    this.#onReturn();
    this.finish();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<AnyClientEvent> {
    return this;
  }
}
