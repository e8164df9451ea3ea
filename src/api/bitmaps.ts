/**
 * Dirty bitmaps for library callers: they record which parts of a node are written, for incremental backups
 * (`backup(..., { sync: "incremental", bitmap })`). Refusals are CommandErrors in QEMU's words.
 */
import * as commands from "../block/bitmap/commands.ts";
import { skipImplicitFilters } from "../block/model/chain.ts";
import { findDirtyBitmap } from "../block/model/dirty-bitmap.ts";
import type { Node } from "./node.ts";
import { checkArgument, checkNodes, optionsOf, type OptionTable } from "./options.ts";

/** What a bitmap is and holds. */
export interface BitmapInfo {
  name: string;
  /** Bytes for which one bit stands. */
  granularity: number;
  /** Bytes that are dirty, in whole granules. */
  dirtyBytes: number;
  /** Writes set bits now. */
  recording: boolean;
  /** A job uses it. */
  busy: boolean;
  /** It is kept in the image. */
  persistent: boolean;
  /** The image was not closed well: the bits are not known. It can only be removed. */
  inconsistent: boolean;
}

/** Options of addBitmap(). */
export interface AddBitmapOptions {
  /** A power of two, 512 or more, bytes. Default: the cluster size within 4 KiB … 64 KiB, else 64 KiB. */
  granularity?: number;
  /** Kept in the image when it is closed; the format must be able to (qcow2 version 3). Default false. */
  persistent?: boolean;
  /** Does not record until enableBitmap(). Default false. */
  disabled?: boolean;
}

/** The types of addBitmap()'s options. */
export const addBitmapOptions = {
  granularity: "int",
  persistent: "bool",
  disabled: "bool",
} as const satisfies OptionTable<AddBitmapOptions>;

const checkAdd = optionsOf<AddBitmapOptions>(addBitmapOptions);
const checkRange = optionsOf<{ offset?: number; most?: number }>({ offset: "Length", most: "int" });

/** The node's bitmaps, newest first. */
export function bitmaps(node: Node): BitmapInfo[] {
  checkNodes({ node });
  return skipImplicitFilters(node.blockNode).dirtyBitmaps.flatMap((bitmap) => {
    if (bitmap.name === undefined) return [];
    const { name, granularity, dirtyBytes, recording, busy, persistent, inconsistent } = bitmap;
    return [{ name, granularity, dirtyBytes, recording, busy, persistent, inconsistent }];
  });
}

/** Adds a bitmap, all clean, that records from now on. Throws when the name is taken or the format can't keep it. */
export function addBitmap(node: Node, name: string, options: AddBitmapOptions = {}): void {
  checkAdd(options);
  checkNamed(node, name);
  commands.addBitmap(node.engine.graph, { node: node.name, name, ...options });
}

/** Removes a bitmap. Throws when there is none or a job uses it. */
export function removeBitmap(node: Node, name: string): void {
  checkNamed(node, name);
  commands.removeBitmap(node.engine.graph, { node: node.name, name });
}

/** Marks everything clean. Throws when a job uses the bitmap. */
export function clearBitmap(node: Node, name: string): void {
  checkNamed(node, name);
  commands.clearBitmap(node.engine.graph, { node: node.name, name });
}

/** Switches recording on, or off with `enabled` false. Throws when a job uses the bitmap. */
export function enableBitmap(node: Node, name: string, enabled = true): void {
  checkNamed(node, name);
  checkArgument("enabled", enabled, "bool");
  commands.enableBitmap(node.engine.graph, { node: node.name, name }, enabled);
}

/** A bitmap of the same node (its name), or of another one of the same engine. */
export type BitmapSource = string | { node: Node; name: string };

/** Adds the bits of other bitmaps to one of the node; all or none. Throws when a job uses one of them. */
export function mergeBitmaps(node: Node, target: string, sources: readonly BitmapSource[]): void {
  checkNamed(node, target, "target");
  commands.mergeBitmaps(node.engine.graph, { node: node.name, target, bitmaps: namedSources(sources) });
}

/** Sources as commands take them. */
export function namedSources(sources: readonly BitmapSource[]): (string | commands.BitmapName)[] {
  return sources.map((source) =>
    typeof source === "string" ? source : { node: source.node.name, name: source.name },
  );
}

/** The dirty ranges, up to `most` of them from `offset` on, bytes. Undefined where there is no such bitmap. */
export function dirtyRanges(
  node: Node,
  name: string,
  range: { offset?: number; most?: number } = {},
): { offset: number; bytes: number }[] | undefined {
  checkRange(range);
  checkNamed(node, name);
  const { offset = 0, most = 1024 } = range;
  const bitmap = findDirtyBitmap(skipImplicitFilters(node.blockNode), name)?.bitmap;
  return bitmap?.extents(offset, bitmap.length, most);
}

function checkNamed(node: unknown, name: unknown, argument = "name"): void {
  checkNodes({ node });
  checkArgument(argument, name, "str");
}
