/**
 * Where QMP events are published inside the engine. Subscribers are called synchronously, in the order of subscription,
 * so that an event is seen before anything that happens after it.
 */

/** A QMP event: its name and data as QAPI spells them. */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A synchronous publisher of QMP events. */
export class EventBus {
  readonly #subscribers = new Set<(event: QmpEvent) => void>();

  emit(event: string, data: Record<string, unknown> = {}): void {
    for (const subscriber of this.#subscribers) subscriber({ event, data });
  }

  /** Calls `subscriber` for each event until the returned function is called. */
  subscribe(subscriber: (event: QmpEvent) => void): () => void {
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }
}
