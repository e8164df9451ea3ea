/** What jobs need of their surroundings. The registry (registry.ts) is the only home; the interface keeps jobs from knowing it. */
import type { EventBus } from "../../base/event-bus.ts";
import type { Clock } from "../../base/host.ts";
import type { QmpEvent } from "../../wire/qapi/index.ts";
import type { Wakeup } from "../../base/signals.ts";

/** The engine's part in a job. */
export interface JobEnvironment {
  readonly clock: Clock;
  readonly events: EventBus<QmpEvent>;
  /** Woken whenever a job changes state or goes idle, so that drains look again. */
  readonly changes: Wakeup;
}

/** Where a job is listed, from its creation until it is dismissed. */
export interface JobHome {
  readonly environment: JobEnvironment;
  /** Throws CommandError unless `id` is well formed and free. */
  checkId(id: string): void;
  /** Adds a new job. */
  add(job: { readonly id: string }): void;
  /** Drops a dismissed job. */
  remove(job: { readonly id: string }): void;
  /** Runs a job's start or end, or another change of the graph; one at a time. */
  exclusively<T>(body: () => Promise<T>): Promise<T>;
}
