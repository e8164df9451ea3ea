// Several jobs at once on one disk: lanes that start, steer and end jobs of every kind at random, beside a busy guest, in
// virtual time. No errors are injected: whatever fails is refused by name or was cancelled. Judged are the guest's disk,
// every backup (the disk as it was when the job began), every mirror that was not switched to, the states of each job, and
// what is left over.
import { layers } from "../../src/block/model/chain.ts";
import { CommandError } from "../../src/base/errors.ts";
import type { QmpEvent } from "../../src/wire/qapi/index.ts";
import { throttleGroupsOf } from "../../src/block/throttle/throttle.ts";
import { startBackup, startDriveBackup } from "../../src/job/backup/backup.ts";
import type { BlockJob } from "../../src/job/core/block-job.ts";
import { startCommit } from "../../src/job/commit/commit.ts";
import { startDriveMirror } from "../../src/job/mirror/drive-mirror.ts";
import { JobCancelledError } from "../../src/job/core/job.ts";
import { acceptsVerb } from "../../src/job/core/verbs.ts";
import { startMirror } from "../../src/job/mirror/mirror.ts";
import { startStream } from "../../src/job/stream/stream.ts";
import type { Engine } from "../../src/machine/engine.ts";
import { transactionCommands } from "../../src/server/monitor/commands/transaction.ts";
import { Dice } from "../../src/sim/dice.ts";
import { Guest } from "../../src/sim/guest.ts";
import { SimHost } from "../../src/sim/host.ts";
import { type Model, contentOf } from "../../src/sim/model.ts";
import { type StoryPlan, pathOf, planStory } from "../../src/sim/plan.ts";
import { checkQcow2 } from "../../src/sim/qcow2-check.ts";
import { legal } from "../../src/sim/watch.ts";
import { World, makeEngine } from "../../src/sim/world.ts";

const LANES = 3;
/** Jobs that each lane begins. */
const JOBS = 4;

/** How a crowd ended. */
export interface CrowdResult {
  seed: number;
  violations: string[];
  trace: readonly string[];
  /** How jobs ended: how many of each kind and ending. */
  endings: Map<string, number>;
}

/** What refuses a job that others are in the way of. */
const inTheWay = new RegExp(
  [
    "is busy: ",
    "Permission conflict",
    "not in the backing chain",
    "not a backing image",
    "not in this backing file chain",
    "Need a root block node",
    "cannot commit an image into itself",
    "Invalid files for merge",
    "Can't mirror node into itself",
    "Cannot (?:freeze|change)",
    "Transaction aborted using Abort action",
    // A node named by the user that has left meanwhile.
    "Cannot find device='' nor node-name",
  ].join("|"),
);

/** What the lanes start; `transaction`: a backup with a bitmap, and sometimes an action that undoes both. */
export const jobKinds = [
  "stream",
  "commit",
  "active-commit",
  "mirror",
  "backup",
  "drive-mirror",
  "drive-backup",
  "transaction",
] as const;

/** One job of a crowd. */
interface Member {
  id: string;
  kind: (typeof jobKinds)[number];
  target: string | undefined;
  /** What the guest's disk showed when the job was created, and when its own code was over. */
  atStart?: Model;
  atEnd?: Model;
}

/** Runs the crowd of a seed. Never rejects. */
export async function runCrowd(seed: number): Promise<CrowdResult> {
  const host = new SimHost(seed);
  const crowd = new Crowd(seed, host);
  const rejected = (reason: unknown): void => crowd.bad(`unhandled rejection: ${wordsOf(reason)}`);
  process.on("unhandledRejection", rejected);
  try {
    await host.scheduler.settle(crowd.run(), { limitMs: 200_000, maxSteps: 400_000 });
  } catch (error) {
    crowd.bad(wordsOf(error));
  } finally {
    process.off("unhandledRejection", rejected);
  }
  return crowd.result();
}

