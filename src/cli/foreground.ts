/**
 * A job in the foreground: progress on stderr, events as JSON lines, SIGINT for a clean cancel, SIGUSR1 for a line of
 * progress, and a question (or a timer, or the end) when an error has stopped the job.
 *
 * Exit status: 0 done, 1 failed, 130 cancelled by SIGINT, 143 by SIGTERM. A second signal ends the program at once.
 */
import { createInterface } from "node:readline/promises";
import type { QmpEvent } from "../base/event-bus.ts";
import { strerror } from "../base/errno.ts";
import { errnoOf, firstFailure, messageOf } from "../base/errors.ts";
import { sleep } from "../base/sleep.ts";
import { fileGate } from "../block/model/gate.ts";
import { imageFilename } from "../block/model/filename.ts";
import { type BlockJob, type Engine, createEngine, nodeHost } from "../node.ts";
import { keepAlive } from "../platform/node/clock.ts";
import type { JobFlags } from "./options/flags.ts";
import { addObjects } from "./options/objects.ts";
import { type Display, ProgressBar, RateMeter, progressLine } from "./progress.ts";
import { isWatched } from "./terminal.ts";
import { formatBytes } from "./units.ts";
import { Refusal } from "./verb.ts";

const DRAW_MS = 100;
const JSON_MS = 1000;

/** Why a job was ended from this side. */
class GivenUp extends Error {}

/** What a verb works with. */
export class Session {
  readonly engine: Engine;
  readonly #flags: JobFlags;
  readonly #abort = new AbortController();
  readonly #display: Display;
  readonly #meter = new RateMeter();
  readonly #undo: (() => Promise<void>)[] = [];
  #signal: "SIGINT" | "SIGTERM" | undefined;
  #job: BlockJob | undefined;
  #deciding = false;
  #givenUp: string | undefined;

  constructor(flags: JobFlags, display?: Display) {
    const host = nodeHost();
    this.#flags = flags;
    this.#display = display ?? new ProgressBar(!flags.json && (flags.progress ?? isWatched()));
    this.engine = createEngine({ gate: fileGate(flags.gate, host) });
  }

  /** Aborts at SIGINT and SIGTERM. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Writes a note to stderr. */
  readonly note = (text: string): void => {
    this.#display.clear();
    process.stderr.write(`${text}\n`);
  };

  /** Runs when the verb fails or is cancelled, after everything is closed; the latest first. */
  onFailure(undo: () => Promise<void>): void {
    this.#undo.unshift(undo);
  }

