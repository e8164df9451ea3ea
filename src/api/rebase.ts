/**
 * Giving an image another backing file, its content staying what it is: what the old and the new backing file do not hold
 * alike is copied up first. Source: behaviour of qemu-img rebase 7.2.
 *
 * A crash at any time leaves the image whole: until the header changes it lies over the old backing file, with copies of what
 * that holds; they are durable before the header changes, and the header is when rebase() resolves.
 */
import { closing } from "../base/lease.ts";
import { BlockError, blockError } from "../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../base/limits.ts";
import { alignDown, alignUp } from "../base/ranges.ts";
import { BlockBackend, guestPermissions, readerPermissions } from "../block/graph/backend.ts";
import { chainContains, skipFilters, skipImplicitFilters } from "../block/model/chain.ts";
import { rewriteBacking } from "../block/graph/change.ts";
import { Req, Role } from "../block/model/contract.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { BlockNode } from "../block/model/node.ts";
import { blockStatus, blockStatusAbove } from "../block/io/status.ts";
import { type Node, releaseIdle } from "./node.ts";
import { checkNodes, followed, optionsOf } from "./options.ts";

const PIECE_BYTES = 2 * MiB;
/** Unit of copies into formats that tell none. */
const DEFAULT_UNIT = 65536;

/** The new backing file. */
export interface RebaseTarget {
  /** What the header shall say; a relative name counts from the image's directory. */
  filename: string;
  /** The header's word on the format; most images must have one. */
  format?: string;
  /** The backing file, open. The image lies over it afterwards. Left out in unsafe mode only. */
  node?: Node;
}

/** Options of rebase(). */
export interface RebaseOptions {
  /** Changes nothing but the header: the caller knows that the new backing file holds what the old one did. */
  unsafe?: boolean;
  /** Told how far it is: bytes looked at and in all. */
  onProgress?: (done: number, total: number) => void;
  /** Ends it before the header changes; the image is then as it was, or holds a little more. */
  signal?: AbortSignal;
}

const checkOptions = optionsOf<RebaseOptions>({ ...followed, unsafe: "bool" });
const checkTargetOptions = optionsOf<RebaseTarget>({ filename: "str", format: "str", node: "Node" });

/**
 * Rebases an open, writable image; `null` makes it independent. Throws BlockError: EINVAL for a target without a node in safe
 * mode, or of another engine, or above the image; ENOTSUP for formats without backing files; what reading and writing throw.
 */
export async function rebase(
  node: Node,
  target: RebaseTarget | null,
  options: RebaseOptions = {},
): Promise<void> {
  checkOptions(options);
  if (target !== null) checkTargetOptions(target);
  checkNodes({ node });
  const { graph } = node.engine;
  options.signal?.throwIfAborted();
  const image = skipImplicitFilters(node.blockNode);
  if (!image.driver.headerBacking) throw new BlockError({ code: "ENOTSUP", op: "rebase" });
  const below = target?.node?.blockNode;
  checkTarget(node, target, options);
  await releaseIdle(node.engine);
  const overlay = new BlockBackend(graph);
  const copyAndRewrite = async (): Promise<void> => {
    await overlay.attach(image, guestPermissions);
    if (!options.unsafe) await copyUp({ graph, overlay, image, below }, options);
    options.signal?.throwIfAborted();
    await rewriteBacking(image, target && headerLink(target));
    if (below || !target) await graph.setBacking(image, below ?? null, Role.cow);
  };
  await closing(copyAndRewrite, () => overlay.close());
}

function checkTarget(node: Node, target: RebaseTarget | null, { unsafe }: RebaseOptions): void {
  const refuse = (message: string): never => {
    throw blockError("EINVAL", "rebase", message);
  };
  if (!target?.node) {
    if (target && !unsafe) refuse("the new backing file must be open");
    return;
  }
  if (target.node.engine !== node.engine) refuse("the disks are open in different engines");
  if (chainContains(target.node.blockNode, skipImplicitFilters(node.blockNode)))
    refuse("the new backing file lies over the image");
}

function headerLink({ filename, format }: RebaseTarget): { filename: string; format?: string } {
  return { filename, ...(format === undefined ? {} : { format }) };
}

interface Places {
  graph: BlockGraph;
  overlay: BlockBackend;
  image: BlockNode;
  below: BlockNode | undefined;
}

