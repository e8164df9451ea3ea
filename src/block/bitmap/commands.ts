/**
 * What commands and transactions do to named dirty bitmaps, in QEMU's words. Each change returns how to undo it.
 * Source: behaviour of QEMU 7.2's block-dirty-bitmap-* commands.
 */
import { CommandError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { alignUp, isPowerOfTwo } from "../../base/ranges.ts";
import {
  type DirtyBitmap,
  createDirtyBitmap,
  defaultGranularity,
  findDirtyBitmap,
} from "../model/dirty-bitmap.ts";
import type { GraphView } from "../model/contract.ts";
import { type BlockNode, nodeOf } from "../model/node.ts";

/** Takes a change back. */
export type Undo = () => void;

/** Names a bitmap. */
export interface BitmapName {
  node: string;
  name: string;
}

/** Arguments of block-dirty-bitmap-add. */
export interface BitmapToAdd extends BitmapName {
  granularity?: number;
  persistent?: boolean;
  disabled?: boolean;
}

/** Arguments of block-dirty-bitmap-merge; sources without a node are the target node's. */
export interface BitmapsToMerge {
  node: string;
  target: string;
  bitmaps: readonly (string | BitmapName)[];
}

/** The node that is to have a bitmap; the words are those of commands on bitmaps that there are. */
function holder(graph: GraphView, name: string): BlockNode {
  try {
    return nodeOf(graph.lookup(name));
  } catch (cause) {
    throw new CommandError(`Node '${name}' not found`, { code: "ENOENT", cause });
  }
}

/** The bitmap of that name, or `Dirty bitmap 'x' not found`. */
export function lookupBitmap(graph: GraphView, { node, name }: BitmapName): DirtyBitmap {
  const bitmap = findDirtyBitmap(holder(graph, node), name);
  if (!bitmap) throw new CommandError(`Dirty bitmap '${name}' not found`, { code: "ENOENT" });
  return bitmap;
}

/** Adds a bitmap. */
export function addBitmap(graph: GraphView, args: BitmapToAdd): Undo {
  if (args.name === "") throw new CommandError("Bitmap name cannot be empty");
  const node = nodeOf(graph.lookup(args.node));
  const granularity = args.granularity ?? defaultGranularity(node);
  const isLegal = granularity >= limits.minGranularity && granularity <= limits.maxBitmapGranularity;
  if (!isLegal || !isPowerOfTwo(granularity)) {
    throw new CommandError("Granularity must be power of 2 and at least 512");
  }
  if (args.persistent) checkStore(node, args.name, granularity);
  if (new TextEncoder().encode(args.name).byteLength > limits.maxBitmapNameBytes) {
    throw new CommandError(`Bitmap name too long: ${args.name}`);
  }
  const bitmap = createDirtyBitmap(node, { name: args.name, granularity });
  bitmap.persistent = args.persistent ?? false;
  bitmap.enabled = !args.disabled;
  bitmap.noteChange();
  return () => bitmap.release();
}

function checkStore(node: BlockNode, name: string, granularity: number): void {
  const store = node.driver.bitmapStore?.();
  if (!store)
    throw new CommandError(`Can't store persistent bitmaps to ${node.name}: Operation not supported`, {
      code: "ENOTSUP",
    });
  if (!findDirtyBitmap(node, name)) store.canStore(name, granularity);
}

/** Removes a bitmap. In a transaction, call the undo or `release` the bitmap at the end. */
export function removeBitmap(graph: GraphView, args: BitmapName): void {
  const bitmap = lookupBitmap(graph, args);
  bitmap.check({ inconsistent: true });
  bitmap.release();
}

/** Marks everything clean. */
export function clearBitmap(graph: GraphView, args: BitmapName): Undo {
  const bitmap = lookupBitmap(graph, args);
  bitmap.check();
  const before = bitmap.bitmap.clone();
  bitmap.bitmap.clear();
  bitmap.noteChange();
  return () => {
    bitmap.bitmap.free();
    bitmap.bitmap = before;
    bitmap.noteChange();
  };
}

/** Switches recording on or off. */
export function enableBitmap(graph: GraphView, args: BitmapName, enabled: boolean): Undo {
  const bitmap = lookupBitmap(graph, args);
  bitmap.check({ readOnly: true });
  const before = bitmap.enabled;
  bitmap.enabled = enabled;
  bitmap.noteChange();
  return () => {
    bitmap.enabled = before;
    bitmap.noteChange();
  };
}

/** Adds the bits of other bitmaps to one. All or none. */
export function mergeBitmaps(graph: GraphView, args: BitmapsToMerge): Undo {
  const target = lookupBitmap(graph, { node: args.node, name: args.target });
  target.check();
  const sources = args.bitmaps.map((source) =>
    lookupBitmap(graph, typeof source === "string" ? { node: args.node, name: source } : source),
  );
  for (const source of sources) {
    source.check({ readOnly: true });
    if (source.bitmap.length !== target.bitmap.length) {
      throw new CommandError(
        `Bitmaps are of different sizes (destination size is ${target.bitmap.length}, source size is ` +
          `${source.bitmap.length}) and can't be merged`,
      );
    }
  }
  const before = target.bitmap.clone();
  for (const source of sources) target.bitmap.merge(source.bitmap);
  target.noteChange();
  return () => {
    target.bitmap.free();
    target.bitmap = before;
    target.noteChange();
  };
}

/** SHA-256 of the bits in 64-bit words, little endian, hex; what QEMU hashes. */
export async function bitmapSha256(graph: GraphView, args: BitmapName): Promise<string> {
  const bits = lookupBitmap(graph, args).bitmap.serialize();
  const words = new Uint8Array(Math.max(8, alignUp(bits.byteLength, 8)));
  words.set(bits);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", words));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