  /** Follows a job to its end; a job that becomes ready is completed. Rejects unless it succeeds. */
  async follow(job: BlockJob): Promise<void> {
    this.#job = job;
    const timer = setInterval(() => this.#tick(), this.#flags.json ? JSON_MS : DRAW_MS);
    try {
      if (job.isReady) this.#complete();
      if (job.userPaused && job.ioStatus !== "ok") this.#stopped();
      this.#tick();
      await job.done;
      this.#tick();
      this.#display.finish();
    } catch (error) {
      throw this.#reasonOf(error, job);
    } finally {
      clearInterval(timer);
      this.#job = undefined;
      this.#display.finish();
    }
  }

  /** Carries out a verb; resolves with the exit status. */
  async run(body: () => Promise<void>): Promise<number> {
    const alive = keepAlive();
    const unsubscribe = this.engine.graph.events.subscribe((event) => this.#onEvent(event));
    const handlers = this.#installHandlers();
    // Whoever read the JSON lines has gone: the job ends as by SIGINT, and with it what it made.
    const deaf = (): void => this.#abort.abort(new Error("nobody reads stdout any more"));
    process.stdout.on("error", deaf);
    try {
      const status = await this.#attempt(body);
      return status;
    } finally {
      unsubscribe();
      for (const [name, handler] of handlers) process.off(name, handler);
      alive();
    }
  }

  async #attempt(body: () => Promise<void>): Promise<number> {
    const started = performance.now();
    let failure: unknown;
    let failed = false;
    const begin = (): Promise<void> => addObjects(this.engine, this.#flags.object).then(body);
    for (const step of [begin, () => this.engine.close()]) {
      try {
        await step();
      } catch (error) {
        failure ??= firstFailure(error);
        failed = true;
      }
    }
    if (!failed) {
      this.#json({ result: { seconds: Math.round(performance.now() - started) / 1000 } });
      return 0;
    }
    for (const undo of this.#undo) await undo();
    if (this.#signal) {
      this.note(`blockwright: cancelled by ${this.#signal}`);
      this.#json({ error: { class: "GenericError", desc: "Operation canceled", errno: "ECANCELED" } });
      return this.#signal === "SIGINT" ? 130 : 143;
    }
    for (const line of failure instanceof Refusal ? failure.lines : [messageOf(failure)])
      this.note(`blockwright: ${line}`);
    this.#json({ error: { class: "GenericError", desc: messageOf(failure), errno: errnoOf(failure) } });
    return 1;
  }

  #installHandlers(): [NodeJS.Signals, () => void][] {
    const end = (signal: "SIGINT" | "SIGTERM") => (): void => {
      if (this.#signal) process.exit(signal === "SIGINT" ? 130 : 143);
      this.#signal = signal;
      this.#abort.abort(new Error("cancelled"));
    };
    const show = (): void => {
      const line = this.#line();
      if (line) this.note(line);
    };
    const handlers: [NodeJS.Signals, () => void][] = [
      ["SIGINT", end("SIGINT")],
      ["SIGTERM", end("SIGTERM")],
      ["SIGUSR1", show],
    ];
    for (const [name, handler] of handlers) process.on(name, handler);
    return handlers;
  }

  #line(): string | undefined {
    return this.#job && progressLine(this.#job, this.#meter);
  }

  #tick(): void {
    const job = this.#job;
    if (!job) return;
    this.#meter.sample(job.offset);
    if (this.#flags.json) {
      const { status, offset, length, ioStatus } = job;
      const rate = Math.round(this.#meter.rate);
      this.#json({ progress: { status, "io-status": ioStatus, offset, length, "bytes-per-second": rate } });
    }
    if (!this.#deciding) this.#display.draw(job, this.#meter);
  }

  #json(value: object): void {
    if (this.#flags.json) process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  #onEvent({ event, data }: QmpEvent): void {
    const micros = this.engine.graph.host.clock.wallMicroseconds();
    const timestamp = { seconds: Math.floor(micros / 1_000_000), microseconds: micros % 1_000_000 };
    this.#json({ timestamp, event, data });
    if (!this.#job || data["device"] !== this.#job.id) return;
    if (event === "BLOCK_JOB_READY") this.#complete();
    else if (event === "BLOCK_JOB_ERROR" && data["action"] === "stop") this.#stopped();
  }

  #complete(): void {
    // After the event, as a client would.
    void this.engine.graph.host.clock.turn().then(async () => {
      if (this.#job?.isReady) await this.#job.complete().catch(() => undefined);
    });
  }

  /** An error has stopped the job. Further errors of requests that were under way are part of the same stop. */
  #stopped(): void {
    const job = this.#job;
    if (this.#deciding || !job) return;
    this.#deciding = true;
    void this.#decide(job).catch((error: unknown) => this.#giveUp(job, messageOf(error)));
  }

  async #decide(job: BlockJob): Promise<void> {
    await this.engine.graph.changes.until(() => job.paused || job.isCompleted);
    if (job.isCompleted) return;
    this.note(`${job.type} stopped: ${this.#describe(job)}`);
    this.#display.stopped?.(job, this.#meter);
    const resume = await this.#askWhetherToResume();
    if (job.isCompleted) return;
    this.#deciding = false;
    if (resume) job.resume();
  }

  async #askWhetherToResume(): Promise<boolean> {
    const job = this.#job;
    const { autoResume } = this.#flags;
    if (autoResume !== undefined) {
      this.note(`resuming in ${autoResume} s`);
      await sleep(this.engine.graph.host.clock, autoResume * 1000, this.signal);
      return true;
    }
    if (process.stdin.isTTY && process.stderr.isTTY) {
      if (await this.#prompt()) return true;
      if (job) this.#giveUp(job, "cancelled on request");
      return false;
    }
    if (job)
      this.#giveUp(
        job,
        "cancelled, for nobody can be asked: stdin is no terminal (--auto-resume SECONDS resumes)",
      );
    return false;
  }

  async #prompt(): Promise<boolean> {
    const { signal } = this;
    const terminal = createInterface({ input: process.stdin, output: process.stderr, signal });
    terminal.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
    terminal.setPrompt("[r]esume, [c]ancel? ");
    terminal.prompt();
    try {
      // Lines that were typed ahead count too; the end of the input is a no.
      for await (const line of terminal) {
        if (/^r(esume)?$/i.test(line.trim())) return true;
        if (/^c(ancel)?$/i.test(line.trim())) return false;
        terminal.prompt();
      }
      return false;
    } finally {
      terminal.close();
    }
  }

  #giveUp(job: BlockJob, why: string): void {
    this.#givenUp ??= why;
    void job.cancel({ force: true }).catch(() => undefined);
  }

  /** What failed, where and why. */
  #describe(job: BlockJob): string {
    const failure = job.lastFailure;
    if (!failure) return "an I/O error";
    const node = failure.node === undefined ? undefined : this.engine.graph.findNode(failure.node);
    const file = node ? imageFilename(node) : "";
    const where = failure.node === undefined ? "" : ` of node '${failure.node}'${file ? ` (${file})` : ""}`;
    const range =
      failure.offset === undefined
        ? ""
        : ` of ${formatBytes(failure.bytes ?? 0)} at offset ${failure.offset}`;
    return `${failure.operation}${range}${where} failed: ${strerror(failure.code)} (${failure.code})`;
  }

  /** The error to show for a job that failed. */
  #reasonOf(error: unknown, job: BlockJob): unknown {
    if (this.signal.aborted) return this.signal.reason;
    if (this.#givenUp !== undefined) return new GivenUp(`${job.type} ${this.#givenUp}`, { cause: error });
    const failure = job.lastFailure;
    if (failure?.action !== "report") return error;
    return new Error(`${job.type} failed: ${this.#describe(job)}`, { cause: error });
  }
}