function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncause: ${wordsOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

/** A plan of planStory() for a chain alone. */
function planChainOf(seed: number, dice: Dice): StoryPlan {
  const plan = planStory(seed, dice);
  for (const image of plan.chain) Object.assign(image, { memory: false, shape: undefined });
  Object.assign(plan, { target: undefined, faults: [], space: [] });
  Object.assign(plan.guest, { rerror: "report", werror: "report", lanes: 2 + (seed % 4), unaligned: false });
  plan.job.sync = "full";
  return plan;
}

class Crowd {
  readonly #violations: string[] = [];
  readonly #host: SimHost;
  readonly #plan: StoryPlan;
  readonly #dice: Dice;
  readonly #world: World;
  readonly #members = new Map<string, Member>();
  readonly #statuses = new Map<string, string>();
  readonly #endings = new Map<string, number>();
  readonly #seed: number;
  #engine!: Engine;
  #guest!: Guest;

  constructor(seed: number, host: SimHost) {
    this.#seed = seed;
    this.#host = host;
    this.#dice = new Dice(seed);
    this.#plan = planChainOf(seed, this.#dice.fork());
    this.#world = new World(host, this.#plan, this.#dice.fork());
  }

  bad(text: string): void {
    this.#violations.push(text);
    this.#host.trace.add(`VIOLATION ${text}`);
  }

  result(): CrowdResult {
    const { misuse } = this.#host.files;
    const violations = [...this.#violations, ...(this.#guest?.violations ?? []), ...misuse];
    return { seed: this.#seed, violations, trace: this.#host.trace.lines, endings: this.#endings };
  }

  async run(): Promise<void> {
    await this.#setUp();
    this.#guest.start();
    await Promise.all(Array.from({ length: LANES }, (_, lane) => this.#lane(lane)));
    await this.#guest.stop();
    await this.#judge();
  }

  async #setUp(): Promise<void> {
    const { files } = this.#host;
    await this.#world.create();
    Object.assign(files, {
      latency: this.#plan.latency,
      alignment: this.#plan.alignment,
      notNowOneIn: this.#plan.notNowOneIn,
    });
    this.#engine = makeEngine(this.#host, this.#plan.arenaBytes);
    const { graph, machine } = this.#engine;
    await this.#world.open(this.#engine);
    graph.events.subscribe((event) => this.#see(event));
    let node = graph.node(this.#plan.chain.at(-1)!.name);
    if (this.#dice.oneIn(3)) {
      throttleGroupsOf(graph).add("limits", { "iops-total": 400, "bps-write": 2 ** 23 });
      const spec = { driver: "throttle", "node-name": "limit", "throttle-group": "limits", file: node.name };
      node = await graph.add(spec);
    }
    const init = { machine, node, model: this.#world.top.copy(), host: this.#host, dice: this.#dice.fork() };
    this.#guest = (await Guest.plug({ ...init, plan: this.#plan.guest })).spy();
  }

  #see({ event, data }: QmpEvent): void {
    this.#host.trace.add(`event ${event} ${JSON.stringify(data)}`);
    if (event === "BLOCK_JOB_ERROR" || event === "BLOCK_IO_ERROR") this.bad(`${event} without an error`);
    if (event !== "JOB_STATUS_CHANGE") return;
    const id = String(data["id"]);
    const to = String(data["status"]);
    const from = this.#statuses.get(id) ?? "undefined";
    if (!legal[from]!.split(" ").includes(to)) this.bad(`${id}: status ${from} -> ${to}`);
    this.#statuses.set(id, to);
    const member = this.#members.get(id)!;
    if (to === "created") member.atStart = this.#guest.model.copy();
    if (to === "waiting") member.atEnd = this.#guest.model.copy();
  }

  /** Job after job. */
  async #lane(lane: number): Promise<void> {
    const dice = this.#dice.fork();
    for (let number = 0; number < JOBS; number++) {
      await this.#host.scheduler.sleep(dice.fraction() * 40);
      const kind = dice.pick(jobKinds);
      const id = `job${lane}-${number}`;
      const member: Member = { id, kind, target: undefined };
      this.#members.set(id, member);
      if (kind === "mirror" || kind === "backup" || kind === "transaction")
        member.target = await this.#addTarget(id, dice);
      const job = await this.#start(member, dice);
      if (job) await this.#steer(member, job, dice);
      if (member.target !== undefined) await this.#letTargetGo(member.target);
    }
  }

  async #addTarget(id: string, dice: Dice): Promise<string> {
    const name = `target-${id}`;
    const { length } = this.#guest.model;
    await this.#host.files.create(pathOf(name), { size: length });
    const file = { driver: "file", filename: pathOf(name), "node-name": `${name}-file` };
    const discard = dice.pick(["unmap", "ignore"] as const);
    await this.#engine.graph.add({ driver: "raw", "node-name": name, file, discard });
    return name;
  }

  async #letTargetGo(name: string): Promise<void> {
    const { graph } = this.#engine;
    const node = graph.findNode(name);
    // It may be the guest's disk by now, or below it.
    if (node && node.parents.size === 0 && node.references === 0) await graph.remove(name);
  }

  async #start(member: Member, dice: Dice): Promise<BlockJob | undefined> {
    this.#host.trace.add(`start ${member.id} ${member.kind}`);
    try {
      return await this.#begin(member, dice);
    } catch (error) {
      this.#host.trace.add(`start ${member.id} refused: ${error instanceof Error ? error.message : ""}`);
      this.#count(`${member.kind} refused`);
      const isRefusal = error instanceof CommandError || (error as { code?: string }).code === "EPERM";
      if (!isRefusal || !inTheWay.test((error as Error).message))
        this.bad(`${member.id} ${member.kind} did not start: ${wordsOf(error)}`);
      return undefined;
    }
  }

  #begin({ id, kind, target }: Member, dice: Dice): Promise<BlockJob> {
    const { graph } = this.#engine;
    const common = { "job-id": id, speed: dice.pick([0, 0, 2 ** 18, 2 ** 20]) };
    const names = [...layers(this.#guest.device.backend.node!)].map((node) => node.name);
    const [base] = names.length > 1 ? [names[dice.between(1, names.length - 1)]!] : [names[0]!];
    if (kind === "stream") {
      const to = dice.oneIn(2) ? {} : { "base-node": base };
      return startStream(graph, { ...common, ...to, device: "drive" });
    }
    if (kind === "commit") {
      const top = names[dice.below(names.length)]!;
      return startCommit(graph, { ...common, device: "drive", "top-node": top, "base-node": base });
    }
    if (kind === "active-commit")
      return startCommit(graph, { ...common, device: "drive", "base-node": base });
    const own = { ...common, device: "drive", target: pathOf(id), format: "raw", sync: "full" as const };
    if (kind === "drive-backup") return startDriveBackup(graph, own);
    if (kind === "drive-mirror") return startDriveMirror(graph, own);
    const copy = { ...common, device: "drive", target: target!, sync: "full" as const };
    if (kind === "transaction") return this.#transaction(copy, dice.oneIn(3));
    if (kind === "backup") return startBackup(graph, copy);
    const mode = dice.pick(["background", "write-blocking"] as const);
    return startMirror(graph, { ...copy, "copy-mode": mode });
  }

  async #transaction(copy: Parameters<typeof startBackup>[1], undone: boolean): Promise<BlockJob> {
    const id = copy["job-id"]!;
    const actions = [
      { type: "block-dirty-bitmap-add", data: { node: "drive", name: id } },
      { type: "blockdev-backup", data: copy },
      ...(undone ? [{ type: "abort", data: {} } as const] : []),
    ] as const;
    const context = { engine: this.#engine, afterReply: () => undefined };
    await transactionCommands.transaction!({ actions: [...actions] }, context);
    return this.#engine.jobs.blockJob(id);
  }

  /** Verbs at random until the job is over; then what became of it. */
  async #steer(member: Member, job: BlockJob, dice: Dice): Promise<void> {
    let over = false;
    const settled = job.done.then(
      () => "completed",
      (error: unknown) => {
        if (error instanceof JobCancelledError) return "cancelled";
        this.bad(`${member.id} ${member.kind} failed: ${wordsOf(error)}`);
        return "failed";
      },
    );
    void settled.then(() => (over = true));
    const ending = dice.pick(["complete", "complete", "soft", "hard", "hard"] as const);
    const startMs = this.#host.scheduler.nowMs;
    while (!over) {
      await this.#host.scheduler.sleep(dice.fraction() * 30);
      const late = this.#host.scheduler.nowMs > startMs + 300;
      if (!over) await this.#verb(job, ending, late ? undefined : dice);
      // A mirror in the background may never catch up with a guest that writes all the time.
      if (this.#host.scheduler.nowMs > startMs + 3000) void this.#guest.stop();
      if (this.#host.scheduler.nowMs > startMs + 60_000)
        throw new Error(`${member.id} is stuck: ${job.status}`);
    }
    const how = await settled;
    this.#count(`${member.kind} ${how}`);
    if (how === "completed") await this.#judgeTarget(member, job);
  }

  async #verb(job: BlockJob, ending: "complete" | "soft" | "hard", dice: Dice | undefined): Promise<void> {
    await this.#engine.jobs.settled();
    const { status } = job;
    if (dice?.oneIn(5) && acceptsVerb(status, "pause") && !job.userPaused) return job.pause();
    if (job.userPaused && acceptsVerb(status, "resume") && (!dice || dice.oneIn(2))) return job.resume();
    if (!dice && job.speed > 0 && acceptsVerb(status, "set-speed")) return job.setSpeed(0);
    if (!acceptsVerb(status, "cancel") || job.transaction.settling) return undefined;
    if (ending === "hard" && (!dice || dice.oneIn(3))) return job.cancel({ force: true });
    const canEnd = job.isReady && !job.userPaused && !job.cancelRequested && (!dice || dice.oneIn(3));
    if (!canEnd || (job as { shouldComplete?: boolean }).shouldComplete) return undefined;
    return ending === "complete" ? job.complete() : job.cancel({ force: false });
  }

  async #judgeTarget({ id, kind, target, atStart, atEnd }: Member, job: BlockJob): Promise<void> {
    const isDrive = kind === "drive-backup" || kind === "drive-mirror";
    const isMirror = kind === "mirror" || kind === "drive-mirror";
    if ((target === undefined && !isDrive) || (isMirror && !job.cancelRequested)) return;
    const { files } = this.#host;
    const content = isDrive
      ? files.data(pathOf(id)).bytes.subarray(0, this.#guest.model.length)
      : await contentOf(this.#engine.graph, this.#engine.graph.node(target!));
    const at = (isMirror ? atEnd! : atStart!).difference(0, content);
    if (at >= 0) this.bad(`${id}: the ${kind}'s target is wrong at ${at}`);
  }

  #count(what: string): void {
    this.#endings.set(what, (this.#endings.get(what) ?? 0) + 1);
  }

  async #judge(): Promise<void> {
    const { device, model } = this.#guest;
    const { graph, jobs } = this.#engine;
    const at = model.difference(0, (await contentOf(graph, device.backend.node!)).subarray(0, model.length));
    if (at >= 0) this.bad(`the guest's disk is wrong at ${at}`);
    await device.flush();
    if (graph.arena.inUse > 0 || graph.arena.waiting > 0) this.bad("the arena is still in use");
    if (jobs.jobs.length > 0) this.bad("a job is left");
    for (const node of graph.nodes) {
      if (node.implicit || node.name.startsWith("#")) {
        if (!node.name.endsWith("-file") && node.isFilter) this.bad(`the filter ${node.type.name} is left`);
      }
      if (node.inFlight !== 0 || node.quiesceCounter !== 0 || node.references !== 0)
        this.bad(
          `${node.name}: ${node.inFlight} in flight, drained ${node.quiesceCounter}, ${node.references} references`,
        );
      for (const child of node.children)
        if (child.frozen) this.bad(`the link ${child.name} of ${node.name} is frozen`);
    }
    await device.unplug();
    await this.#engine.close();
    if (graph.nodes.length > 0) this.bad(`nodes are left: ${graph.nodes.map((node) => node.name).join()}`);
    if (this.#host.files.open_ !== 0) this.bad(`${this.#host.files.open_} files are still open`);
    for (const image of this.#plan.chain) {
      if (image.format !== "qcow2") continue;
      const data = this.#host.files.data(pathOf(image.name));
      const { errors, leaks } = checkQcow2(data.bytes.subarray(0, data.size));
      if (errors.length > 0 || leaks > 0) this.bad(`${image.name}: ${leaks} leaks, ${errors[0] ?? ""}`);
    }
    if (this.#host.scheduler.pending > 0) this.bad(`${this.#host.scheduler.pending} timers are left`);
  }
}
