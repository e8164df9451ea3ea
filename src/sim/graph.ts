/**
 * A graph described in a file, for stories on it: the nodes as QMP's blockdev-add takes them, nested or in a list, with what
 * their images are made with. What the description leaves open is drawn by each story.
 *
 * Invariant: every image lies in one simulated file, or in memory; filters stand where the description has them.
 */
import type { NodeSpec } from "../block/model/contract.ts";
import { valuesOf } from "../wire/qapi/index.ts";

/** A graph that can't be simulated, told in words for people. */
export class GraphError extends Error {
  override readonly name = "GraphError";
}

/** One image: its format's node, what lies under and over it. */
export interface ImageDescription {
  /** The name of its format's node. */
  readonly name: string;
  readonly format: "raw" | "qcow2";
  readonly memory: boolean;
  /** The node of the format, its file below, without its backing file. */
  readonly spec: NodeSpec;
  /** Filters over it, the lowest first, without their children. */
  readonly filters: readonly NodeSpec[];
  /** Options of its creation, as QAPI's BlockdevCreateOptions has them. */
  readonly create: Readonly<Record<string, unknown>>;
}

/** A job of the graph's stories: a kind, and what is fixed of it. */
export interface JobDescription {
  readonly type: "mirror" | "backup" | "stream" | "commit";
  readonly fixed: Readonly<Record<string, unknown>>;
}

/** A graph for stories. */
export interface GraphDescription {
  /** Bytes of its disks; undefined: drawn. */
  readonly size: number | undefined;
  /** The chain, the lowest first. */
  readonly chain: readonly ImageDescription[];
  readonly target: ImageDescription | undefined;
  readonly throttleGroups: readonly {
    readonly id: string;
    readonly limits: Readonly<Record<string, unknown>>;
  }[];
  /** Which jobs run; empty: any that the graph allows. */
  readonly jobs: readonly JobDescription[];
}

type Json = Readonly<Record<string, unknown>>;

const FORMATS = ["raw", "qcow2"] as const;
const FILTERS = new Set(["throttle", "copy-on-read", "blkdebug", "compress"]);
const FILES = new Set(["file", "memory"]);
const JOBS = ["mirror", "backup", "stream", "commit"] as const;
const CREATE = new Set(["cluster-size", "version", "refcount-bits", "lazy-refcounts", "size"]);
const MEMBERS = new Set(["size", "disk", "target", "nodes", "jobs", "throttle-groups"]);
/** The largest disk: stories hold some copies of it. */
const MOST_BYTES = 64 * 2 ** 20;
const POLICIES = valuesOf("BlockdevOnError");
/** What can be fixed of a job: the words that it may be, or its type. */
const FIXED: Readonly<Record<string, readonly string[] | "number" | "boolean">> = {
  sync: ["full", "top", "none", "incremental"],
  "on-error": POLICIES,
  "on-source-error": POLICIES,
  "on-target-error": POLICIES,
  "copy-mode": ["background", "write-blocking"],
  speed: "number",
  granularity: "number",
  "auto-finalize": "boolean",
  "auto-dismiss": "boolean",
};

