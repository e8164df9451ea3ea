/**
 * Going on by itself after an error: a job that paused, or a machine that stopped, is let run again when a probe of what
 * failed succeeds. What the network or the storage says of itself is not trusted: `navigator.onLine` stays true when a
 * server dies.
 *
 * Invariants: at most one probe of one watch is under way; nothing is resumed that its user paused, or that was resumed
 * meanwhile; no timer waits unless something stands still because of an error.
 */
import { blockError } from "../base/errors.ts";
import type { Errno } from "../base/errno.ts";
import { onAbort } from "../base/signals.ts";
import { sleep } from "../base/sleep.ts";
import { BlockBackend, readerPermissions } from "../block/graph/backend.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import type { Engine } from "../machine/engine.ts";
import { callOptions, checkArgument, optionsOf } from "./options.ts";

const PROBE_MS = 5000;
/** Most bytes that a probe reads. */
const PROBE_BYTES = 64 * 1024;

/** How it is probed. */
export interface AutoResumeOptions {
  /** Milliseconds before each probe; default 5000. */
  probeMs?: number | undefined;
  /** For a full disk: whether there is room for so many bytes again. Default: trying it is the probe. */
  hasRoom?: ((bytes: number) => Promise<boolean>) | undefined;
  /** Ends the watch. */
  signal?: AbortSignal | undefined;
}

const checkOptions = optionsOf<AutoResumeOptions>({ ...callOptions, probeMs: "number", hasRoom: "Function" });

/** What failed. */
interface Failure {
  operation: "read" | "write";
  code: Errno;
  node: BlockNode | undefined;
  offset: number | undefined;
  bytes: number | undefined;
}

/** Throws EINVAL for a time that is none, CommandError for options that are none. */
export function checkAutoResume(options: AutoResumeOptions): void {
  checkOptions(options);
  const { probeMs = PROBE_MS } = options;
  if (Number.isFinite(probeMs) && probeMs > 0) return;
  const message = `probeMs expects a positive number of milliseconds, not ${probeMs}`;
  throw blockError("EINVAL", "auto-resume", message);
}

/** Something that stands still because of an error. */
interface Standing {
  graph: BlockGraph;
  /** It still does. */
  stands(): boolean;
  failures(): Failure[];
  goOn(): Promise<void> | void;
}

/**
 * Resumes `job` whenever an error has paused it and a probe of what failed succeeds: a read of the failed range, or room
 * for a write. A job's option `autoResume` does the same. Ends with the job. A pause that is probed keeps a Node process
 * alive. Throws EINVAL for a bad `probeMs`.
 */
export function autoResume(job: BlockJob, options: AutoResumeOptions = {}): void {
  checkAutoResume(options);
  checkArgument("job", job, "BlockJob");
  const { graph } = job;
  // Not by its io-status: that is cleared by the machine's cont, which leaves the job paused.
  const stands = (): boolean => job.isPausedByError && job.paused;
  const failures = (): Failure[] => {
    const last = job.lastFailure;
    if (!last) return [];
    return [{ ...last, node: last.node === undefined ? undefined : graph.findNode(last.node) }];
  };
  const over = new AbortController();
  const end = (): void => over.abort();
  const forget = onAbort(options.signal, end);
  const leave = (): void => {
    forget();
    end();
  };
  job.ended.then(leave, leave);
  if (options.signal?.aborted) return leave();
  const watch = new Watch({ graph, stands, failures, goOn: () => job.resume() }, options, over.signal);
  job.addEventListener("JOB_STATUS_CHANGE", () => watch.look());
  watch.look();
}

/**
 * Lets the engine's machine go on (`cont`) whenever an error of a guest's disk has stopped it and a probe succeeds. A
 * request that only missed its deadline is waited for. Ends when `signal` aborts. Throws EINVAL for a bad `probeMs`.
 */
export function autoCont(engine: Engine, options: AutoResumeOptions = {}): void {
  checkAutoResume(options);
  checkArgument("engine", engine, "Engine");
  const { graph, machine } = engine;
  const failures = (): Failure[] =>
    [...machine.devices.values()].flatMap(({ ioStatus, lastFailure, backend }) =>
      ioStatus === "ok" || !lastFailure ? [] : [{ ...lastFailure, node: backend.node }],
    );
  const over = new AbortController();
  const stands = (): boolean => machine.state === "io-error" && machine.devices.size > 0;
  const watch = new Watch({ graph, stands, failures, goOn: () => machine.cont() }, options, over.signal);
  const unwatch = machine.watch((running) => (running ? undefined : watch.look()));
  const end = (): void => {
    unwatch();
    over.abort();
  };
  onAbort(options.signal, end);
  if (options.signal?.aborted) return end();
  watch.look();
}

/** Probes as long as something stands still. */
class Watch {
  readonly #standing: Standing;
  readonly #options: AutoResumeOptions;
  readonly #over: AbortSignal;
  #busy = false;

  constructor(standing: Standing, options: AutoResumeOptions, over: AbortSignal) {
    this.#standing = standing;
    this.#options = options;
    this.#over = over;
  }

  /** Something may have come to stand. A probe that throws has not succeeded: the next one follows. */
  look(): void {
    if (this.#busy || this.#over.aborted) return;
    this.#busy = true;
    // The event of a pause is sent within the pause: what it tells is complete a moment later.
    void Promise.resolve()
      .then(() => this.#probeUntilItRuns())
      .catch(() => undefined)
      .finally(() => {
        this.#busy = false;
        // It may have come to stand again since the last look.
        if (this.#standing.stands()) this.look();
      });
  }

  async #probeUntilItRuns(): Promise<void> {
    const { graph } = this.#standing;
    while (this.#standing.stands() && !this.#over.aborted) {
      await sleep(graph.host.clock, this.#options.probeMs ?? PROBE_MS, this.#over);
      if (!this.#standing.stands() || !(await this.#passes())) continue;
      // A user may have been faster while the probe went on.
      if (this.#standing.stands() && !this.#over.aborted) await this.#standing.goOn();
      await graph.host.clock.turn();
    }
  }

  async #passes(): Promise<boolean> {
    for (const failure of this.#standing.failures()) {
      if (failure.code === "ENOSPC") {
        if (this.#options.hasRoom && !(await this.#options.hasRoom(failure.bytes ?? 0))) return false;
      } else if (failure.operation === "read" && !(await canRead(this.#standing.graph, failure))) {
        return false;
      }
    }
    return true;
  }
}

/** Whether the start of the failed range can be read now; true where that cannot be found out. */
async function canRead(graph: BlockGraph, { node, offset, bytes }: Failure): Promise<boolean> {
  if (!node?.isOpen || offset === undefined || bytes === undefined) return true;
  const length = Math.min(bytes, PROBE_BYTES, node.length - offset);
  if (length <= 0) return true;
  const backend = new BlockBackend(graph);
  try {
    await backend.attach(node, readerPermissions);
  } catch {
    await backend.close();
    return true;
  }
  try {
    await backend.pread(offset, new Uint8Array(length));
    return true;
  } catch {
    return false;
  } finally {
    await backend.close();
  }
}
