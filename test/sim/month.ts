// A guest that writes day and night, and an incremental backup every night, in virtual time: a chain of bitmaps and images a week long,
// with errors at the disk and at the target, jobs that stop and are resumed, backups that fail and are made again, programs that
// are killed or started anew. Judged are what the guest reads, every backup (the disk as it was when the job began, by the
// names in its headers), the images' structure, and what is left over.
import { BlockError, messageOf } from "../../src/base/errors.ts";
import { BlockBackend, guestPermissions } from "../../src/block/graph/backend.ts";
import { findDirtyBitmap } from "../../src/block/model/dirty-bitmap.ts";
import { checkedQcow2 as qcow2 } from "../../src/drivers/format/qcow2/checked.ts";
import type { BlockJob } from "../../src/job/core/block-job.ts";
import type { Engine } from "../../src/machine/engine.ts";
import { transactionCommands } from "../../src/server/monitor/commands/transaction.ts";
import { Dice } from "../../src/sim/dice.ts";
import { FileData, type FaultRule, type FileVerb } from "../../src/sim/files.ts";
import { SimHost } from "../../src/sim/host.ts";
import { Model, contentOf } from "../../src/sim/model.ts";
import { checkQcow2 } from "../../src/sim/qcow2-check.ts";
import { makeEngine } from "../../src/sim/world.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DISK = "/disk.qcow2";
const BITMAP = "nightly";
/** Backups after which a chain begins anew. */
const CHAIN = 7;

/** What is to happen. */
export interface MonthOptions {
  readonly seed: number;
  readonly days: number;
  /** Requests of the guest in a virtual second, all the time. */
  readonly perSecond: number;
  /** Bytes of the disk; default 16 MiB. */
  readonly size?: number;
  /** Told of each night, in words. */
  readonly onNight?: (line: string) => void;
}

/** What has happened. */
export interface MonthResult {
  requests: number;
  /** Requests to files that were made to fail. */
  faults: number;
  /** Backups that are whole, and jobs that failed for what was injected. */
  backups: number;
  failed: number;
  /** Times that an error stopped a job, and it was resumed. */
  resumed: number;
  kills: number;
  restarts: number;
  violations: string[];
}

/** A backup that is kept, and what the disk showed when its job began. */
interface Kept {
  readonly path: string;
  readonly model: Model;
}

