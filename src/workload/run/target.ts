/**
 * The disk that a run works on: one in memory, an image or device by its name, or any graph of nodes by its description.
 *
 * Invariants: a run that writes touches no block device, and no disk that holds data, unless the caller says so; a mounted device
 * never. What was really opened, and how, is told.
 */
import { describeImage } from "../../api/named.ts";
import { openNodeIn } from "../../api/open.ts";
import type { Node } from "../../api/node.ts";
import type { OpenSpec } from "../../api/specs.ts";
import { errnoOf } from "../../base/errors.ts";
import type { Host } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { BlockBackend, guestPermissions, readerPermissions } from "../../block/graph/backend.ts";
import { blockStatusAbove } from "../../block/io/status.ts";
import { plainFormat } from "../../drivers/format/defaults.ts";
import { imageFilename } from "../../block/model/filename.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Engine } from "../../machine/engine.ts";
import { WorkloadError } from "../model/plan.ts";
import { bytesOf } from "../model/units.ts";

/** What a run asks of its disk. */
export interface TargetWish {
  /** A path, a URL, `memory`, `memory:SIZE`, or the description of a node; undefined: memory. */
  readonly target: unknown;
  /** How long the disk must be for all requests to have their place, bytes. */
  readonly bytes: number;
  readonly writes: boolean;
  /** Jobs work on it, which lose nothing of it. */
  readonly hasJobs?: boolean;
  /** Allows writes to block devices and to disks that hold data. */
  readonly overwrite: boolean;
  readonly direct: boolean;
  /** A file that is not there is made, as fio does. */
  readonly makes: boolean;
  /** What is in memory outlives its node, which is opened again. */
  readonly outlives: boolean;
  /** What was opened before. */
  readonly spec?: OpenSpec;
}

/** Whether a path is a device that is mounted, or holds what is; absent: nobody can tell. */
export type IsMounted = (path: string) => Promise<boolean>;

/** A disk, opened. */
export interface Target {
  readonly backend: BlockBackend;
  readonly node: Node;
  readonly told: TargetResult;
  readonly notes: readonly string[];
  /** By which it can be opened again. */
  readonly spec: OpenSpec;
  /** Nothing but zeroes was in it. */
  readonly isBlank: boolean;
}

/** What results tell of the disk. */
export interface TargetResult {
  /** As it was asked for. */
  readonly name: string;
  readonly driver: string;
  /** The drivers below it, from the top down. */
  readonly chain: readonly string[];
  readonly length: number;
  readonly readOnly: boolean;
  /** The page cache was really bypassed. */
  readonly direct: boolean;
}

function isMemory(target: unknown): boolean {
  return target === undefined || (typeof target === "string" && /^memory(:|$)/.test(target));
}

/** The description of a disk in memory. */
function memorySpec(target: unknown, { bytes, outlives }: TargetWish): OpenSpec {
  const text = typeof target === "string" ? target.slice("memory:".length) : "";
  const size = text === "" ? bytes : bytesOf(text, "the target's size");
  return { driver: "memory", ...room(size, outlives), discard: "unmap" };
}

function room(size: number, outlives: boolean): { size: number } | { buffer: Uint8Array } {
  return outlives ? { buffer: new Uint8Array(size) } : { size };
}

function parseSpec(target: string): OpenSpec | undefined {
  const text = target.startsWith("json:") ? target.slice("json:".length) : target.trim();
  if (!text.startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as OpenSpec;
  } catch (error) {
    throw new WorkloadError(`the target is no JSON: ${(error as Error).message}`);
  }
}

/** Gives disks in memory, at any depth of a description, the length that is asked of them. */
function sized(spec: OpenSpec, wish: TargetWish): OpenSpec {
  const given = spec as unknown as Record<string, unknown>;
  if (given["driver"] === "memory" && given["buffer"] === undefined) {
    const { size = wish.bytes, ...rest } = given;
    const bytes = bytesOf(size, "the target's size");
    return { ...rest, ...room(bytes, wish.outlives) } as unknown as OpenSpec;
  }
  const entries = Object.entries(given).map(([name, value]) =>
    typeof value === "object" && value !== null && "driver" in value
      ? [name, sized(value as OpenSpec, wish)]
      : [name, value],
  );
  return Object.fromEntries(entries) as OpenSpec;
}

/** Makes a file that is not there, as long as it is needed; lengthens an empty one. */
async function makeFile(engine: Engine, path: string, bytes: number): Promise<string | undefined> {
  const { files } = engine.graph.host;
  const info = await files.info(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  });
  if (info && (info.kind !== "file" || info.size > 0)) return undefined;
  // A raw file under such a name would be measured in the image's place.
  if (!info && /\.(qcow2?|vmdk|vdi|vhdx?)$/i.test(path))
    throw new WorkloadError(`'${path}' is not there, and an image is not made here`);
  await files.create(path, { size: bytes, ...(info ? {} : { exclusive: true }) });
  return `${path}: made, ${bytes} bytes`;
}

/** The way to a file at the bottom of a description, with the page cache bypassed. */
function withDirect(spec: OpenSpec): OpenSpec {
  const given = spec as unknown as Record<string, unknown>;
  const file = given["file"];
  const below = typeof file === "object" && file !== null ? { file: withDirect(file as OpenSpec) } : {};
  const isFile = given["driver"] === "file" || given["driver"] === "host_device";
  return { ...given, ...below, ...(isFile ? { cache: { direct: true } } : {}) } as unknown as OpenSpec;
}

