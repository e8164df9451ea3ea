/**
 * Going on without anybody: while it is switched on, the engine probes what an error has stopped, and lets jobs and the
 * machine run again when the probe succeeds.
 */
import { CommandError, type RemoteEngine } from "../browser.ts";

const PROBE_MS = 1500;
/** The machine's place among the jobs; no job has this id. */
const MACHINE = "";

/** Whether a job has ended before it could be told anything. */
export function isOver(error: unknown): boolean {
  return error instanceof CommandError && error.qmpClass === "DeviceNotActive";
}

/** The watches of one engine. */
export class Resumer {
  readonly #engine: RemoteEngine;
  readonly #onError: (error: unknown) => void;
  readonly #watched = new Set<string>();
  #off: AbortController | undefined;

  constructor(engine: RemoteEngine, onError: (error: unknown) => void) {
    this.#engine = engine;
    this.#onError = onError;
  }

  get isOn(): boolean {
    return this.#off !== undefined;
  }

  /** Switches it on or off. */
  set(isOn: boolean): void {
    this.#off?.abort();
    this.#off = isOn ? new AbortController() : undefined;
    this.#watched.clear();
  }

  /** Watches the machine and those of `jobs` that are not watched yet. */
  follow(jobs: readonly string[]): void {
    const off = this.#off;
    if (!off) return;
    for (const id of [MACHINE, ...jobs]) {
      if (this.#watched.has(id)) continue;
      this.#watched.add(id);
      this.#engine
        .autoResume({ probeMs: PROBE_MS, signal: off.signal, ...(id === MACHINE ? {} : { job: id }) })
        .catch((error: unknown) => off.signal.aborted || isOver(error) || this.#onError(error))
        .finally(() => this.#off === off && this.#watched.delete(id));
    }
  }
}
