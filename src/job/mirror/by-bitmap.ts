/**
 * A mirror by a dirty bitmap (`sync=bitmap`): only what the bitmap says is copied, so that a target which was the same once is
 * brought up to date. QEMU has no such mirror; its backup's words and modes are kept.
 *
 * Invariant: the bitmap goes on recording during the job. It loses a bit only where, at the job's end, source and target were
 * the same with the source drained, and the target's storage had it: what it says is never less than what differs.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import { Lease } from "../../base/lease.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { type DirtyBitmap, findDirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

/** What such a mirror takes beside the others' arguments. */
export interface BitmapArgs {
  bitmap?: string;
  "bitmap-mode"?: TypeOf<"BitmapSyncMode">;
}

/** The bitmap, and what becomes of it at the end. */
export interface SyncBitmap {
  bitmap: DirtyBitmap;
  mode: TypeOf<"BitmapSyncMode">;
}

/** How a mirror ended. */
export interface MirrorEnd {
  succeeded: boolean;
  /** What source and target differ in. */
  different: Bitmap;
  /** What the target may have lost; undefined: its storage has it all. */
  unsafe: Bitmap | undefined;
}

/** The bitmap that the arguments name. Throws CommandError. */
export function chooseSyncBitmap(
  source: BlockNode,
  args: BitmapArgs & { sync: string; granularity?: number },
): SyncBitmap | undefined {
  const { sync, bitmap: name, "bitmap-mode": mode } = args;
  if (name === undefined) {
    if (mode !== undefined) throw new CommandError("Cannot specify bitmap sync mode without a bitmap");
    if (sync !== "bitmap" && sync !== "incremental") return undefined;
    // QEMU's words, of which a client of 7.2 can name no bitmap.
    throw new CommandError(`Sync mode '${sync}' not supported`, { code: "ENOTSUP" });
  }
  if (sync !== "bitmap" && sync !== "incremental")
    throw new CommandError(`Sync mode '${sync}' is not compatible with bitmaps`);
  if (args.granularity) throw new CommandError("Granularity and bitmap cannot both be set");
  const bitmap = findDirtyBitmap(source, name);
  if (!bitmap) throw new CommandError(`Bitmap '${name}' could not be found`, { code: "ENOENT" });
  const chosen = sync === "incremental" ? incrementalMode(mode) : mode;
  if (chosen === undefined) throw new CommandError("Bitmap sync mode must be given when providing a bitmap");
  bitmap.check({ readOnly: chosen === "never" });
  return { bitmap, mode: chosen };
}

function incrementalMode(mode: SyncBitmap["mode"] | undefined): SyncBitmap["mode"] {
  if (mode === undefined || mode === "on-success") return "on-success";
  throw new CommandError("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
}

/** Keeps others off a bitmap that is to change at the end. The lease is for a job that never starts. Throws CommandError if it is in use. */
export function useSyncBitmap({ bitmap, mode }: SyncBitmap): Lease {
  if (mode === "never") return new Lease();
  // An export may have taken it since it was chosen.
  bitmap.check();
  bitmap.busy = true;
  return new Lease(() => {
    bitmap.busy = false;
  });
}

/** What the mode says, once: the bitmap is free again. The source is drained, or nothing was copied. */
export function settleSyncBitmap({ bitmap, mode }: SyncBitmap, end: MirrorEnd): void {
  if (mode === "never") return;
  assert(bitmap.busy, "a bitmap is settled once");
  bitmap.busy = false;
  if (mode !== "always" && !end.succeeded) return;
  bitmap.bitmap.clear();
  bitmap.bitmap.merge(end.different);
  if (end.unsafe) bitmap.bitmap.merge(end.unsafe);
  bitmap.noteChange();
}