async function describe(engine: Engine, wish: TargetWish, notes: string[]): Promise<OpenSpec> {
  const { target, bytes } = wish;
  if (wish.spec) return wish.spec;
  if (isMemory(target)) return memorySpec(target, wish);
  if (typeof target === "object" && target !== null) return sized(target as OpenSpec, wish);
  if (typeof target !== "string") throw new WorkloadError(`the target is neither a name nor a description`);
  const parsed = parseSpec(target);
  if (parsed) return sized(parsed, wish);
  const isUrl = /^[a-z][a-z0-9+.-]+:/i.test(target);
  const made = wish.makes && !isUrl ? await makeFile(engine, target, bytes) : undefined;
  if (made !== undefined) notes.push(made);
  if (made !== undefined) return { driver: plainFormat, file: { driver: "file", filename: target } };
  return describeImage(engine, target);
}

async function openDirect(engine: Engine, spec: OpenSpec, wish: TargetWish, notes: string[]): Promise<Node> {
  const readOnly = !wish.writes && wish.hasJobs !== true;
  if (!wish.direct) return openNodeIn(engine, spec, readOnly ? { readOnly } : {});
  try {
    return await openNodeIn(engine, withDirect(spec), readOnly ? { readOnly } : {});
  } catch (error) {
    if (errnoOf(error) !== "EINVAL" && errnoOf(error) !== "ENOTSUP") throw error;
    notes.push("direct I/O is not possible there: the page cache is used");
    return openNodeIn(engine, spec, readOnly ? { readOnly } : {});
  }
}

/** A node and what it lies in, from the top down. */
function* stack(node: BlockNode): Generator<BlockNode> {
  yield node;
  const below = (node.primary ?? node.filtered)?.node;
  if (below) yield* stack(below);
}

/** Whether anything but zeroes can be read. */
export async function holdsData(backend: BlockBackend): Promise<boolean> {
  const { length, node } = backend;
  const { kernels } = node!.services;
  const buffer = new Uint8Array(MiB);
  for (let at = 0; at < length;) {
    const found = await blockStatusAbove(node!, at, length - at);
    if (found.zero) {
      at += found.bytes;
      continue;
    }
    const piece = buffer.subarray(0, Math.min(MiB, found.bytes));
    await backend.pread(at, piece);
    if (!kernels.isZero(piece)) return true;
    at += piece.length;
  }
  return false;
}

/** Refuses a block device: one that is mounted always. */
async function refuseDevice(
  { files }: Host,
  filename: string,
  { overwrite, isMounted }: { overwrite: boolean; isMounted: IsMounted | undefined },
): Promise<void> {
  const info = await files.info(filename).catch(() => undefined);
  if (info?.kind !== "block-device") return;
  if (await isMounted?.(filename))
    throw new WorkloadError(`'${filename}' is mounted: a run that writes to it is refused`);
  if (!overwrite)
    throw new WorkloadError(`'${filename}' is a block device: a run that writes needs --overwrite`);
}

async function refuseLoss(backend: BlockBackend, wish: TargetWish, isMounted?: IsMounted): Promise<void> {
  for (const node of stack(backend.node!)) {
    const filename = imageFilename(node);
    if (node.type.kind === "protocol" && filename !== "")
      await refuseDevice(backend.graph.host, filename, { overwrite: wish.overwrite, isMounted });
  }
  if (wish.overwrite || isMemory(wish.target)) return;
  if (await holdsData(backend))
    throw new WorkloadError(`'${nameOf(wish.target)}' holds data: a run that writes needs --overwrite`);
}

function nameOf(target: unknown): string {
  if (target === undefined) return "memory";
  return typeof target === "string"
    ? target
    : JSON.stringify(target, (_key, value: unknown) =>
        value instanceof Uint8Array ? `${value.length} bytes` : value,
      );
}

/** Opens the disk of a run. Throws WorkloadError for what is refused, BlockError for what fails. */
export async function openTarget(engine: Engine, wish: TargetWish, isMounted?: IsMounted): Promise<Target> {
  const notes: string[] = [];
  const { target, overwrite } = wish;
  // What is a device by its name is not even opened.
  if (wish.writes && typeof target === "string" && parseSpec(target) === undefined)
    await refuseDevice(engine.graph.host, target, { overwrite, isMounted });
  const spec = await describe(engine, wish, notes);
  const node = await openDirect(engine, spec, wish, notes);
  const backend = new BlockBackend(engine.graph);
  await backend.attach(node.blockNode, wish.writes ? guestPermissions : readerPermissions);
  if (wish.writes && node.readOnly)
    throw new WorkloadError(`'${nameOf(wish.target)}' is read-only, and the workload writes`);
  if (wish.writes) await refuseLoss(backend, wish, isMounted);
  const nodes = [...stack(node.blockNode)];
  const told: TargetResult = {
    name: nameOf(wish.target),
    driver: node.blockNode.type.name,
    chain: nodes.slice(1).map(({ type }) => type.name),
    length: node.length,
    readOnly: node.readOnly,
    direct: nodes.at(-1)!.options.cacheDirect,
  };
  const isBlank = wish.writes && !(wish.overwrite && !isMemory(target));
  return { backend, node, told, notes, spec, isBlank };
}
