/**
 * A story as its seed tells it: images, guest, job, faults, and what its user does. Pure data, printed when it fails.
 */
import type { Errno } from "../base/errno.ts";
import type { OnError } from "../job/core/error-policy.ts";
import type { TypeOf } from "../wire/qapi/index.ts";
import type { Dice } from "./dice.ts";
import type { FaultRule, FileVerb, Latency } from "./files.ts";
import type { GraphDescription, ImageDescription, JobDescription } from "./graph.ts";
import type { GuestPlan } from "./guest.ts";

const KiB = 1024;

/** One image. */
export interface ImagePlan {
  name: string;
  format: "raw" | "qcow2";
  /** Bytes of the virtual disk. */
  size: number;
  clusterSize: number;
  version: "v2" | "v3";
  refcountBits: number;
  lazyRefcounts: boolean;
  /** Of a memory node rather than a file. */
  memory: boolean;
  discard: "unmap" | "ignore";
  detectZeroes: TypeOf<"BlockdevDetectZeroesOptions">;
  /** Limits of its storage, as options of a blkdebug node between; undefined: none. */
  shape: Readonly<Record<string, number>> | undefined;
  /** Requests that fill it before the story begins. */
  fill: number;
  /** The largest of them, in sectors. */
  fillSectors: number;
  /** Its nodes as a file describes them; absent: the format over its file, by the members above. */
  description?: ImageDescription;
}

/** Which job, and how. */
export interface JobPlan {
  kind: "stream" | "commit" | "active-commit" | "mirror" | "backup";
  sync: "full" | "top" | "none" | "incremental";
  /** Layers of the chain, 0 = lowest: the image that is streamed or committed, and what it is streamed or committed to. */
  top: number;
  base: number;
  onSourceError: OnError;
  onTargetError: OnError;
  writeBlocking: boolean;
  granularity: number;
  bufBytes: number;
  speed: number;
  maxWorkers: number;
  maxChunk: number;
  autoFinalize: boolean;
  autoDismiss: boolean;
  /** What the user wants at the end: for a ready mirror complete or a soft cancel. */
  ending: "complete" | "cancel";
  startMs: number;
}

/** Space for a file that is too small at first. */
export interface SpacePlan {
  path: string;
  bytes: number;
}

/** A whole story. */
export interface StoryPlan {
  seed: number;
  /** Throttle groups that nodes of a described graph name. */
  throttleGroups?: GraphDescription["throttleGroups"];
  chain: ImagePlan[];
  target: ImagePlan | undefined;
  arenaBytes: number;
  alignment: number;
  latency: Latency;
  guest: GuestPlan;
  job: JobPlan;
  faults: FaultRule[];
  space: SpacePlan[];
  /** When faults end, ms. */
  calmMs: number;
  /** When the power is cut, ms after the guest began; 0: it is not. */
  cutMs: number;
  /** Mean time between two acts of the user, ms; 0: the user does nothing before the calm. */
  userMs: number;
  /** The user acts no more often than so; absent: until the calm. */
  mostActs?: number;
  /** The user may force-cancel. */
  mayCancel: boolean;
  /** Files can be read and written at once, but for one request in so many; 0: never. */
  notNowOneIn: number;
}

/** The path of an image's file. */
export function pathOf(name: string): string {
  return `/sim/${name}.img`;
}

const clusterSizes = [512, 4 * KiB, 4 * KiB, 64 * KiB, 64 * KiB, 16 * KiB, 256 * KiB, 1024 * KiB];
/** What lets a machine run on. In this order, so that seeds stay what they were. */
const runningOn = ["report", "ignore"] as const;
const policies: readonly OnError[] = [...runningOn, "stop", "enospc", "auto"];

/** The name of the node that stands over all others of an image. */
export function rootOf({ name, description }: ImagePlan): string {
  return String(description?.filters.at(-1)?.["node-name"] ?? name);
}

