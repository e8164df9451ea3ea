/**
 * Bringing the rest of an image in the background: a stream job that waits for what fails and goes on by itself, and that
 * leaves room for what the guest writes.
 *
 * Invariants: a user's pause is ended by nobody else; the job is looked at in steps, and only while it lives.
 */
import { sleep } from "../../base/sleep.ts";
import type { Host } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { JobCancelledError } from "../../job/core/job.ts";
import type { StreamJob } from "../../job/stream/stream.ts";
import { stream } from "../jobs.ts";
import type { Node } from "../node.ts";
import type { OpenGuestDiskOptions } from "./options.ts";
import type { GuestDiskCause, GuestDiskStatus } from "./status.ts";

const RESERVE_BYTES = 16 * MiB;
/** How often progress and room are looked at, ms. */
const STEP_MS = 500;

/** One filling. */
export class Fill {
  readonly #job: StreamJob;
  readonly #host: Host;
  readonly #reserveBytes: number;
  readonly #changed: () => void;
  readonly #over = new AbortController();
  #pausedByUser = false;
  #makesRoom = false;
  #end: "done" | "failed" | undefined;
  #failure: unknown;

  private constructor(job: StreamJob, node: Node, options: OpenGuestDiskOptions, changed: () => void) {
    this.#job = job;
    this.#host = node.engine.graph.host;
    this.#reserveBytes = options.reserveBytes ?? RESERVE_BYTES;
    this.#changed = changed;
    job.addEventListener("JOB_STATUS_CHANGE", changed);
    const end = (how: "done" | "failed") => (error: unknown) => {
      this.#end = how;
      this.#failure = how === "failed" ? error : undefined;
      this.#over.abort();
      changed();
    };
    job.done.then(end("done"), end("failed"));
    this.#watch().catch(() => undefined);
  }

  /** Begins it. `changed` is called whenever there is something new to tell. */
  static async start(node: Node, options: OpenGuestDiskOptions, changed: () => void): Promise<Fill> {
    const { host } = node.engine.graph;
    const reserve = options.reserveBytes ?? RESERVE_BYTES;
    const hasRoom = async (bytes: number): Promise<boolean> => {
      const room = await host.roomBytes?.();
      return room === undefined || room >= reserve + bytes;
    };
    const job = await stream(node, {
      jobId: `${options.device ?? "hda"}-fill`,
      onError: "stop",
      speedBytesPerSecond: options.fillSpeedBytesPerSecond,
      autoResume: { hasRoom, ...(options.probeMs === undefined ? {} : { probeMs: options.probeMs }) },
    });
    return new Fill(job, node, options, changed);
  }

  get state(): GuestDiskStatus["fill"] {
    if (this.#end) return this.#end;
    if (this.#pausedByUser) return "paused";
    return this.#makesRoom || this.#job.isPausedByError ? "waiting" : "running";
  }

  /** Bytes that it has looked at. */
  get doneBytes(): number {
    return this.#job.offset;
  }

  /** Why it waits or has failed. */
  get cause(): GuestDiskCause | undefined {
    const { lastFailure } = this.#job;
    if (this.state !== "failed" && !this.#job.isPausedByError) return undefined;
    if (!lastFailure) return undefined;
    const { operation, code, offset, bytes } = lastFailure;
    return { operation, code, offset, bytes, message: wordsOf(lastFailure.error ?? this.#failure) };
  }

  /** Pauses it until resume(). */
  pause(): void {
    if (this.#end || this.#pausedByUser) return;
    this.#pausedByUser = true;
    if (!this.#job.userPaused) this.#job.pause();
    this.#changed();
  }

  /** Lets it go on, also where an error has paused it. */
  resume(): void {
    this.#pausedByUser = false;
    this.#makesRoom = false;
    if (!this.#end && this.#job.userPaused) this.#job.resume();
    this.#changed();
  }

  /** Ends it, done or not. */
  async stop(): Promise<void> {
    this.#over.abort();
    if (!this.#end) await this.#job.cancel({ force: true });
    await this.#job.done.catch((error: unknown) => {
      if (!(error instanceof JobCancelledError)) return;
    });
  }

  async #watch(): Promise<void> {
    const { clock } = this.#host;
    for (let told = -1; ;) {
      await sleep(clock, STEP_MS, this.#over.signal);
      await this.#leaveRoom();
      if (this.#job.offset === told) continue;
      told = this.#job.offset;
      this.#changed();
    }
  }

  /** Pauses the job before it takes what the guest may need, and lets it go on when there is more. */
  async #leaveRoom(): Promise<void> {
    if (this.#reserveBytes === 0 || this.#pausedByUser || this.#job.isPausedByError) return;
    const room = await this.#host.roomBytes?.().catch(() => undefined);
    if (room === undefined || this.#end || this.#pausedByUser) return;
    const isShort = room < this.#reserveBytes;
    if (isShort === this.#makesRoom) return;
    this.#makesRoom = isShort;
    if (isShort && !this.#job.userPaused) this.#job.pause();
    if (!isShort && this.#job.userPaused) this.#job.resume();
    this.#changed();
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