async function copyUp({ graph, overlay, image, below }: Places, options: RebaseOptions): Promise<void> {
  const sides = [new BlockBackend(graph), new BlockBackend(graph)] as const;
  const attached = async (
    side: BlockBackend,
    node: BlockNode | undefined,
  ): Promise<BlockBackend | undefined> => {
    if (!node) return undefined;
    await side.attach(node, readerPermissions);
    return side;
  };
  const copy = async (): Promise<void> => {
    const before = await attached(sides[0], skipFilters(image).backing?.node);
    await new Rebase({ overlay, before, after: await attached(sides[1], below), options }).run();
  };
  await closing(copy, ...sides.map((side) => () => side.close()));
}

class Rebase {
  readonly #overlay: BlockBackend;
  readonly #before: BlockBackend | undefined;
  readonly #after: BlockBackend | undefined;
  readonly #options: RebaseOptions;
  readonly #unit: number;

  constructor(init: {
    overlay: BlockBackend;
    before: BlockBackend | undefined;
    after: BlockBackend | undefined;
    options: RebaseOptions;
  }) {
    this.#overlay = init.overlay;
    this.#before = init.before;
    this.#after = init.after;
    this.#options = init.options;
    const { limits, driver } = init.overlay.root!.node;
    // What an image takes from below it takes in whole units, so a copy never covers half of one.
    this.#unit = Math.max(
      limits.pwriteZeroesAlignment || driver.getInfo?.()?.clusterSize || DEFAULT_UNIT,
      SECTOR_SIZE,
    );
  }

  async run(): Promise<void> {
    const { onProgress, signal } = this.#options;
    const node = this.#overlay.root!.node;
    for (let at = 0; at < node.length;) {
      signal?.throwIfAborted();
      onProgress?.(at, node.length);
      const own = await blockStatus(node, at, node.length - at, false);
      at += own.allocated ? own.bytes : await this.#piece(at, own.bytes, signal);
    }
    onProgress?.(node.length, node.length);
  }

  /** Looks at a range that the image takes from below; how far it got. */
  async #piece(offset: number, bytes: number, signal: AbortSignal | undefined): Promise<number> {
    const before = await zeroes(this.#before, offset, bytes);
    const after = await zeroes(this.#after, offset, before.bytes);
    // Whole units, up to the image's end or to where it holds its own.
    const end = after.bytes >= bytes ? bytes : alignDown(after.bytes, this.#unit);
    if (before.zero && after.zero && end > 0) return end;
    const { arena, kernels } = this.#overlay.graph;
    const reach = Math.min(after.bytes, PIECE_BYTES);
    const length = Math.min(alignUp(reach, this.#unit), bytes);
    using slot = await arena.acquire(2 * length, signal);
    const old = slot.bytes.subarray(0, length);
    const next = slot.bytes.subarray(length, 2 * length);
    await read(this.#before, offset, old);
    await read(this.#after, offset, next);
    const runs = new Uint32Array(2 * (Math.ceil(length / this.#unit / 2) + 1));
    const count = kernels.differenceRuns(old, next, this.#unit, runs);
    for (let run = 0; run < count; run++) {
      const start = runs[2 * run]!;
      await this.#write(offset + start, old.subarray(start, start + runs[2 * run + 1]!));
    }
    return length;
  }

  /** Writes what the old backing file holds into the image: zeroes as such. */
  async #write(offset: number, data: Uint8Array): Promise<void> {
    const { kernels } = this.#overlay.graph;
    const runs = new Uint32Array(2 * (Math.ceil(data.byteLength / this.#unit / 2) + 1));
    const count = kernels.zeroRuns(data, this.#unit, runs);
    let done = 0;
    for (let run = 0; run < count; run++) {
      const start = runs[2 * run]!;
      const bytes = runs[2 * run + 1]!;
      if (start > done) await this.#overlay.pwrite(offset + done, data.subarray(done, start));
      await this.#overlay.pwriteZeroes(offset + start, bytes, Req.mayUnmap);
      done = start + bytes;
    }
    if (done < data.byteLength) await this.#overlay.pwrite(offset + done, data.subarray(done));
  }
}

/** Whether a backing file, or none, reads as zeroes there, and how far that goes. */
async function zeroes(
  side: BlockBackend | undefined,
  offset: number,
  bytes: number,
): Promise<{ zero: boolean; bytes: number }> {
  const node = side?.root?.node;
  if (!node || offset >= node.length) return { zero: true, bytes };
  const status = await blockStatusAbove(node, offset, bytes);
  return { zero: status.zero, bytes: status.bytes };
}

/** Reads what a backing file shows of a range: beyond its end, and without one, zeroes. */
async function read(side: BlockBackend | undefined, offset: number, buffer: Uint8Array): Promise<void> {
  const there = Math.max(Math.min(buffer.byteLength, (side?.length ?? 0) - offset), 0);
  buffer.fill(0, there);
  if (there > 0) await side!.pread(offset, buffer.subarray(0, there));
}
