// A job without nodes, driven by the test, over a virtual clock; and the engine around it.
import { EventBus } from "../../../src/base/event-bus.ts";
import { type Deferred, Wakeup, deferred } from "../../../src/base/signals.ts";
import { JobRegistry } from "../../../src/job/core/registry.ts";
import { type JobAnnouncement, Job, type JobOptions } from "../../../src/job/core/job.ts";
import type { QmpEvent } from "../../../src/wire/qapi/index.ts";
import { VirtualClock } from "../support/virtual-host.ts";

const announced = {
  ready: "BLOCK_JOB_READY",
  completed: "BLOCK_JOB_COMPLETED",
  cancelled: "BLOCK_JOB_CANCELLED",
} as const;

/** Clock, events and jobs of a test. */
export class Engine {
  readonly clock = new VirtualClock();
  readonly events = new EventBus<QmpEvent>();
  readonly changes = new Wakeup();
  readonly registry = new JobRegistry({ clock: this.clock, events: this.events, changes: this.changes });
  /** `id:status`, or the event's name with its device or id. */
  readonly log: string[] = [];

  constructor() {
    this.events.subscribe(({ event, data }) => {
      if (event === "JOB_STATUS_CHANGE") this.log.push(`${data.id}:${data.status}`);
      else this.log.push(event);
    });
  }

  /** A job of this engine. */
  job(id: string, options: Partial<JobOptions> = {}): FakeJob {
    return new FakeJob({ id, type: "mirror", registry: this.registry, ...options });
  }

  /** Takes the log. */
  take(): string[] {
    return this.log.splice(0);
  }
}

/** What the fake job's code does next; each is awaited in turn. */
export type Step = (job: FakeJob) => Promise<void> | void;

/** Runs steps that the test hands to it, then ends. */
export class FakeJob extends Job {
  /** Hooks in the order of their calls. */
  readonly calls: string[] = [];
  soft = false;
  prepareError: Error | undefined;
  commitError: Error | undefined;
  pauseWait: Promise<void> | undefined;
  readonly #steps: Step[] = [];
  #more: Deferred<void> | undefined;
  #closed = false;

  /** Adds a step; `end()` lets the code return after the last one. */
  step(step: Step): this {
    this.#steps.push(step);
    this.#more?.resolve();
    return this;
  }

  /** The code returns after its steps. */
  end(): this {
    this.#closed = true;
    this.#more?.resolve();
    return this;
  }

  protected override async run(): Promise<void> {
    for (;;) {
      const step = this.#steps.shift();
      if (step) await step(this);
      else if (this.#closed) return;
      else {
        this.#more = deferred();
        await this.#more.promise;
      }
    }
  }

  protected override prepare(): Promise<void> {
    this.calls.push("prepare");
    return this.prepareError ? Promise.reject(this.prepareError) : Promise.resolve();
  }

  protected override commit(): void {
    this.calls.push("commit");
    if (this.commitError) throw this.commitError;
  }

  protected override abort(): void {
    this.calls.push("abort");
  }

  protected override clean(): void {
    this.calls.push("clean");
  }

  protected override release(): void {
    this.calls.push("release");
  }

  protected override completeHook(): void {
    this.calls.push("complete");
    this.end();
    this.enter();
  }

  protected override cancelHook(force: boolean): boolean {
    return force || !this.soft || !this.isReady;
  }

  protected override pauseHook(): Promise<void> | void {
    this.calls.push("pause");
    return this.pauseWait;
  }

  protected override resumeHook(): void {
    this.calls.push("resume");
  }

  protected override userResumeHook(): void {
    this.calls.push("userResume");
  }

  protected override announce(what: JobAnnouncement): void {
    if (what === "pending") return this.publish("BLOCK_JOB_PENDING", { id: this.id, type: this.type });
    const data = { device: this.id, type: this.type, len: 0, offset: 0, speed: 0 };
    this.publish(announced[what], data);
  }

  // What a real job does inside.

  pausing(): Promise<void> {
    return this.pausePoint();
  }

  sleeping(ms: number): Promise<void> {
    return this.sleep(ms);
  }

  yielding(): Promise<void> {
    return this.yieldUntilEntered();
  }

  ready(): void {
    this.transitionToReady();
  }

  wake(): void {
    this.wakeSleep();
  }
}
