/**
 * The user of a story: starts the job, pauses, resumes, changes its speed, cancels, stops and continues the machine at
 * random; when the faults are over, helps everything to its end.
 */
import { CommandError } from "../base/errors.ts";
import { drained } from "../block/model/drain.ts";
import { startBackup } from "../job/backup/backup.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import { startCommit } from "../job/commit/commit.ts";
import { type JobVerb, acceptsVerb } from "../job/core/verbs.ts";
import { startMirror } from "../job/mirror/mirror.ts";
import { startStream } from "../job/stream/stream.ts";
import type { Engine } from "../machine/engine.ts";
import type { Dice } from "./dice.ts";
import type { SimHost } from "./host.ts";
import { type JobPlan, type StoryPlan, rootOf } from "./plan.ts";

/** Starts the job of a plan on `drive`. */
export async function startJob(engine: Engine, plan: StoryPlan): Promise<BlockJob> {
  const { graph } = engine;
  const { job, chain } = plan;
  const common = {
    "job-id": "job",
    speed: job.speed,
    "auto-finalize": job.autoFinalize,
    "auto-dismiss": job.autoDismiss,
  };
  const nameOf = (layer: number): string => chain[layer]!.name;
  if (job.kind === "stream") {
    const base = job.base < 0 ? {} : { "base-node": nameOf(job.base) };
    return startStream(graph, { ...common, ...base, device: nameOf(job.top), "on-error": job.onSourceError });
  }
  if (job.kind === "commit" || job.kind === "active-commit") {
    const top = job.kind === "commit" ? { "top-node": nameOf(job.top) } : {};
    const base = { "base-node": nameOf(job.base) };
    return startCommit(graph, { ...common, ...top, ...base, device: "drive", "on-error": job.onSourceError });
  }
  const policies = { "on-source-error": job.onSourceError, "on-target-error": job.onTargetError };
  const copy = { ...common, ...policies, device: "drive", target: rootOf(plan.target!) };
  return job.kind === "mirror"
    ? startMirror(graph, { ...copy, ...mirrorArguments(job) })
    : startBackup(graph, { ...copy, ...backupArguments(job) });
}

function mirrorArguments(job: JobPlan): { sync: "full" | "top" | "none" } & Record<string, unknown> {
  return {
    sync: job.sync as "full" | "top" | "none",
    "copy-mode": job.writeBlocking ? "write-blocking" : "background",
    ...(job.granularity ? { granularity: job.granularity } : {}),
    ...(job.bufBytes ? { "buf-size": job.bufBytes } : {}),
  };
}

function backupArguments(job: JobPlan): { sync: JobPlan["sync"] } & Record<string, unknown> {
  return {
    sync: job.sync,
    ...(job.sync === "incremental" ? { bitmap: "bitmap" } : {}),
    "x-perf": { "max-workers": job.maxWorkers, ...(job.maxChunk ? { "max-chunk": job.maxChunk } : {}) },
  };
}

/** What the user of one story does. */
export class User {
  readonly violations: string[] = [];
  /** The user asked for completion, or a cancel of any kind. */
  completed = false;
  cancelled = false;
  /** Told before a cancel is asked for. */
  onCancel: (() => void) | undefined;
  /** Acts at random so far. */
  acts = 0;
  #dismissed = false;
  #frozen = false;
  readonly #engine: Engine;
  readonly #host: SimHost;
  readonly #plan: StoryPlan;
  readonly #dice: Dice;

  constructor(init: { engine: Engine; host: SimHost; plan: StoryPlan; dice: Dice }) {
    this.#engine = init.engine;
    this.#host = init.host;
    this.#plan = init.plan;
    this.#dice = init.dice;
  }

  /** Says nothing more. */
  freeze(): void {
    this.#frozen = true;
  }

