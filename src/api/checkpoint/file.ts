/**
 * The file of a checkpoint, in any storage that the engine has a driver for: two slots in turn, each with its number and digests, so
 * that a write that was torn leaves the one before.
 *
 * Invariants: the slot with the higher number counts, if it is whole; the file is held alone from its opening to its closing where the
 * platform has locks, and where it has none, whoever opened it last is told by his mark, which the others look for before each write;
 * what is no checkpoint is never written to. Layout: 4 KiB with the magic and the mark; a slot every 64 MiB behind it (the file is
 * sparse): magic, number, lengths, XXH3 of the payload, XXH3 of these; at 512 the payload, JSON and tables.
 */
import { failed } from "../../base/lease.ts";
import { BlockError, errnoOf, messageOf } from "../../base/errors.ts";
import { MiB } from "../../base/limits.ts";
import type { NodeSpec } from "../../block/model/contract.ts";
import type { RootLease } from "../../block/graph/edges.ts";
import { Perm } from "../../block/model/permissions.ts";
import type { Engine } from "../../machine/engine.ts";
import type { NewFile } from "../open.ts";
import { type CheckpointState, decodeState, encodeState } from "./state.ts";

/** Where a checkpoint is kept: a path, or a description of a file of the host, of the browser's file system or a database. */
export type CheckpointRef = string | NewFile;

const MAGIC = "blockwright checkpoint 1\n";
const SLOT_MAGIC = "bwslot01";
const HEADER = 4096;
const MARK_AT = 64;
const SLOT_STRIDE = 64 * MiB;
const SLOT_HEAD = 512;

/** An open checkpoint. */
export class CheckpointFile {
  /** As its user calls it. */
  readonly name: string;
  /** What it said when it was opened; undefined: it is new. */
  readonly found: CheckpointState | undefined;
  /** What its user wants to keep in it, where it is new. */
  note: unknown;
  /** It stays when the job has ended well: its user has more to do, and calls finish(). */
  stays = false;
  readonly #engine: Pick<Engine, "graph">;
  readonly #file: NewFile;
  readonly #mark: bigint;
  #root: RootLease | undefined;
  #number: number;
  #last: CheckpointState | undefined;

  private constructor(
    engine: Pick<Engine, "graph">,
    init: {
      file: NewFile;
      root: RootLease;
      found: CheckpointState | undefined;
      number: number;
      mark: bigint;
    },
  ) {
    this.#engine = engine;
    this.#file = init.file;
    this.name = init.file.filename;
    this.#root = init.root;
    this.found = init.found;
    this.#last = init.found;
    this.#number = init.number;
    this.#mark = init.mark;
  }