/** The story of a seed, on a graph that a file describes or on one that is drawn, too. */
export function planStory(seed: number, dice: Dice, graph?: GraphDescription): StoryPlan {
  const alignment = dice.pick([1, 1, 1, 512, 4096]);
  const chain = graph ? describedChain(dice, graph) : planChain(dice, Math.max(512, alignment));
  const job = planJob(dice, chain, graph?.jobs);
  const target =
    job.kind === "mirror" || job.kind === "backup"
      ? planTarget(dice, { chain, job, alignment }, graph?.target)
      : undefined;
  const calmMs = 200 + dice.below(1500);
  const images = target ? [...chain, target] : chain;
  const guest = planGuest(dice, chain);
  const latency: Latency = {
    usualMs: dice.pick([0.05, 0.5, 2, 8, 20]),
    slowOneIn: dice.pick([0, 0, 20, 200]),
  };
  if (job.kind === "mirror" && job.writeBlocking && dice.oneIn(2))
    crowd(dice, { chain, job, guest, latency });
  const quiet = dice.oneIn(5);
  return {
    seed,
    ...(graph ? { throttleGroups: graph.throttleGroups } : {}),
    chain,
    target,
    arenaBytes: dice.pick([1024, 2048, 4096]) * KiB,
    alignment,
    latency,
    guest,
    job,
    faults: quiet ? [] : planFaults(dice, { images, calmMs, job, target }),
    space: quiet || !dice.oneIn(3) ? [] : planSpace(dice, { chain, target, job }),
    calmMs,
    userMs: dice.pick([0, 5, 20, 80, 300]),
    mayCancel: dice.oneIn(4),
    notNowOneIn: seed % 4 === 1 ? dice.pick([3, 20]) : 0,
    cutMs: planCut(dice, { images, job, calmMs }),
  };
}

/** Sizes are whole units: what is written to a file of unaligned size with O_DIRECT makes it larger. */
function planChain(dice: Dice, unit: number): ImagePlan[] {
  const depth = dice.pick([1, 2, 2, 3, 3, 4]);
  const size = Math.ceil((512 * dice.between(1, dice.pick([16, 512, 2048, 4096, 8192]))) / unit) * unit;
  const chain: ImagePlan[] = [];
  for (let layer = 0; layer < depth; layer++) {
    const image = planImage(dice, `disk${layer}`, size);
    if (layer > 0) image.format = "qcow2";
    if (layer < depth - 1 && dice.oneIn(5)) image.size = unit * dice.between(1, size / unit);
    const below = chain.at(-1);
    if (below) image.size = Math.max(image.size, below.size);
    image.memory = layer === 0 && dice.oneIn(10);
    if (image.memory) image.size = size;
    chain.push(image);
  }
  chain.at(-1)!.shape = planShape(dice, size, unit);
  return chain;
}

function describedChain(dice: Dice, graph: GraphDescription): ImagePlan[] {
  const size = graph.size ?? 4 * KiB * dice.between(1, dice.pick([16, 256, 1024]));
  return graph.chain.map((image) => described(image, planImage(dice, image.name, size)));
}

/** What a description fixes of an image; the rest stays as it was drawn. */
function described(description: ImageDescription, drawn: ImagePlan): ImagePlan {
  const { name, format, memory, spec, create } = description;
  const given = <T>(value: unknown, otherwise: T): T => (value === undefined ? otherwise : (value as T));
  const version = given(create["version"], drawn.version);
  return {
    ...drawn,
    name,
    format,
    memory,
    version,
    clusterSize: given(create["cluster-size"], drawn.clusterSize),
    refcountBits: given(create["refcount-bits"], version === "v3" ? drawn.refcountBits : 16),
    lazyRefcounts: given(create["lazy-refcounts"], version === "v3" && drawn.lazyRefcounts),
    discard: given(spec["discard"], drawn.discard),
    detectZeroes: given(spec["detect-zeroes"], "off" as const),
    shape: undefined,
    description,
  };
}

function planImage(dice: Dice, name: string, size: number): ImagePlan {
  const version = dice.oneIn(6) ? "v2" : "v3";
  const discard = dice.oneIn(3) ? "ignore" : "unmap";
  return {
    name,
    format: dice.oneIn(2) ? "raw" : "qcow2",
    size,
    clusterSize: dice.pick(clusterSizes),
    version,
    refcountBits: version === "v3" ? dice.pick([16, 16, 1, 8, 64]) : 16,
    lazyRefcounts: version === "v3" && dice.oneIn(8),
    memory: false,
    discard,
    detectZeroes: dice.pick(["off", "off", "on", discard === "unmap" ? "unmap" : "on"]),
    shape: undefined,
    fill: dice.between(0, 10),
    fillSectors: 512,
  };
}

