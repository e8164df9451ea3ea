// A fleet in virtual time: the shipping scheduler, its limits on transfers, and copies that take what their bytes take. Workers die in the
// middle (another goes on from the last checkpoint once the lease is over), stores fail for a while, some images can't be copied at all.
import type { Clock } from "../../src/base/host.ts";
import { Heap } from "../../src/fleet/heap.ts";
import type { FleetJob } from "../../src/fleet/jobs.ts";
import { LocalQueue } from "../../src/fleet/local-queue.ts";
import type { Delivery, Outcome } from "../../src/fleet/queue.ts";
import { TransferSlots } from "../../src/fleet/slots.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const RATE = (200 * MiB) / 1000;
const LEASE_MS = 30_000;
const STEP = 16 * MiB;
/** How long a worker lives in the mean, while it copies. */
const LIFE_MS = 3_600_000;
/** Opening, fences, publication. */
const FIXED_MS = 400;

/** How large the fleet is; `perStore`: disks that transfer to one store at once. */
export interface FleetSize {
  readonly images: number;
  readonly workers: number;
  readonly stores: number;
  readonly perStore: number;
  readonly seed: number;
}

/** What it came to. Times are virtual but for `cpuMs`. */
export interface FleetTold {
  done: number;
  failed: number;
  published: number;
  poison: number;
  deaths: number;
  refusals: number;
  mostAtStore: number;
  dataBytes: number;
  movedBytes: number;
  tookMs: number;
  leastMs: number;
  longestMs: number;
  cpuMs: number;
}

class HeapClock implements Clock {
  #now = 0;
  #count = 0;
  readonly #timers = new Heap<{ at: number; order: number; callback: (() => void) | undefined }>(
    (a, b) => a.at - b.at || a.order - b.order,
  );
  nowMs = (): number => this.#now;
  wallMicroseconds = (): number => this.#now * 1000;
  turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  timer = (delayMs: number, callback: () => void): (() => void) => {
    const timer = {
      at: this.#now + delayMs,
      order: this.#count++,
      callback: callback as (() => void) | undefined,
    };
    this.#timers.push(timer);
    return () => void (timer.callback = undefined);
  };
  sleep = (delayMs: number): Promise<void> => new Promise((resolve) => this.timer(delayMs, resolve));
  /** Fires all timers of the next moment; false: there are none. */
  step(): boolean {
    const next = this.#timers.pop();
    if (!next) return false;
    this.#now = next.at;
    next.callback?.();
    return true;
  }
}

/** Numbers that one seed gives again, from 0 to 1. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    mixed ^= mixed >>> 15;
    return (mixed >>> 0) / 2 ** 32;
  };
}

class Simulation {
  readonly #size: FleetSize;
  readonly #random: () => number;
  readonly #clock = new HeapClock();
  readonly #slots: TransferSlots;
  readonly #sizes: number[];
  readonly #isPoison: boolean[];
  readonly #positions: Float64Array;
  readonly #published: Uint32Array;
  readonly #atStore = new Map<string, number>();
  readonly told: FleetTold;

  constructor(size: FleetSize) {
    const { images, workers, stores, perStore, seed } = size;
    this.#size = size;
    this.#random = dice(seed);
    const random = this.#random;
    this.#slots = new TransferSlots({ store: perStore });
    this.#sizes = Array.from({ length: images }, () =>
      random() < 0.05 ? (4 + 28 * random()) * GiB : (0.05 + 2 * random()) * GiB,
    );
    this.#isPoison = this.#sizes.map(() => random() < 0.001);
    this.#positions = new Float64Array(images);
    this.#published = new Uint32Array(images);
    const dataBytes = this.#sizes.reduce((sum, one, i) => sum + (this.#isPoison[i] ? 0 : one), 0);
    // Workers are the narrow place unless stores are.
    const most = Math.min(workers, stores * perStore);
    this.told = {
      ...{ done: 0, failed: 0, published: 0, deaths: 0, refusals: 0, mostAtStore: 0, movedBytes: 0 },
      ...{ poison: this.#isPoison.filter(Boolean).length, tookMs: 0, cpuMs: 0, dataBytes },
      leastMs: dataBytes / RATE / most + (images * FIXED_MS) / workers,
      longestMs: this.#sizes.reduce((longest, one) => Math.max(longest, one), 0) / RATE + FIXED_MS,
    };
  }

  /** Copies until it is done (undefined), its worker dies, or its store refuses. */
  async #transfer(index: number): Promise<Outcome | undefined> {
    const { told } = this;
    const left = this.#sizes[index]! - this.#positions[index]!;
    const lifeMs = -Math.log(1 - this.#random()) * LIFE_MS;
    const isRefused = this.#random() < 0.01;
    const wanted = isRefused ? left * this.#random() : left;
    const isDead = lifeMs < wanted / RATE;
    const reached = isDead ? lifeMs * RATE : wanted;
    await this.#clock.sleep(reached / RATE);
    told.movedBytes += reached;
    if (!isDead && !isRefused) return undefined;
    const bytes = (this.#positions[index] = this.#positions[index]! + Math.floor(reached / STEP) * STEP);
    if (isDead) told.deaths += 1;
    else told.refusals += 1;
    return isDead ? { state: "given-back", bytes } : { state: "failed", bytes, error: "503", isFinal: false };
  }

  async #carry({ job }: Delivery): Promise<Outcome> {
    const index = Number(job.id);
    const store = job.target!;
    await this.#clock.sleep(FIXED_MS);
    if (this.#isPoison[index]) return { state: "failed", bytes: 0, error: "corrupt", isFinal: false };
    const host = String(index % this.#size.workers);
    const giveBack = await this.#slots.take({ host, store, source: job.source });
    const count = (this.#atStore.get(store) ?? 0) + 1;
    this.#atStore.set(store, count);
    this.told.mostAtStore = Math.max(this.told.mostAtStore, count);
    const ended = await this.#transfer(index);
    this.#atStore.set(store, this.#atStore.get(store)! - 1);
    giveBack();
    // Another one has it once the lease of the one that died is over.
    if (ended?.state === "given-back") await this.#clock.sleep(LEASE_MS);
    if (ended) return ended;
    this.#published[index] = this.#published[index]! + 1;
    return { state: "done", bytes: this.#sizes[index]! };
  }

  async run(): Promise<FleetTold> {
    const { stores, workers } = this.#size;
    const jobs: FleetJob[] = this.#sizes.map((_size, index) => ({
      ...{ id: String(index), kind: "convert", source: String(index), target: `store${index % stores}` },
      ...{ options: {}, priority: 0 },
    }));
    const journal = { known: new Map(), write: () => undefined };
    const clock = this.#clock;
    const queue = new LocalQueue({ clock, journal, retries: { attempts: 8, backoffMs: 1000 } });
    await queue.submit(jobs);
    const before = process.cpuUsage();
    let isOver = false;
    const how = { name: "w", atOnce: workers, signal: new AbortController().signal, note: () => undefined };
    const over = queue.work((delivery) => this.#carry(delivery), how).then(() => (isOver = true));
    while (!isOver) {
      await clock.turn();
      if (!isOver && !clock.step()) await over;
    }
    const { user, system } = process.cpuUsage(before);
    const { done, failed } = await queue.counts();
    const published = this.#published.reduce((sum, count) => sum + count, 0);
    return { ...this.told, done, failed, published, tookMs: clock.nowMs(), cpuMs: (user + system) / 1000 };
  }
}

/** Runs it to its end. */
export function simulateFleet(size: FleetSize): Promise<FleetTold> {
  return new Simulation(size).run();
}