function bad(text: string): never {
  throw new GraphError(text);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A length: bytes, or with QEMU's suffixes. */
function bytesOf(value: unknown, what: string): number {
  const match = /^(\d+)([kKmM]?)$/.exec(String(value));
  const scale = { k: 2 ** 10, m: 2 ** 20 }[match?.[2]?.toLowerCase() ?? ""] ?? 1;
  const bytes = match ? Number(match[1]) * scale : Number.NaN;
  if (!(bytes >= 4096 && bytes <= MOST_BYTES && bytes % 4096 === 0))
    bad(`${what}: '${String(value)}' is no length: a multiple of 4096 from 4k to 64M`);
  return bytes;
}

/** The reader of one file. */
class Reader {
  readonly #nodes = new Map<string, Json>();
  readonly #open = new Set<string>();
  readonly #names = new Set<string>();
  #unnamed = 0;

  constructor(nodes: unknown) {
    if (!Array.isArray(nodes)) bad("'nodes' is no list");
    for (const node of nodes as unknown[]) {
      if (!isObject(node) || typeof node["node-name"] !== "string")
        bad("each of 'nodes' needs a 'node-name'");
      this.#nodes.set(node["node-name"], node);
    }
  }

  /** A child: described in its place, or the name of one of `nodes`. */
  #resolve(child: unknown, what: string): Json {
    if (isObject(child)) return child;
    if (typeof child !== "string") return bad(`${what} is no node`);
    const node = this.#nodes.get(child) ?? bad(`${what}: there is no node '${child}'`);
    if (this.#open.has(child)) bad(`${what}: the node '${child}' is used twice`);
    this.#open.add(child);
    return node;
  }

  #nameOf(node: Json): string {
    const given = node["node-name"] ?? `node${this.#unnamed++}`;
    if (typeof given !== "string" || !/^[A-Za-z][\w.-]{0,30}$/.test(given))
      bad(`${JSON.stringify(given)} is no name of a node`);
    if (["drive", "job"].includes(given)) bad(`'${given}' is the name of the story's own`);
    if (this.#names.has(given)) bad(`two nodes are called '${given}'`);
    this.#names.add(given);
    return given;
  }

  /** The chain from a node down, the lowest first. */
  chain(root: unknown, what: string): ImageDescription[] {
    const chain: ImageDescription[] = [];
    for (let at: unknown = root; at !== undefined && at !== null;) {
      const { image, backing } = this.#image(this.#resolve(at, what), what);
      chain.unshift(image);
      at = backing;
    }
    for (const [layer, { format, name }] of chain.entries())
      if (layer > 0 && format === "raw") bad(`'${name}': a raw image has no backing file`);
    return chain;
  }

  #image(top: Json, what: string): { image: ImageDescription; backing: unknown } {
    const filters: NodeSpec[] = [];
    let node = top;
    while (FILTERS.has(String(node["driver"]))) {
      filters.unshift(this.#filter(node));
      node = this.#resolve(node["file"] ?? node["image"], `the child of '${filters[0]!["node-name"]}'`);
    }
    const format = FORMATS.find((name) => name === node["driver"]);
    if (!format) {
      const known = [...FORMATS, ...FILTERS].join(", ");
      return bad(`${what}: the driver '${String(node["driver"])}' can't be simulated: there are ${known}`);
    }
    const name = this.#nameOf(node);
    const { backing, file, create = {}, ...own } = node;
    if (!isObject(create)) return bad(`'${name}': 'create' is no object`);
    const unknown = Object.keys(create).find((option) => !CREATE.has(option));
    if (unknown !== undefined)
      bad(`'${name}': 'create' has no '${unknown}': there are ${[...CREATE].join(", ")}`);
    if (format === "raw" && ("offset" in own || "size" in own))
      bad(`'${name}': a part of a raw file can't be simulated`);
    const below = this.#file(file ?? { driver: "file" }, name);
    if (format !== "raw" && below.memory) bad(`'${name}': only a raw image can be in memory`);
    const spec = { ...own, driver: format, "node-name": name, file: below.spec };
    return { image: { name, format, memory: below.memory, spec, filters, create }, backing };
  }

  #filter(node: Json): NodeSpec {
    const { file: _file, image: _image, ...own } = node;
    if ("inject-error" in own || "set-state" in own) bad("blkdebug: faults are the story's to inject");
    return { ...own, driver: String(own["driver"]), "node-name": this.#nameOf(node) };
  }

  /** What lies under a format: filters, then a file, which is a simulated one whatever it is called. */
  #file(child: unknown, name: string): { spec: NodeSpec; memory: boolean } {
    const node = this.#resolve(child, `the file of '${name}'`);
    const driver = String(node["driver"]);
    if (FILTERS.has(driver)) {
      const filter = this.#filter(node);
      const below = this.#file(node["file"] ?? node["image"], name);
      const key = driver === "blkdebug" ? "image" : "file";
      return { spec: { ...filter, [key]: below.spec }, memory: below.memory };
    }
    if (!FILES.has(driver))
      bad(`the file of '${name}': '${driver}' can't be simulated: there are file, memory`);
    return { spec: { driver, "node-name": this.#nameOf(node) }, memory: driver === "memory" };
  }
}

function jobOf(job: unknown): JobDescription {
  const { type, ...fixed } = isObject(job) ? job : { type: job };
  const known = JOBS.find((name) => name === type);
  if (!known) return bad(`there is no job '${String(type)}': there are ${JOBS.join(", ")}`);
  for (const [option, value] of Object.entries(fixed)) {
    const may = FIXED[option];
    if (!may)
      return bad(`the job ${known}: '${option}' can't be given: there are ${Object.keys(FIXED).join(", ")}`);
    const fits = typeof may === "string" ? typeof value === may : may.some((word) => word === value);
    if (!fits) bad(`the job ${known}: ${JSON.stringify(value)} is no '${option}'`);
  }
  if (fixed["sync"] === "incremental" && known !== "backup")
    bad(`the job ${known}: only a backup is incremental`);
  return { type: known, fixed };
}

function groupsOf(groups: unknown): GraphDescription["throttleGroups"] {
  if (!Array.isArray(groups)) return bad("'throttle-groups' is no list");
  return groups.map((group: unknown) => {
    if (!isObject(group) || typeof group["id"] !== "string") return bad("a throttle group needs an 'id'");
    const { id, limits = {} } = group;
    return isObject(limits) ? { id: String(id), limits } : bad("'limits' is no object");
  });
}

/** Reads a description: a node as blockdev-add takes it, or `{ disk, target?, nodes?, size?, jobs?, "throttle-groups"? }`. Throws GraphError. */
export function readGraph(json: unknown): GraphDescription {
  if (!isObject(json)) return bad("a graph is an object");
  const file: Json = "driver" in json ? { disk: json } : json;
  const unknown = Object.keys(file).find((member) => !MEMBERS.has(member));
  if (unknown !== undefined) bad(`a graph has no '${unknown}': there are ${[...MEMBERS].join(", ")}`);
  if (file["disk"] === undefined) bad("a graph needs 'disk', the node that the guest's disk is on");
  const reader = new Reader(file["nodes"] ?? []);
  const chain = reader.chain(file["disk"], "the disk");
  const targets = file["target"] === undefined ? [] : reader.chain(file["target"], "the target");
  if (targets.length > 1) bad("the target has a backing file: the story gives it one where its job wants it");
  const jobs = file["jobs"] ?? [];
  if (!Array.isArray(jobs)) return bad("'jobs' is no list");
  return {
    size: file["size"] === undefined ? undefined : bytesOf(file["size"], "size"),
    chain,
    target: targets[0],
    throttleGroups: groupsOf(file["throttle-groups"] ?? []),
    jobs: checkedJobs(jobs.map(jobOf), chain.length),
  };
}

/** Throws GraphError for jobs that the chain has no place for. */
function checkedJobs(jobs: readonly JobDescription[], depth: number): readonly JobDescription[] {
  const homeless = jobs.find(({ type }) => (type === "stream" || type === "commit") && depth < 2);
  if (homeless) bad(`the job ${homeless.type} needs a disk with a backing file`);
  return jobs;
}
