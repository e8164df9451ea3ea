/**
 * One story: a seed, a disk, a guest, a job, faults. run-story.ts runs it and has it judged.
 */
import { layers } from "../block/model/chain.ts";
import { messageOf } from "../base/errors.ts";
import { addBitmap } from "../block/bitmap/commands.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import type { Engine } from "../machine/engine.ts";
import type { Dice } from "./dice.ts";
import type { GraphDescription } from "./graph.ts";
import { Guest } from "./guest.ts";
import type { SimHost } from "./host.ts";
import type { Model } from "./model.ts";
import { type StoryPlan, rootOf } from "./plan.ts";
import { User, startJob } from "./user.ts";
import { Watch } from "./watch.ts";
import { World, makeEngine } from "./world.ts";

/** Virtual time within which every job must end once faults have ended, ms. */
const LIVENESS_MS = 60_000;

/** How a story ended. */
export interface StoryResult {
  seed: number;
  plan: StoryPlan;
  violations: string[];
  hash: string;
  trace: readonly string[];
  /** For coverage: the job's end, and what happened on the way. */
  outcome: string;
  jobErrors: number;
  faults: number;
  requests: number;
  /** Of the engine to its files. */
  fileRequests: number;
  /** Reads and writes of files that were done at once. */
  atOnce: number;
  steps: number;
  /** What makes the story: requests, acts of the user, faults, the job, the power cut. */
  told: number;
  /** What its user did at random. */
  acts: number;
  powerCuts: number;
}

/** How a story is run, and ways to break an engine on purpose, to see that stories notice. */
export interface StoryOptions {
  /** Every request to a file stands in the trace. */
  keepIo?: boolean;
  /** Has rejections that nobody handles told, until the returned function is called; default: they are the platform's. */
  watchRejections?: (see: (reason: unknown) => void) => () => void;
  /** Called when the images are open, before the guest. */
  sabotage?: (engine: Engine, plan: StoryPlan) => void;
  /** The graph that stories are on; default: each draws its own. */
  graph?: GraphDescription;
  /** The story, as a seed told it or as it was made smaller; default: the seed's. */
  plan?: StoryPlan;
  /** Changes the plan. */
  adjust?: (plan: StoryPlan) => void;
}

/** An error with its causes, for people. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncause: ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

/** What is running in one story. */
export class Story {
  readonly host: SimHost;
  readonly plan: StoryPlan;
  readonly world: World;
  readonly watch: Watch;
  readonly violations: string[] = [];
  engine!: Engine;
  guest!: Guest;
  user!: User;
  job: BlockJob | undefined;
  /** The error with which the job ended. */
  jobError: unknown;
  /** What the disk showed when the job was created. */
  atStart: Model | undefined;
  /** What the disk showed when the mirror's loop was over. */
  atEnd: Model | undefined;
  /** Where the guest changed the disk while a backup ran. */
  readonly changes: { offset: number; bytes: number }[] = [];
  startError: unknown;
  readonly #dice: Dice;
  #outcome = "not started";
  #unsubscribe: (() => void) | undefined;
  /** The image that was the guest's disk when the power was cut. */
  cutRoot: string | undefined;

  constructor(host: SimHost, plan: StoryPlan, dice: Dice) {
    this.host = host;
    this.plan = plan;
    this.#dice = dice;
    this.world = new World(host, plan, dice.fork());
    this.watch = new Watch(plan, host.trace, host.files.injected);
  }