  /**
   * Opens it, and makes it if it is not there and `create` is set. ENOENT; EBUSY while another process works on it; EINVAL for a file
   * that is no checkpoint.
   */
  static async open(
    engine: Pick<Engine, "graph">,
    ref: CheckpointRef,
    { create = false }: { create?: boolean } = {},
  ): Promise<CheckpointFile> {
    const file: NewFile = typeof ref === "string" ? { driver: "file", filename: ref } : ref;
    const node = await openOrMake(engine, file, create);
    const root = await held(engine, file, node);
    try {
      const { found, number } = await readFile(engine, file.filename, root);
      if (found?.stage === "done")
        throw refusal("ENOENT", `the work of the checkpoint '${file.filename}' is done`);
      const { random } = engine.graph.host;
      const mark = (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
      await writeHeader(root, mark);
      return new CheckpointFile(engine, { file, root, found, number, mark });
    } catch (error) {
      return failed(error, () => root.end());
    }
  }

  /** Nothing was written to it. */
  get isEmpty(): boolean {
    return this.#last === undefined;
  }

  /** Writes a state; it is durable when this resolves. ESTALE where another process has taken the checkpoint over. */
  async save(state: CheckpointState): Promise<void> {
    const edge = this.#edge;
    const mark = new Uint8Array(8);
    await edge.pread(MARK_AT, mark);
    if (new DataView(mark.buffer).getBigUint64(0, true) !== this.#mark)
      throw refusal("ESTALE", `another process has taken the checkpoint '${this.name}' over`);
    this.#number += 1;
    const slot = slotOf(this.#engine, this.#number, state);
    if (slot.length > SLOT_STRIDE)
      throw refusal("EFBIG", "the disk is too large for a checkpoint at this granularity");
    await writeAt(this.#root!, offsetOf(this.#number), slot);
    await edge.flush();
    this.#last = state;
  }

  /** Ends it: nothing is left to do. The file goes. */
  async finish(): Promise<void> {
    // Whoever has opened it and waits for it is told.
    if (this.#last) await this.save({ ...this.#last, stage: "done" });
    await this.close();
    const { graph } = this.#engine;
    await graph.driver(this.#file.driver).remove?.({ graph, host: graph.host }, { ...this.#file });
  }

  /** Lets others have it. */
  async close(): Promise<void> {
    const root = this.#root;
    this.#root = undefined;
    await root?.end();
  }

  get #edge(): RootLease["edge"] {
    if (!this.#root) throw refusal("ENOMEDIUM", "the checkpoint is closed");
    return this.#root.edge;
  }
}

function refusal(
  code: "ENOENT" | "EBUSY" | "EINVAL" | "ESTALE" | "EFBIG" | "ENOMEDIUM",
  message: string,
): BlockError {
  return new BlockError({ code, op: "checkpoint", message });
}

type FileNode = Awaited<ReturnType<Engine["graph"]["open"]>>;

async function openOrMake(engine: Pick<Engine, "graph">, file: NewFile, create: boolean): Promise<FileNode> {
  const spec = { ...file, "read-only": false } as unknown as NodeSpec;
  const { graph } = engine;
  try {
    return await graph.open(spec);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" || !create) throw busyOr(error, file.filename);
  }
  try {
    const how = { size: 0, exclusive: true, inPlace: true };
    await graph.driver(file.driver).create?.({ graph, host: graph.host }, { ...file, ...how });
  } catch (error) {
    // Another process was faster: then it has it.
    if (errnoOf(error) !== "EEXIST") throw busyOr(error, file.filename);
  }
  return graph.open(spec).catch((error: unknown) => {
    throw busyOr(error, file.filename);
  });
}

function busyOr(error: unknown, name: string): unknown {
  if (!["EAGAIN", "EBUSY", "EPERM"].includes(errnoOf(error))) return error;
  const message = `another process works on the checkpoint '${name}'`;
  return new BlockError({ code: "EBUSY", op: "checkpoint", message, cause: error });
}

async function held({ graph }: Pick<Engine, "graph">, file: NewFile, node: FileNode): Promise<RootLease> {
  try {
    // Nobody else reads or writes it: by the image locks no other process either.
    const perm = Perm.consistentRead | Perm.write | Perm.resize;
    return await graph.root(node, { perm, shared: 0 });
  } catch (error) {
    throw busyOr(error, file.filename);
  } finally {
    await graph.release(node);
  }
}

/** The slot that counts. Throws EINVAL for a file that is none of ours. */
async function readFile(
  engine: Pick<Engine, "graph">,
  name: string,
  root: RootLease,
): Promise<{ found: CheckpointState | undefined; number: number }> {
  const { length } = root.edge;
  if (length === 0) return { found: undefined, number: 0 };
  const no = (why: string): BlockError => refusal("EINVAL", `'${name}' is no checkpoint${why}`);
  const header = new Uint8Array(Math.min(HEADER, length));
  await root.edge.pread(0, header);
  // A process that ended before it had written anything.
  if (length <= HEADER && header.every((byte) => byte === 0)) return { found: undefined, number: 0 };
  if (!startsWith(header, MAGIC)) throw no("");
  const slots = [await readSlot(engine, root, 0), await readSlot(engine, root, 1)];
  const [best] = slots
    .filter((slot) => slot !== undefined)
    .toSorted((one, other) => other.number - one.number);
  try {
    return best
      ? { found: decodeState(best.json, best.tables), number: best.number }
      : { found: undefined, number: 0 };
  } catch (error) {
    throw no(` of this version: ${messageOf(error)}`);
  }
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  return new TextDecoder().decode(bytes.subarray(0, text.length)) === text;
}

interface Slot {
  readonly number: number;
  readonly json: Uint8Array;
  readonly tables: Uint8Array;
}

/** One slot; undefined where it is not whole. */
async function readSlot(
  engine: Pick<Engine, "graph">,
  { edge }: RootLease,
  which: number,
): Promise<Slot | undefined> {
  const offset = HEADER + which * SLOT_STRIDE;
  if (edge.length < offset + SLOT_HEAD) return undefined;
  const head = new Uint8Array(SLOT_HEAD);
  await edge.pread(offset, head);
  const view = new DataView(head.buffer);
  const { kernels } = engine.graph;
  if (!startsWith(head, SLOT_MAGIC) || view.getBigUint64(40, true) !== kernels.xxh3(head.subarray(0, 40)))
    return undefined;
  const [jsonBytes, tableBytes] = [view.getUint32(16, true), view.getUint32(20, true)];
  const payload = new Uint8Array(jsonBytes + tableBytes);
  if (edge.length < offset + SLOT_HEAD + payload.length) return undefined;
  await edge.pread(offset + SLOT_HEAD, payload);
  if (view.getBigUint64(24, true) !== kernels.xxh3(payload)) return undefined;
  return {
    number: Number(view.getBigUint64(8, true)),
    json: payload.subarray(0, jsonBytes),
    tables: payload.subarray(jsonBytes),
  };
}

function offsetOf(number: number): number {
  return HEADER + (number % 2) * SLOT_STRIDE;
}

function slotOf({ graph }: Pick<Engine, "graph">, number: number, state: CheckpointState): Uint8Array {
  const { json, tables } = encodeState(state);
  const slot = new Uint8Array(SLOT_HEAD + json.length + tables.length);
  const payload = slot.subarray(SLOT_HEAD);
  payload.set(json);
  payload.set(tables, json.length);
  const view = new DataView(slot.buffer);
  slot.set(new TextEncoder().encode(SLOT_MAGIC));
  view.setBigUint64(8, BigInt(number), true);
  view.setUint32(16, json.length, true);
  view.setUint32(20, tables.length, true);
  view.setBigUint64(24, graph.kernels.xxh3(payload), true);
  view.setBigUint64(40, graph.kernels.xxh3(slot.subarray(0, 40)), true);
  return slot;
}

async function writeHeader(root: RootLease, mark: bigint): Promise<void> {
  const header = new Uint8Array(HEADER);
  header.set(new TextEncoder().encode(MAGIC));
  new DataView(header.buffer).setBigUint64(MARK_AT, mark, true);
  // A sector of its own: torn or not, magic and mark are as before or as now.
  await writeAt(root, 0, header);
  await root.edge.flush();
}

/** Writes, and makes the file longer where it is too short; storage of whole sectors is given whole ones. */
async function writeAt({ edge }: RootLease, offset: number, bytes: Uint8Array): Promise<void> {
  const padded = new Uint8Array(Math.ceil(bytes.length / SLOT_HEAD) * SLOT_HEAD);
  padded.set(bytes);
  const end = offset + padded.length;
  if (edge.length < end) await edge.truncate(end, { exact: false, preallocation: "off" });
  await edge.pwrite(offset, padded);
}