  /** One act at random. */
  async act(job: BlockJob): Promise<void> {
    this.acts += 1;
    const dice = this.#dice;
    const { machine, graph } = this.#engine;
    const choice = dice.below(this.#plan.mayCancel ? 13 : 12);
    if (choice <= 1)
      await this.#verb(
        job,
        "pause",
        () => job.pause(),
        () => job.userPaused,
      );
    else if (choice <= 4)
      await this.#verb(
        job,
        "resume",
        () => job.resume(),
        () => !job.userPaused,
      );
    else if (choice <= 6) {
      const speed = dice.pick([0, 64 * 1024, 2 ** 20, 2 ** 24]);
      await this.#verb(job, "set-speed", () => job.setSpeed(speed));
    } else if (choice === 7) await this.#note("stop", () => machine.stop());
    else if (choice === 8) await this.#note("cont", () => machine.cont());
    else if (choice === 9) await this.#note("drain", () => drained(graph.nodes, () => undefined));
    else if (choice === 10) await this.#end(job);
    else if (choice === 11) await this.#helpOver(job);
    else await this.#cancel(job, true);
  }

  /** Whatever keeps the story from its end: a pause, a stopped machine, a job that waits for a word. */
  async help(job: BlockJob): Promise<void> {
    const { machine } = this.#engine;
    if (!machine.isRunning) await this.#note("cont", () => machine.cont());
    if (job.userPaused && acceptsVerb(job.status, "resume"))
      await this.#verb(
        job,
        "resume",
        () => job.resume(),
        () => !job.userPaused,
      );
    if (job.speed > 0 && acceptsVerb(job.status, "set-speed"))
      await this.#verb(job, "set-speed", () => job.setSpeed(0));
    await this.#end(job);
    await this.#helpOver(job);
  }

  /** Completes or cancels a job that goes on until told so. */
  async #end(job: BlockJob): Promise<void> {
    const { kind, sync, ending } = this.#plan.job;
    if (kind === "backup" && sync === "none") return this.#cancel(job, true);
    if (!job.isReady || this.completed || this.cancelled) return;
    if (ending === "cancel") return this.#cancel(job, false);
    this.completed = true;
    await this.#verb(job, "complete", () => job.complete());
  }

  /** Finalizes and dismisses. */
  async #helpOver(job: BlockJob): Promise<void> {
    if (job.transaction.settling) return;
    if (job.status === "pending" && !job.autoFinalize)
      await this.#verb(job, "finalize", () => job.finalize());
    else if (job.status === "concluded" && !job.autoDismiss && !this.#dismissed) {
      this.#dismissed = true;
      await this.#verb(job, "dismiss", () => job.dismiss());
    }
  }

  async #cancel(job: BlockJob, force: boolean): Promise<void> {
    if (!acceptsVerb(job.status, "cancel") || job.transaction.settling) return;
    this.onCancel?.();
    this.cancelled = true;
    await this.#verb(job, "cancel", () => job.cancel({ force }));
  }

  /** Asks for a verb, which must be refused where `refused` says so or the job's state does not accept it. */
  async #verb(
    job: BlockJob,
    verb: JobVerb,
    body: () => Promise<void> | void,
    refused: () => boolean = () => false,
  ): Promise<void> {
    await this.#engine.jobs.settled();
    const legal = acceptsVerb(job.status, verb) && !refused();
    this.#host.trace.add(`user ${verb} in ${job.status}`);
    try {
      await body();
      if (!legal) this.#bad(`${verb} was accepted in ${job.status}`);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#host.trace.add(`user ${verb} refused: ${message}`);
      if (!(error instanceof CommandError)) this.#bad(`${verb} failed: ${message}`);
      else if (legal && !/cannot be completed/.test(message)) this.#bad(`${verb} was refused: ${message}`);
    }
  }

  #bad(text: string): void {
    if (!this.#frozen) this.violations.push(text);
  }

  async #note(what: string, body: () => Promise<void>): Promise<void> {
    this.#host.trace.add(`user ${what}`);
    await body();
    this.#host.trace.add(`user ${what}: done`);
  }
}