/** Limits for the storage of an image that no header names. */
function planShape(dice: Dice, size: number, alignment: number): ImagePlan["shape"] {
  if (!dice.oneIn(5)) return undefined;
  const align = Math.max(alignment, size % 4096 === 0 ? dice.pick([512, 4096]) : 512);
  const shape: Record<string, number> = { align };
  if (dice.oneIn(2)) shape["max-transfer"] = align * dice.between(16, 80);
  if (dice.oneIn(2)) shape["opt-write-zero"] = align * dice.pick([1, 4, 16]);
  if (dice.oneIn(3)) shape["max-write-zero"] = (shape["opt-write-zero"] ?? align) * dice.pick([1, 3]);
  if (dice.oneIn(2)) shape["opt-discard"] = align * dice.pick([1, 4, 16]);
  if (dice.oneIn(3)) shape["max-discard"] = (shape["opt-discard"] ?? align) * dice.pick([1, 3]);
  return shape;
}

const descriptionKinds = {
  mirror: ["mirror"],
  backup: ["backup"],
  stream: ["stream"],
  commit: ["active-commit", "commit"],
} as const satisfies Readonly<Record<JobDescription["type"], readonly JobPlan["kind"][]>>;

/** What a file fixes of a job, in the words of QMP. */
function fixedJob({ fixed }: JobDescription): Partial<JobPlan> {
  const members: Readonly<Record<string, readonly string[]>> = {
    sync: ["sync"],
    "on-error": ["onSourceError"],
    "on-source-error": ["onSourceError"],
    "on-target-error": ["onTargetError"],
    speed: ["speed"],
    granularity: ["granularity"],
    "auto-finalize": ["autoFinalize"],
    "auto-dismiss": ["autoDismiss"],
  };
  const entries: (readonly [string, unknown])[] = Object.entries(fixed).flatMap(([name, value]) =>
    (members[name] ?? []).map((member) => [member, value] as const),
  );
  const mode = fixed["copy-mode"];
  const known: Partial<JobPlan> = Object.fromEntries(entries);
  return { ...known, ...(mode ? { writeBlocking: mode === "write-blocking" } : {}) };
}

function planJob(dice: Dice, chain: readonly ImagePlan[], wanted: readonly JobDescription[] = []): JobPlan {
  const depth = chain.length;
  const kinds: JobPlan["kind"][] = ["mirror", "mirror", "backup", "backup"];
  if (depth >= 2) kinds.push("stream", "stream", "active-commit", "active-commit");
  if (depth >= 3) kinds.push("commit", "commit", "commit");
  const described = wanted.length > 0 ? dice.pick(wanted) : undefined;
  const kind = dice.pick(
    described ? kinds.filter((name) => descriptionKinds[described.type].some((one) => one === name)) : kinds,
  );
  const syncs: JobPlan["sync"][] =
    kind === "backup" ? ["full", "top", "none", "incremental"] : ["full", "top", "none"];
  let sync = dice.pick(syncs);
  const { sync: fixedSync, ...fixed } = described ? fixedJob(described) : {};
  sync = fixedSync ?? sync;
  if (sync === "top" && depth < 2) sync = "full";
  let top = depth - 1;
  let base = -1;
  if (kind === "active-commit") base = dice.below(top);
  if (kind === "commit") {
    top = dice.between(1, depth - 2);
    base = dice.below(top);
  }
  if (kind === "stream") {
    if (depth > 2 && dice.oneIn(3)) top = dice.between(1, depth - 1);
    base = dice.oneIn(2) ? -1 : dice.below(top);
  }
  return {
    kind,
    sync,
    top,
    base,
    onSourceError: dice.pick(policies),
    onTargetError: dice.pick(policies),
    writeBlocking: dice.oneIn(2),
    granularity: dice.pick([0, 0, 512, 4096, 65536, 1024 * KiB]),
    bufBytes: dice.pick([0, 0, 512, 64 * KiB, 1024 * KiB]),
    speed: dice.pick([0, 0, 64 * KiB, 1024 * KiB, 16 * 1024 * KiB]),
    maxWorkers: dice.pick([64, 1, 3]),
    maxChunk: dice.oneIn(3) ? 1024 * KiB : 0,
    autoFinalize: !dice.oneIn(4),
    autoDismiss: !dice.oneIn(4),
    ending: dice.oneIn(3) ? "cancel" : "complete",
    startMs: dice.below(200),
    ...fixed,
  };
}

