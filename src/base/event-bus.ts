/**
 * Where QMP events are published inside the engine. Subscribers are called synchronously, in the order of subscription,
 * so that an event is seen before anything that happens after it. Which events there are the layer of the wire says.
 */

/** An event: its name and data as QAPI spells them. */
export interface NamedEvent {
  readonly event: string;
  readonly data: object;
}

/** The data of the event `N` among the events `E`. */
type DataOf<E extends NamedEvent, N> = E extends NamedEvent
  ? N extends E["event"]
    ? E["data"]
    : never
  : never;

/** Data without members may be left out. */
type DataArgument<D> = Record<never, never> extends D ? [data?: D] : [data: D];

/** A synchronous publisher of the events `E`, a union that `event` tells apart. */
export class EventBus<E extends NamedEvent = NamedEvent> {
  readonly #subscribers = new Set<(event: E) => void>();

  emit<N extends E["event"]>(event: N, ...[data]: DataArgument<DataOf<E, N>>): void {
    for (const subscriber of this.#subscribers) subscriber({ event, data: data ?? {} } as unknown as E);
  }

  /** Calls `subscriber` for each event until the returned function is called. */
  subscribe(subscriber: (event: E) => void): () => void {
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }
}