/** Lives through the days of a seed. */
export async function runMonth(options: MonthOptions): Promise<MonthResult> {
  const month = new Month(options);
  const rejected = (reason: unknown): void => month.bad(`unhandled rejection: ${messageOf(reason)}`);
  process.on("unhandledRejection", rejected);
  try {
    await month.host.scheduler.settle(month.run(), { limitMs: (options.days + 2) * DAY });
  } catch (error) {
    month.bad(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    process.off("unhandledRejection", rejected);
  }
  return month.result();
}

class Month {
  readonly host: SimHost;
  readonly #options: MonthOptions;
  readonly #dice: Dice;
  readonly #model: Model;
  /** Bytes that writes take pieces of. */
  readonly #noise: Uint8Array;
  readonly #counts = { requests: 0, backups: 0, failed: 0, resumed: 0, kills: 0, restarts: 0 };
  readonly #violations: string[] = [];
  #chain: Kept[] = [];
  #isChainBroken = false;
  #names = 0;
  #engine!: Engine;
  #disk!: BlockBackend;
  /** The guest that runs; one that was killed never goes on. */
  #guest = 0;
  #request: Promise<void> = Promise.resolve();

  constructor(options: MonthOptions) {
    this.#options = options;
    this.host = new SimHost(options.seed);
    this.#dice = new Dice(options.seed);
    this.#model = new Model(new Uint8Array(options.size ?? 16 * MiB));
    this.#noise = Uint8Array.from({ length: MiB }, () => this.#dice.below(256));
  }

  bad(text: string): void {
    this.#violations.push(`${(this.host.scheduler.nowMs / DAY).toFixed(3)} days: ${text}`);
  }

  result(): MonthResult {
    const { injected, misuse } = this.host.files;
    const faults = [...injected.values()].reduce((sum, count) => sum + count, 0);
    return { ...this.#counts, faults, violations: [...this.#violations, ...misuse] };
  }

  async run(): Promise<void> {
    const { files } = this.host;
    await this.#create(DISK);
    files.notNowOneIn = 50;
    await this.#start();
    for (let day = 0; day < this.#options.days; day++) {
      await this.host.scheduler.sleep(DAY - (this.host.scheduler.nowMs % DAY) + HOUR);
      await this.#night(day);
      await this.#morning(day);
    }
    await this.#stop();
    await this.#judgeChain();
    // The guest notices at its next time that it is over.
    await this.host.scheduler.sleep(SECOND + SECOND / this.#options.perSecond);
    if (this.host.scheduler.pending > 0) this.bad(`${this.host.scheduler.pending} timers are left`);
  }

  async #create(path: string, backing?: string): Promise<void> {
    const engine = makeEngine(this.host, 2 * MiB);
    await this.host.files.create(path, { size: 0 });
    await qcow2.create!(
      { graph: engine.graph, host: this.host },
      {
        file: { driver: "file", filename: path },
        size: this.#model.length,
        ...(backing === undefined ? {} : { "backing-file": backing, "backing-fmt": "qcow2" }),
      },
    );
    await engine.close();
  }

  /** Starts the program and the guest. */
  async #start(): Promise<void> {
    this.#engine = makeEngine(this.host, 4 * MiB);
    const { graph } = this.#engine;
    const file = { driver: "file", filename: DISK };
    const node = await graph.add({ driver: "qcow2", "node-name": "disk", file, discard: "unmap" });
    this.#disk = new BlockBackend(graph);
    await this.#disk.attach(node, guestPermissions);
    if (this.#counts.backups > 0 && findDirtyBitmap(node, BITMAP)?.inconsistent !== false)
      this.bad("the bitmap is lost");
    void this.#live((this.#guest += 1));
  }

  /** Ends both properly. */
  async #stop(): Promise<void> {
    this.#guest += 1;
    await this.#request;
    const { graph, jobs } = this.#engine;
    if (jobs.jobs.length > 0) this.bad("a job is left");
    const node = graph.node("disk");
    if (node.inFlight !== 0 || node.quiesceCounter !== 0)
      this.bad(`${node.inFlight} requests in flight, drained ${node.quiesceCounter} times`);
    await this.#disk.flush();
    await this.#disk.close();
    if (graph.arena.inUse > 0 || graph.arena.waiting > 0) this.bad("the arena is still in use");
    await this.#engine.close();
    if (this.host.files.open_ !== 0) this.bad(`${this.host.files.open_} files are still open`);
  }

  /** One request after the other, at its time, until the program is another one. */
  async #live(guest: number): Promise<void> {
    const { scheduler } = this.host;
    const gapMs = SECOND / this.#options.perSecond;
    for (let dueMs = scheduler.nowMs; ; dueMs += gapMs) {
      if (scheduler.nowMs < dueMs) await scheduler.sleep(dueMs - scheduler.nowMs);
      if (this.#guest !== guest) return;
      await (this.#request = this.#once());
    }
  }

  async #once(): Promise<void> {
    this.#counts.requests += 1;
    const dice = this.#dice;
    const sectors = this.#model.length / 512;
    const bytes = 512 * dice.between(1, 16);
    // Four in five go to an eighth of the disk, which is another one every day.
    const eighth = Math.floor(this.host.scheduler.nowMs / DAY) % 8;
    const sector = dice.oneIn(5)
      ? dice.below(sectors - 16)
      : Math.min(sectors - 16, (eighth * sectors) / 8 + dice.below(sectors / 8));
    const kind = dice.below(1000);
    if (kind < 200) await this.#read(512 * sector, bytes);
    else await this.#change(kind, 512 * sector, bytes);
  }

  async #read(offset: number, bytes: number): Promise<void> {
    const buffer = new Uint8Array(bytes);
    try {
      await this.#disk.pread(offset, buffer);
    } catch (error) {
      this.#expect(error);
      return;
    }
    const at = this.#model.difference(offset, buffer);
    if (at >= 0) this.bad(`the guest reads what it has not written at ${at}`);
  }

  async #change(kind: number, offset: number, bytes: number): Promise<void> {
    try {
      if (kind < 205) await this.#disk.flush();
      else if (kind < 208) {
        await this.#disk.pwriteZeroes(offset, bytes);
        this.#model.zero(offset, bytes);
      } else if (kind < 210) {
        await this.#disk.pdiscard(offset, bytes);
        this.#model.discard(offset, bytes, false);
      } else {
        const from = this.#dice.below(MiB - bytes);
        const data = this.#noise.subarray(from, from + bytes);
        await this.#disk.pwrite(offset, data);
        this.#model.write(offset, data);
      }
    } catch (error) {
      this.#model.forget(offset, bytes);
      this.#expect(error);
    }
  }

  /** A request may fail where that was asked for. */
  #expect(error: unknown): void {
    const isInjected = error instanceof BlockError && this.host.files.injected.has(error.code);
    if (!isInjected) this.bad(`a guest's request fails: ${messageOf(error)}`);
  }

  /** A backup, which is made again until there is one. */
  async #night(day: number): Promise<void> {
    const before = { ...this.#counts };
    let path: string | undefined;
    for (let attempt = 0; path === undefined; attempt++) {
      if (attempt > 3) throw new Error("no backup can be made, though nothing fails any more");
      path = await this.#backup(attempt < 3);
    }
    const made = (name: "failed" | "resumed"): number => this.#counts[name] - before[name];
    const kind = this.#chain.length === 1 ? "full" : "incremental";
    this.#options.onNight?.(
      `night ${day + 1}: ${kind}, ${made("failed")} failed, ${made("resumed")} resumed, ${this.#violations.length} violations`,
    );
    await this.#judgeBackup(this.#chain.at(-1)!);
  }

  async #backup(mayFail: boolean): Promise<string | undefined> {
    const isFull = this.#isChainBroken || this.#chain.length % CHAIN === 0;
    const path = `/backup-${(this.#names += 1)}.qcow2`;
    await this.#create(path, isFull ? undefined : this.#chain.at(-1)!.path);
    const { graph } = this.#engine;
    await graph.add({
      driver: "qcow2",
      "node-name": "target",
      file: { driver: "file", filename: path },
      backing: null,
    });
    this.host.files.faults = mayFail ? this.#draw(path) : [];
    const policy = this.#dice.pick(["report", "stop", "enospc"] as const);
    let model: Model | undefined;
    const unsubscribe = graph.events.subscribe(({ event, data }) => {
      if (event === "JOB_STATUS_CHANGE" && data["status"] === "created") model = this.#model.copy();
    });
    const isWhole = await this.#carryOut(isFull, policy);
    unsubscribe();
    this.host.files.faults = [];
    await graph.remove("target");
    if (isFull) this.#isChainBroken = !isWhole;
    if (!isWhole) {
      await this.host.files.remove(path);
      return undefined;
    }
    if (isFull) await this.#dropChain();
    this.#chain.push({ path, model: model! });
    this.#counts.backups += 1;
    return path;
  }

  /** Errors for some seconds, at the disk, at the target, or at neither. */
  #draw(target: string): FaultRule[] {
    const { nowMs } = this.host.scheduler;
    const verbs: readonly (readonly [string, FileVerb, "EIO" | "ENOSPC"])[] = [
      [DISK, "read", "EIO"],
      [target, "write", "EIO"],
      [target, "write", "ENOSPC"],
      [target, "flush", "EIO"],
    ];
    return Array.from({ length: this.#dice.below(4) }, () => {
      const [path, verb, errno] = this.#dice.pick(verbs);
      const fromMs = nowMs + this.#dice.below(20 * SECOND);
      const toMs = fromMs + this.#dice.below(30 * SECOND);
      return { path, verbs: [verb], errno, perMille: this.#dice.between(5, 300), fromMs, toMs };
    });
  }

  /** Runs the job to its end; false: it failed, as it may. */
  async #carryOut(isFull: boolean, policy: "report" | "stop" | "enospc"): Promise<boolean> {
    const injected = this.result().faults;
    const context = { engine: this.#engine, afterReply: () => undefined };
    const bitmap = { node: "disk", name: BITMAP };
    const has = findDirtyBitmap(this.#engine.graph.node("disk"), BITMAP) !== undefined;
    const turn = has
      ? { type: "block-dirty-bitmap-clear" as const, data: bitmap }
      : { type: "block-dirty-bitmap-add" as const, data: { ...bitmap, persistent: true } };
    const job = {
      "job-id": "backup",
      device: "disk",
      target: "target",
      speed: this.#dice.pick([0, 256 * KiB, MiB]),
      "on-source-error": policy,
      "on-target-error": policy,
      ...(isFull ? { sync: "full" as const } : { sync: "incremental" as const, bitmap: BITMAP }),
    };
    try {
      await transactionCommands.transaction!(
        { actions: [...(isFull ? [turn] : []), { type: "blockdev-backup", data: job }] },
        context,
      );
      await this.#attend(this.#engine.jobs.blockJob("backup"));
      return true;
    } catch (error) {
      this.#counts.failed += 1;
      if (this.result().faults === injected) this.bad(`a backup fails: ${messageOf(error)}`);
      return false;
    }
  }

  /** Resumes a job that an error has stopped, some minutes later. */
  async #attend(job: BlockJob): Promise<void> {
    let isOver = false;
    const end = job.done.finally(() => (isOver = true));
    end.catch(() => undefined);
    const lastMs = this.host.scheduler.nowMs + 6 * HOUR;
    while (!isOver) {
      await this.host.scheduler.sleep(SECOND * this.#dice.between(1, 120));
      if (this.host.scheduler.nowMs > lastMs) throw new Error(`the backup does not end: ${job.status}`);
      if (!isOver && job.isPausedByError) {
        this.#counts.resumed += 1;
        job.resume();
      }
    }
    await end;
  }

  /** Some days the program is killed, or started anew. */
  async #morning(day: number): Promise<void> {
    if (day % 5 === 2) {
      // Errors of the night may have ended the bitmap's journal: writes of a morning begin it anew.
      await this.host.scheduler.sleep(11 * HOUR);
      return this.#kill();
    }
    if (day % 5 !== 4) return undefined;
    this.#counts.restarts += 1;
    await this.#stop();
    this.#judgeStructure(DISK);
    return this.#start();
  }

  /** SIGKILL: what was written is in the files, and nothing of the program's happens any more. */
  async #kill(): Promise<void> {
    this.#counts.kills += 1;
    this.#guest += 1;
    await this.#request;
    this.host.scheduler.forget();
    this.#cutOff();
    await this.#start();
  }

  /** What the killed program still holds are no longer the files. */
  #cutOff(): void {
    const { files } = this.host;
    for (const [path, { bytes, size }] of files.contents) {
      const left = new FileData();
      left.truncate(size);
      left.write(0, bytes.subarray(0, size));
      files.contents.set(path, left);
    }
    files.open_ = 0;
    files.epoch += 1;
  }

  async #dropChain(): Promise<void> {
    await this.#judgeChain();
    for (const { path } of this.#chain) await this.host.files.remove(path);
    this.#chain = [];
  }

  async #judgeChain(): Promise<void> {
    for (const kept of this.#chain) await this.#judgeBackup(kept);
  }

  /** Restores by the headers alone. */
  async #judgeBackup({ path, model }: Kept): Promise<void> {
    this.#judgeStructure(path);
    const engine = makeEngine(this.host, MiB);
    const file = { driver: "file", filename: path };
    const spec = { driver: "qcow2", "node-name": "again", file, "read-only": true };
    const at = model.difference(0, await contentOf(engine.graph, await engine.graph.add(spec)));
    if (at >= 0) this.bad(`${path} is not what the disk was: at ${at}`);
    await engine.close();
  }

  /** By a checker that knows no bitmaps: only of images that have none it can tell what leaks. */
  #judgeStructure(path: string): void {
    const { bytes, size } = this.host.files.data(path);
    const { errors } = checkQcow2(bytes.subarray(0, size));
    if (errors.length > 0) this.bad(`${path}: ${errors[0]}`);
  }
}