function planTarget(
  dice: Dice,
  { chain, job, alignment }: { chain: readonly ImagePlan[]; job: JobPlan; alignment: number },
  description?: ImageDescription,
): ImagePlan {
  const drawn = planImage(dice, "target", chain.at(-1)!.size);
  const target = description ? described(description, drawn) : drawn;
  if (description && target.format === "raw" && job.sync === "top") job.sync = "full";
  if (description) {
    target.fill = job.sync === "full" ? dice.pick([0, 4]) : 0;
    return target;
  }
  if (job.sync === "top") target.format = "qcow2";
  target.memory = job.sync !== "top" && dice.oneIn(6);
  if (job.sync !== "top") target.shape = planShape(dice, target.size, alignment);
  target.fill = job.sync === "full" ? dice.pick([0, 4]) : 0;
  return target;
}

function planGuest(dice: Dice, chain: readonly ImagePlan[]): GuestPlan {
  const size = chain.at(-1)!.size;
  return {
    rerror: dice.pick([...runningOn, "stop"]),
    werror: dice.pick([...runningOn, "stop", "enospc"]),
    lanes: dice.pick([0, 1, 2, 2, 4, 8]),
    pauseMs: dice.pick([5, 20, 60]),
    maxBytes: Math.min(size, dice.pick([4 * KiB, 16 * KiB, 64 * KiB])),
    unaligned: dice.oneIn(4),
    vagueDiscard: chain.some((image) => image.version === "v2"),
  };
}

/**
 * Has a guest write all the time to where a write-blocking mirror is at work: on few granules, or on a sparse image whose tables take
 * long to read. */
function crowd(
  dice: Dice,
  plan: { chain: readonly ImagePlan[]; job: JobPlan; guest: GuestPlan; latency: Latency },
): void {
  const { chain, job, guest, latency } = plan;
  Object.assign(guest, { lanes: 8, pauseMs: dice.pick([1, 4]), maxBytes: 8 * KiB });
  Object.assign(job, { speed: 0, startMs: dice.below(30) });
  if (dice.oneIn(2)) job.sync = "full";
  latency.usualMs = dice.pick([2, 8, 20]);
  if (dice.oneIn(2)) job.granularity = dice.pick([64, 256, 1024]) * KiB;
  else
    for (const image of chain)
      Object.assign(image, { clusterSize: dice.pick([512, 4096]), fill: dice.below(3) });
}

/** One story in five ends in a power cut, if all of it is in files. */
function planCut(
  dice: Dice,
  { images, job, calmMs }: { images: readonly ImagePlan[]; job: JobPlan; calmMs: number },
): number {
  if (!dice.oneIn(5) || images.some(({ memory }) => memory)) return 0;
  return job.startMs + dice.between(1, calmMs);
}

interface FaultScope {
  images: readonly ImagePlan[];
  calmMs: number;
  job: JobPlan;
  target: ImagePlan | undefined;
}

function planFaults(dice: Dice, { images, calmMs, job, target }: FaultScope): FaultRule[] {
  const faults: FaultRule[] = [];
  const verbs: readonly (readonly FileVerb[])[] = [
    ["read"],
    ["read"],
    ["write"],
    ["write"],
    ["flush"],
    ["write", "flush", "zeroRange", "punchHole"],
    ["read", "write", "flush", "truncate", "punchHole", "zeroRange"],
  ];
  const busy = [images[job.top]!, images[job.base] ?? images[job.top]!];
  for (let count = dice.between(1, 4); count > 0; count--) {
    const image = target && dice.oneIn(2) ? target : dice.oneIn(6) ? dice.pick(images) : dice.pick(busy);
    const fromMs = dice.oneIn(3) ? dice.below(calmMs) : Math.max(0, job.startMs + dice.between(-5, 60));
    const errno: Errno = dice.pick(["EIO", "ENOSPC"]);
    const perMille = dice.pick([10, 30, 100, 300, 1000]);
    const toMs = dice.oneIn(3) ? calmMs : Math.min(calmMs, fromMs + dice.between(10, 600));
    faults.push({ path: pathOf(image.name), verbs: dice.pick(verbs), errno, perMille, fromMs, toMs });
  }
  return faults;
}

function planSpace(
  dice: Dice,
  { chain, target, job }: { chain: readonly ImagePlan[]; target: ImagePlan | undefined; job: JobPlan },
): SpacePlan[] {
  const written = target ?? chain[job.kind === "stream" ? job.top : job.base] ?? chain.at(-1)!;
  return [{ path: pathOf(written.name), bytes: dice.below(written.size) }];
}
