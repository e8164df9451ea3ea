/**
 * Events that may come in floods: at most one a second of each kind (and of each copy of a quorum); of those that come before, the last one is sent when
 * the second is over. Source: behaviour of QEMU 7.2's monitors.
 */
import type { Clock } from "../../base/host.ts";
import type { QmpEvent } from "../../wire/qapi/index.ts";

const SECOND_MS = 1000;

interface Second {
  /** What is to be sent when it is over. */
  held: (() => void) | undefined;
  cancel: () => void;
}

/** What one client is spared. */
export class HeldEvents {
  readonly #clock: Pick<Clock, "timer">;
  readonly #seconds = new Map<string, Second>();

  constructor(clock: Pick<Clock, "timer">) {
    this.#clock = clock;
  }

  /** Sends the event by `send`, now or later; in the place of one that is held already. */
  pass(event: QmpEvent, send: () => void): void {
    const kind = kindOf(event);
    const second = kind === undefined ? undefined : this.#seconds.get(kind);
    if (second) {
      second.held = send;
      return;
    }
    send();
    if (kind !== undefined) this.#begin(kind);
  }

  /** Nothing is sent any more. */
  end(): void {
    for (const { cancel } of this.#seconds.values()) cancel();
    this.#seconds.clear();
  }

  #begin(kind: string): void {
    const over = (): void => {
      const { held } = this.#seconds.get(kind)!;
      this.#seconds.delete(kind);
      if (!held) return;
      held();
      this.#begin(kind);
    };
    this.#seconds.set(kind, { held: undefined, cancel: this.#clock.timer(SECOND_MS, over) });
  }
}

/** What counts as the same; undefined: the event is sent at once. */
function kindOf({ event, data }: QmpEvent): string | undefined {
  if (event === "QUORUM_FAILURE") return event;
  return event === "QUORUM_REPORT_BAD" ? `${event} ${data["node-name"]}` : undefined;
}