  async run(options: StoryOptions): Promise<void> {
    await this.#setUp(options);
    if (this.plan.cutMs === 0) return this.#play();
    this.host.files.expectCut();
    this.#play().catch((error: unknown) => {
      if (this.cutRoot === undefined) this.violations.push(describe(error));
    });
    await this.host.scheduler.sleep(this.plan.cutMs);
    this.#cut();
  }

  /** Everything stops where it is; what was not flushed may be lost. */
  #cut(): void {
    const { host, guest } = this;
    const root = [...layers(guest.device.backend.node!)].find(({ name }) => this.#images.has(name));
    this.cutRoot = root?.name ?? "nothing";
    this.#outcome = "power cut";
    this.#unsubscribe?.();
    guest.freeze();
    this.user.freeze();
    host.scheduler.forget();
    host.files.cut();
    host.trace.add(`power cut, the disk is ${this.cutRoot}, the job is ${this.job?.status ?? "not there"}`);
  }

  get #images(): ReadonlySet<string> {
    const { chain, target } = this.plan;
    return new Set([...chain, ...(target ? [target] : [])].map(({ name }) => name));
  }

  result(): StoryResult {
    const { plan, host, watch } = this;
    const all = [
      this.violations,
      watch.violations,
      this.guest?.violations,
      this.user?.violations,
      host.files.misuse,
    ];
    return {
      seed: plan.seed,
      plan,
      violations: all.flatMap((list) => list ?? []),
      hash: host.trace.hash,
      trace: host.trace.lines,
      outcome: this.#outcome,
      jobErrors: watch.errors,
      faults: [...host.files.injected.values()].reduce((sum, count) => sum + count, 0),
      requests: this.guest?.requests ?? 0,
      fileRequests: host.files.requests,
      atOnce: host.files.atOnce,
      steps: host.scheduler.steps,
      told: this.#told(),
      acts: this.user?.acts ?? 0,
      powerCuts: this.cutRoot === undefined ? 0 : 1,
    };
  }

  #told(): number {
    const { plan, guest, user } = this;
    const cut = plan.cutMs > 0 ? 1 : 0;
    return 1 + cut + plan.faults.length + plan.space.length + (guest?.requests ?? 0) + (user?.acts ?? 0);
  }

  async #setUp({ sabotage }: StoryOptions): Promise<void> {
    const { host, plan, world } = this;
    const { files, scheduler } = host;
    await world.create();
    files.latency = plan.latency;
    files.alignment = plan.alignment;
    files.notNowOneIn = plan.notNowOneIn;
    const engine = makeEngine(host, plan.arenaBytes);
    this.engine = engine;
    await world.open(engine);
    sabotage?.(engine, plan);
    this.#unsubscribe = engine.graph.events.subscribe(this.watch.see);
    const model = world.top.copy();
    const node = engine.graph.node(rootOf(plan.chain.at(-1)!));
    const guest = await Guest.plug({
      machine: engine.machine,
      node,
      model,
      host,
      dice: this.#dice.fork(),
      plan: plan.guest,
    });
    this.guest = guest.spy();
    this.user = new User({ engine, host, plan, dice: this.#dice.fork() });
    const now = scheduler.nowMs;
    files.faults = plan.faults.map((rule) => ({ ...rule, fromMs: rule.fromMs + now, toMs: rule.toMs + now }));
    for (const { path, bytes } of plan.space) {
      const data = files.contents.get(path);
      if (data) data.limit = data.pages * 4096 + bytes;
    }
    if (plan.job.sync === "incremental") addBitmap(engine.graph, { node: node.name, name: "bitmap" });
  }

  async #play(): Promise<void> {
    const { host, plan, guest } = this;
    const { scheduler } = host;
    const calm = scheduler.nowMs + plan.calmMs;
    const late = plan.job.kind === "mirror" && plan.job.sync === "none";
    if (!late) guest.start();
    await scheduler.sleep(plan.job.startMs);
    await this.#start();
    if (late) guest.start();
    const acts = this.#act(calm);
    await scheduler.sleep(Math.max(0, calm - scheduler.nowMs));
    await this.#calm(acts);
  }

  async #start(): Promise<void> {
    const { host, plan, engine, watch, guest } = this;
    watch.onStatus = (status) => {
      if (status === "created") this.atStart = guest.model.copy();
      if (status === "waiting") this.atEnd = guest.model.copy();
    };
    guest.onChange = (range) => {
      if (this.atStart) this.changes.push(range);
    };
    this.user.onCancel = () => {
      guest.onChange = undefined;
    };
    try {
      host.trace.add(`start ${plan.job.kind}`);
      const job = await startJob(engine, plan);
      this.job = job;
      watch.job = job;
      job.done.then(
        () => {
          this.#outcome = job.cancelRequested ? "cancelled softly" : "completed";
        },
        (error: unknown) => {
          this.jobError = error;
          this.#outcome = job.isCancelled ? "cancelled" : "failed";
        },
      );
    } catch (error) {
      this.startError = error;
      this.#outcome = "refused";
      host.trace.add(`start refused: ${messageOf(error)}`);
      if (host.files.injected.size === 0) this.violations.push(`the job did not start: ${describe(error)}`);
    }
  }

  get over(): boolean {
    const { job } = this;
    return !job || job.status === "null";
  }

  async #act(untilMs: number): Promise<void> {
    const { host, plan, user, job } = this;
    if (plan.userMs === 0 || !job) return;
    for (;;) {
      await host.scheduler.sleep(this.#dice.fraction() * 2 * plan.userMs);
      if (host.scheduler.nowMs >= untilMs || this.over) return;
      if (user.acts >= (plan.mostActs ?? Infinity)) return;
      await user.act(job);
    }
  }

  /** Faults end; the guest comes to rest; the user helps until the job is over. */
  async #calm(acts: Promise<void>): Promise<void> {
    const { host, user, guest, engine } = this;
    host.files.faults = [];
    for (const data of host.files.contents.values()) data.limit = Number.POSITIVE_INFINITY;
    host.trace.add("calm");
    let resting = false;
    const rest = Promise.all([guest.stop(), acts]).then(() => {
      resting = true;
    });
    const endMs = host.scheduler.nowMs + LIVENESS_MS;
    while (!this.over || !resting) {
      if (host.scheduler.nowMs > endMs) throw new Error(`stuck: ${this.#whereabouts(resting)}`);
      if (this.job) await this.#atMost(1000, user.help(this.job));
      else if (!engine.machine.isRunning) await engine.machine.cont();
      await host.scheduler.sleep(50);
    }
    await rest;
    if (!engine.machine.isRunning) await engine.machine.cont();
  }

  /** Waits for `body`, which may itself wait for what only later help brings about. */
  async #atMost(delayMs: number, body: Promise<void>): Promise<void> {
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = this.host.scheduler.after(delayMs, resolve);
    });
    await Promise.race([body, late]);
    cancel();
  }

  #whereabouts(resting: boolean): string {
    const { job, engine } = this;
    const busy = engine.graph.nodes
      .filter((node) => node.inFlight > 0 || node.quiesceCounter > 0)
      .map((node) => `${node.name}: ${node.inFlight} in flight, drained ${node.quiesceCounter}`);
    const state = job
      ? `job ${job.status}, busy ${job.busy}, pauses ${job.pauseCount}, io-status ${job.ioStatus}`
      : "";
    const arena = `arena ${engine.graph.arena.inUse} used, ${engine.graph.arena.waiting} wait`;
    return [state, resting ? "" : "the guest waits", engine.machine.state, ...busy, arena]
      .filter(Boolean)
      .join("; ");
  }
}
