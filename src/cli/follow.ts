/**
 * Following a job in the foreground: progress on stderr, events as JSON lines on stdout, SIGUSR1 for a line of progress, and
 * a question (or a timer, or the end) when an error has stopped the job.
 */
import { createInterface } from "node:readline/promises";
import { strerror } from "../base/errno.ts";
import { errnoOf, messageOf } from "../base/errors.ts";
import { sleep } from "../base/sleep.ts";
import { imageFilename } from "../block/model/filename.ts";
import type { BlockJob, QmpEvent } from "../node.ts";
import type { JobFlags } from "./options/flags.ts";
import { type Display, ProgressBar, RateMeter, progressLine } from "./progress.ts";
import { type Outcome, Run, type View } from "./run.ts";
import { isWatched } from "./percent.ts";
import { formatBytes } from "./units.ts";

const DRAW_MS = 100;
const JSON_MS = 1000;

/** Why a job was ended from this side. */
class GivenUp extends Error {}

/** Carries out `body`, which may have jobs followed; resolves with the exit status. `display`: default a bar. */
export function runJobs(
  flags: JobFlags,
  body: (run: Run, jobs: JobFollower) => Promise<void>,
  display: Display = new ProgressBar(!flags.json && (flags.progress ?? isWatched())),
): Promise<number> {
  const jobs = new JobFollower(flags, display);
  return jobs.run.carryOut((run) => body(run, jobs));
}

/** Follows the jobs of a run, one at a time, and shows them. */
export class JobFollower implements View {
  readonly run: Run;
  readonly #flags: JobFlags;
  readonly #display: Display;
  readonly #meter = new RateMeter();
  readonly #started = performance.now();
  #job: BlockJob | undefined;
  #deciding = false;
  #givenUp: string | undefined;

  constructor(flags: JobFlags, display: Display) {
    this.#flags = flags;
    this.#display = display;
    this.run = new Run(flags, { view: this, io: "pool" });
  }

  clear(): void {
    this.#display.clear();
  }

  poke(): void {
    if (this.#job) this.run.tell(progressLine(this.#job, this.#meter));
  }

  event({ event, data }: QmpEvent): void {
    const micros = this.run.engine.graph.host.clock.wallMicroseconds();
    const timestamp = { seconds: Math.floor(micros / 1_000_000), microseconds: micros % 1_000_000 };
    this.#json({ timestamp, event, data });
    if (!this.#job || !("device" in data) || data.device !== this.#job.id) return;
    if (event === "BLOCK_JOB_READY") this.#complete();
    else if (event === "BLOCK_JOB_ERROR" && data["action"] === "stop") this.#stopped();
  }

  end(): void {
    // Each job ended its own line.
  }

  outcome({ status, failure, signal }: Outcome): void {
    if (status === 0) {
      this.#json({ result: { seconds: Math.round(performance.now() - this.#started) / 1000 } });
      return;
    }
    const [desc, errno] = signal
      ? ["Operation canceled", "ECANCELED"]
      : [messageOf(failure), errnoOf(failure)];
    this.#json({ error: { class: "GenericError", desc, errno } });
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

  #complete(): void {
    // After the event, as a client would.
    void this.run.engine.graph.host.clock.turn().then(async () => {
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
    await this.run.engine.graph.changes.until(() => job.paused || job.isCompleted);
    if (job.isCompleted) return;
    this.run.tell(`${job.type} stopped: ${this.#describe(job)}`);
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
      this.run.tell(`resuming in ${autoResume} s`);
      await sleep(this.run.engine.graph.host.clock, autoResume * 1000, this.run.signal);
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
    const { signal } = this.run;
    const terminal = createInterface({ input: process.stdin, output: process.stderr, signal });
    terminal.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
    terminal.setPrompt("[r]esume, [c]ancel? (a letter, then Enter) ");
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
    const node = failure.node === undefined ? undefined : this.run.engine.graph.findNode(failure.node);
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
    if (this.run.signal.aborted) return this.run.signal.reason;
    if (this.#givenUp !== undefined) return new GivenUp(`${job.type} ${this.#givenUp}`, { cause: error });
    const failure = job.lastFailure;
    if (failure?.action !== "report") return error;
    return new Error(`${job.type} failed: ${this.#describe(job)}`, { cause: error });
  }
}
