/**
 * Running a workload: an engine over the real clock or a virtual one, the disk, the workers in their order, and the document.
 *
 * Invariant: whatever goes wrong, there is a document, and it says what did.
 */
import { makeEngine } from "../../api/engine.ts";
import type { Node } from "../../api/node.ts";
import type { Answer } from "../../base/answer.ts";
import { AssertionError } from "../../base/assert.ts";
import { closing } from "../../base/lease.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import { RangeLock } from "../../base/ranges.ts";
import { onAbort } from "../../base/signals.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import type { Engine } from "../../machine/engine.ts";
import { DeviceBay } from "../device/driver.ts";
import { losesPower } from "../device/model.ts";
import type { JobPlan } from "../model/job.ts";
import { type Plan, WorkloadError, type WorkerPlan, writes } from "../model/plan.ts";
import { DiskMap } from "../stats/disk-map.ts";
import { steadyState } from "../stats/steady.ts";
import { Tally } from "../stats/tally.ts";
import { Timeline } from "../stats/timeline.ts";
import { Digest, diskDigest, hex } from "../stream/digest.ts";
import { type VirtualHost, asking, virtualHost } from "../time/host.ts";
import { type Pacer, realPacer, virtualPacer } from "../time/pace.ts";
import { type Resources, type ResultDocument, type ResultError, emptyDocument } from "./document.ts";
import { giveBackKernels, takeKernels } from "./idle-kernels.ts";
import { endsByTime, extentOf, mayCollide, neededBytes } from "./extents.ts";
import { Failures } from "./failures.ts";
import { throughPowerCuts } from "./power.ts";
import { Ledger } from "./ledger.ts";
import { type RunOptions, type Setting, settingOf } from "./setting.ts";
import { type Target, openTarget } from "./target.ts";
import { JobWorker } from "./job-worker.ts";
import { type RunContext, type Running, Worker } from "./worker.ts";

/** How long a run on the real clock goes on before it lets the platform's events through, ms. */
const BREATH_MS = 10;

/** A mutable document. */
type Draft = { -readonly [K in keyof ResultDocument]: ResultDocument[K] };

function resultError(error: unknown): ResultError {
  if (error instanceof WorkloadError) return { message: error.message, code: "INPUT" };
  if (error instanceof AssertionError) return { message: error.message };
  return { message: messageOf(error), code: errnoOf(error) };
}

/** Runs a workload. Resolves with the document, also of a run that failed or was cancelled by the signal. */
export async function runWorkload(plan: Plan, options: RunOptions): Promise<ResultDocument> {
  const document: Draft = emptyDocument({
    workload: plan.name,
    seed: options.seed ?? plan.wishes.seed ?? 1,
    clock: options.clock ?? plan.wishes.clock ?? "real",
    device: null,
  });
  document.ignored = plan.ignored;
  try {
    const setting = settingOf(plan, options);
    document.clock = setting.clock;
    document.device = setting.model?.name ?? null;
    document.deviceModel = setting.model?.source ?? null;
    // Of a model in the workload's file the plan knows.
    if (options.device !== undefined) document.ignored = [...plan.ignored, ...(setting.model?.ignored ?? [])];
    if (plan.workers.length === 0) throw new WorkloadError("the workload has no worker that does any I/O");
    await new WorkloadRun(setting, document).run();
    if (options.signal?.aborted && document.errors.length === 0)
      document.errors = [{ message: messageOf(options.signal.reason) }];
  } catch (error) {
    document.errors = [...document.errors, resultError(error)];
    document.status = options.signal?.aborted ? "cancelled" : "failed";
  }
  return document;
}

/** One run. */
class WorkloadRun {
  readonly #setting: Setting;
  readonly #document: Draft;
  readonly #virtual: VirtualHost | undefined;
  readonly #pacer: Pacer;
  readonly #bay: DeviceBay | undefined;
  readonly #engine: Engine;
  readonly #failures = new Failures();
  readonly #stop = new AbortController();
  readonly #timeline = new Timeline();
  readonly #notes: string[] = [];
  #map: DiskMap | undefined;
  readonly #ledger: Ledger | undefined;
  #target: Target | undefined;

  constructor(setting: Setting, document: Draft) {
    this.#setting = setting;
    this.#document = document;
    const { options, seed, clock, model } = setting;
    const { host, drivers, equals } = options.platform;
    this.#virtual = clock === "virtual" ? virtualHost(host, seed) : undefined;
    const own = this.#virtual ?? host;
    const gate = this.#virtual && options.gate ? asking(this.#virtual, options.gate) : options.gate;
    this.#pacer = this.#virtual ? virtualPacer(own.clock) : realPacer(own.clock);
    const bay = model && new DeviceBay({ model, seed, pacer: this.#pacer });
    this.#bay = bay;
    this.#engine = makeEngine(
      {
        host: own,
        drivers: bay ? drivers.map((type) => bay.wrap(type)) : drivers,
        ownKernels: takeKernels({ kernels: options.kernels, equals }),
      },
      gate ? { gate } : {},
    );
    this.#ledger = options.verify ? new Ledger(this.#engine.graph.kernels) : undefined;
  }

  /** Compares the final disk with what it must hold. */
  async #verify(ledger: Ledger, { backend }: Target): Promise<void> {
    const { unreadable } = await ledger.checkAll(backend);
    if (unreadable > 0) this.#notes.push(`${unreadable} sectors could not be read, and are not verified`);
    const { verified } = ledger;
    this.#document.verified = verified;
    if (verified.corrupt === 0) return;
    const [offset] = verified.first;
    const message = `${verified.corrupt} sectors hold what nobody wrote there, the first at ${offset ?? 0}`;
    this.#document.errors = [
      ...this.#document.errors,
      { message, code: "CORRUPT", ...(offset === undefined ? {} : { offset }) },
    ];
    this.#document.status = "failed";
  }

  async run(): Promise<void> {
    const whole = closing(
      () => this.#onDisk(),
      () => this.#close(),
    );
    await (this.#virtual ? this.#virtual.scheduler.settle(whole, {}) : whole);
  }

  async #close(): Promise<void> {
    await this.#engine.close();
    const { kernels, platform } = this.#setting.options;
    giveBackKernels({ kernels, equals: platform.equals }, this.#kernels);
  }

  async #onDisk(): Promise<void> {
    const target = await this.#open();
    this.#target = target;
    this.#document.target = target.told;
    this.#notes.push(...target.notes);
    if (this.#ledger) this.#ledger.isBlank = target.isBlank;
    await closing(
      () => this.#measure(target),
      () => this.#target!.backend.close(),
      () => this.#target!.node.close(),
    );
  }

  /** Opens the disk; again, after a power cut. */
  #open(before?: Target): Promise<Target> {
    const { plan, options, model } = this.#setting;
    const { wishes } = plan;
    return openTarget(
      this.#engine,
      {
        target: options.target ?? this.#ownTarget(),
        bytes: options.size ?? wishes.size ?? neededBytes(plan.workers),
        writes: plan.workers.some(writes),
        hasJobs: plan.workers.some(({ job }) => job !== undefined),
        overwrite: before !== undefined || (options.overwrite ?? false),
        direct: options.direct ?? wishes.direct ?? false,
        makes: options.makes ?? (plan.format === "fio" || plan.workers.some(writes)),
        outlives: model !== undefined && losesPower(model),
        ...(before ? { spec: before.spec } : {}),
      },
      options.platform.isMounted,
    );
  }

  /** The disk that the file names. Files of a job file are real ones, and take no part in a run in virtual time. */
  #ownTarget(): unknown {
    const { plan } = this.#setting;
    return this.#virtual && plan.format === "fio" ? undefined : plan.wishes.target;
  }

  async #measure(target: Target): Promise<void> {
    const { options, plan } = this.#setting;
    const forget = onAbort(options.signal, () => this.#stop.abort());
    const environment = this.#virtual ? undefined : options.platform.environment;
    const before = environment?.();
    const context = this.#context(target);
    const workers = plan.workers.map((each, index) => this.#worker(context, target, { plan: each, index }));
    if (this.#bay) this.#bay.isLive = true;
    await this.#runToEnd(workers, context);
    if (this.#bay) this.#bay.isLive = false;
    forget();
    this.#tell(workers, context.beginNs);
    this.#document.environment = environment?.(before) ?? null;
    if (this.#ledger) await this.#verify(this.#ledger, this.#target!);
    await this.#digest(workers, this.#target!);
  }

  #worker(
    context: RunContext,
    { told, node }: Target,
    { plan, index }: { plan: WorkerPlan; index: number },
  ): Running {
    const { job } = plan;
    if (!job) {
      const extent = extentOf(plan, told.length, (text) => this.#notes.push(text));
      return new Worker(context, { plan, index, extent });
    }
    const openTarget = (): Promise<Node> => this.#openJobTarget(job, told.length);
    return new JobWorker(context, { plan, job, nodes: { source: node, openTarget } });
  }

  /** The target of a job: what holds data is refused as it is for workers. */
  async #openJobTarget({ target }: JobPlan, bytes: number): Promise<Node> {
    const { options } = this.#setting;
    const opened = await openTarget(
      this.#engine,
      {
        target,
        bytes,
        writes: true,
        overwrite: options.overwrite ?? false,
        direct: options.direct ?? false,
        makes: true,
        outlives: false,
      },
      options.platform.isMounted,
    );
    await opened.backend.close();
    return opened.node;
  }

  /** Runs all workers, through the power cuts of the model. */
  async #runToEnd(workers: readonly Running[], context: RunContext): Promise<void> {
    const { model } = this.#setting;
    const bay = this.#bay;
    const over = this.#runAll(workers);
    if (!bay || !model || !losesPower(model)) return over;
    this.#document.powerCuts = await throughPowerCuts(
      { bay, model, pacer: this.#pacer, context, workers, reopen: () => this.#reopen(context) },
      over,
    );
  }

  /** The disk after a power cut: what was cached is gone, what is left is compared. */
  async #reopen(context: RunContext): Promise<void> {
    const before = this.#target!;
    // Caches of metadata can't be written any more.
    await before.backend.close().catch(() => undefined);
    await before.node.close().catch(() => undefined);
    this.#bay!.restorePower();
    this.#target = await this.#open(before);
    context.backend = this.#target.backend;
    this.#ledger?.cut();
    await this.#ledger?.checkAll(this.#target.backend);
  }

  #context({ backend }: Target): RunContext {
    const { plan, seed } = this.#setting;
    const breathe = this.#virtual ? undefined : this.#breather();
    return {
      backend,
      kernels: this.#kernels,
      pacer: this.#pacer,
      seed,
      lock: this.#ledger || mayCollide(plan.workers) ? new RangeLock() : undefined,
      ledger: this.#ledger,
      record: this.#setting.options.record,
      timeline: this.#timeline,
      map: (this.#map = new DiskMap(backend.length)),
      beginNs: this.#pacer.nowNs(),
      stop: this.#stop.signal,
      failed: (failure, isFatal) => {
        this.#failures.add(failure, isFatal);
        if (isFatal) this.#stop.abort();
      },
      ...(breathe ? { breathe } : {}),
    };
  }

  get #kernels(): Kernels {
    return this.#engine.graph.kernels;
  }

  /** Where requests are answered at once, nothing else would ever run. */
  #breather(): () => Answer<void> {
    const { clock } = this.#engine.graph.host;
    let lastMs = clock.nowMs();
    return () => {
      const now = clock.nowMs();
      if (now - lastMs < BREATH_MS) return undefined;
      lastMs = now;
      return clock.turn();
    };
  }

  /** All workers, each after those that it waits for. */
  async #runAll(workers: readonly Running[]): Promise<void> {
    const ends: Promise<void>[] = [];
    for (const worker of workers) {
      const before = worker.plan.after.flatMap((index) => ends[index] ?? []);
      ends.push(
        Promise.all(before).then(async () => {
          await worker.run();
          if (worker.plan.endsAll) this.#stop.abort();
        }),
      );
    }
    await Promise.all(ends);
  }

  #tell(workers: readonly Running[], beginNs: number): void {
    const document = this.#document;
    const { options, plan } = this.#setting;
    const endNs = Math.max(...workers.map((worker) => worker.endNs));
    const totals = new Tally();
    for (const worker of workers) totals.add(worker.tally);
    document.elapsedNs = endNs - beginNs;
    // The time in which nothing was counted yet takes no part in the rates.
    const uncountedNs = Math.min(...workers.map(({ plan: { warmupNs } }) => warmupNs));
    document.totals = totals.results(document.elapsedNs - uncountedNs);
    document.workers = workers.map((worker) => ({
      name: worker.plan.name,
      beginNs: worker.beginNs - beginNs,
      endNs: worker.endNs - beginNs,
      requests: worker.sent,
      endsByTime: endsByTime(plan.workers, worker.plan),
      digest: { requests: hex(worker.requests.value), data: hex(worker.data.value) },
      operations: worker.tally.results(worker.endNs - worker.beginNs - worker.plan.warmupNs),
      ...(worker.job ? { job: worker.job } : {}),
    }));
    const timeline = this.#timeline.toJSON();
    document.timeline = timeline;
    document.diskMap = this.#map?.toJSON() ?? null;
    document.steadyState = steadyState(timeline.requests, timeline.intervalNs) ?? null;
    document.devices = this.#bay?.counts ?? [];
    document.resources = this.#resources();
    document.notes = this.#notes;
    document.errors = this.#failures.errors;
    document.status = this.#failures.isFatal ? "failed" : options.signal?.aborted ? "cancelled" : "done";
  }

  #resources(): Resources {
    const { graph } = this.#engine;
    const caches = [...graph.nodes].map(({ driver }) => driver.cachePeakBytes?.() ?? 0);
    return {
      arenaPeakBytes: graph.arena.peak,
      cachePeakBytes: caches.reduce((sum, bytes) => sum + bytes, 0),
    };
  }

  async #digest(workers: readonly Running[], { backend }: Target): Promise<void> {
    const [requests, data] = [new Digest(this.#kernels), new Digest(this.#kernels)];
    for (const worker of workers) {
      requests.word(worker.requests.value);
      data.word(worker.data.value);
    }
    const digest = { requests: hex(requests.value), data: hex(data.value), disk: null };
    this.#document.digest = digest;
    const { digestDisk, signal } = this.#setting.options;
    // Whoever cancels a run waits for no disk to be read.
    if (digestDisk === false || signal?.aborted) return;
    try {
      const disk = await diskDigest(backend, this.#kernels, signal);
      this.#document.digest = { ...digest, disk: hex(disk) };
    } catch (error) {
      if (!signal?.aborted) throw error;
      this.#document.status = "cancelled";
    }
  }
}
