/**
 * A whole check of the qcow2 image in a file, as qemu-img check does it: structures, references, refcounts, flags; and
 * with `fix` their repair. It works on the file and not on an open image, so that it also serves images that are marked
 * corrupt or dirty, and those about to be opened. Source: qcow2.txt; behaviour and words of QEMU 7.2.
 */
import { BlockError } from "../../../../base/errors.ts";
import type { ByteRange } from "../../../../base/ranges.ts";
import type { Edge } from "../../../../block/model/contract.ts";
import type { CheckRequest, CreateContext, ImageCheck } from "../../../../block/model/contract.ts";
import { Perm } from "../../../../block/model/permissions.ts";
import { isRawDataFile } from "../data/data-file.ts";
import { type Header, headerClusterBits, parseHeader, virtualSize } from "../disk/header.ts";
import { checkCopiedFlags } from "./flags.ts";
import { rebuildStructures } from "./rebuild.ts";
import { compareRefcounts, StoredRefcounts } from "./refcounts.ts";
import { SnapshotTableCheck } from "./snapshots.ts";
import type { Inspected } from "./inspected.ts";
import { nextEntry } from "./tables.ts";
import { ReferenceWalk } from "./walk.ts";
import { Autoclear, entryOffset, Incompatible, readU64 } from "../disk/layout.ts";
import { MetadataMap } from "../metadata/overlap.ts";

/** Offsets of `incompatible_features` and `autoclear_features` in the header. */
const INCOMPATIBLE_AT = 72;
const AUTOCLEAR_AT = 88;
const REBUILD_ROUNDS = 4;

/** Checks, and repairs if asked, the image in `request.file`. Errors: the file's; ImageError for what can't be followed. */
export async function inspectImage(context: CreateContext, request: CheckRequest): Promise<ImageCheck> {
  const { file, fix, message } = request;
  const { graph, signal } = context;
  const node = await graph.take(file);
  try {
    const writes = fix.leaks || fix.errors;
    const permissions = {
      perm: Perm.consistentRead | (writes ? Perm.write | Perm.resize : 0),
      shared: node.options.forceShare ? Perm.all : Perm.consistentRead | Perm.writeUnchanged,
    };
    return await graph.withRoot(node, permissions, async (child) => {
      const header = await readWholeHeader(child);
      return inspectFile({ file: child, header, fix, say: message, signal });
    });
  } finally {
    await graph.release(node);
  }
}

/** What `inspectFile` works on. */
interface Inspection extends Pick<Inspected, "file" | "header" | "fix" | "say"> {
  readonly signal?: AbortSignal | undefined;
}

/** The same for a file that is at hand, with its header, which follows what is repaired. */
export async function inspectFile(inspection: Inspection): Promise<ImageCheck> {
  const { file, header, fix, say } = inspection;
  const result = emptyResult(header);
  if (fix.errors || fix.leaks) await clearAutoclear(inspection);
  const snapshots = await SnapshotTableCheck.read(inspection);
  result.corruptionsFixed += await snapshots.cutOff();
  const metadata = await metadataOf(inspection);
  return inspect({ file, header, fix, say, signal: inspection.signal, result, snapshots, metadata });
}

async function readWholeHeader(file: Edge): Promise<Header> {
  const head = new Uint8Array(512);
  await file.pread(0, head);
  const cluster = new Uint8Array(2 ** headerClusterBits(head));
  await file.pread(0, cluster);
  return parseHeader(cluster);
}

function emptyResult(header: Header): ImageCheck {
  const clusterSize = 2 ** header.clusterBits;
  return {
    corruptions: 0,
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 0,
    clusterSize,
    totalClusters: Math.ceil(virtualSize(header) / clusterSize),
    allocatedClusters: 0,
    fragmentedClusters: 0,
    compressedClusters: 0,
  };
}

/** Where the metadata lies, as far as the header and the top tables say. */
async function metadataOf({ file, header }: Inspection): Promise<MetadataMap> {
  const clusterSize = 2 ** header.clusterBits;
  const map = new MetadataMap(clusterSize);
  map.addRange("qcow2_header", 0, clusterSize);
  map.addRange("active L1 table", header.l1Offset, header.l1Size * 8);
  const tableBytes = header.refcountTableClusters * clusterSize;
  map.addRange("refcount table", header.refcountTableOffset, tableBytes);
  await eachOffset(file, { offset: header.l1Offset, bytes: header.l1Size * 8 }, (view, at) => {
    const offset = entryOffset(view.getUint32(at), view.getUint32(at + 4));
    if (offset !== 0 && offset % clusterSize === 0) map.addTable("active L2 table", offset);
  });
  await eachOffset(file, { offset: header.refcountTableOffset, bytes: tableBytes }, (view, at) => {
    const offset = readU64(view, at);
    if (offset % clusterSize === 0) map.addTable("refcount block", offset);
  });
  return map;
}

/** Calls `entry` for each entry of a table that is not 0. */
async function eachOffset(
  file: Edge,
  { offset, bytes }: ByteRange,
  entry: (view: DataView, at: number) => void,
): Promise<void> {
  const table = new Uint8Array(bytes);
  await file.pread(offset, table);
  const view = new DataView(table.buffer);
  for (let at = nextEntry(table, 0); at < bytes; at = nextEntry(table, at + 8)) entry(view, at);
}

async function inspect(image: Inspected & { snapshots: SnapshotTableCheck }): Promise<ImageCheck> {
  const { result, fix, file, snapshots } = image;
  const repairs = fix.leaks || fix.errors;
  const walk = new ReferenceWalk(image);
  const stored = new StoredRefcounts(image);
  await walk.all();
  const before = { ...result };
  let highest = await compareRefcounts(image, walk, stored, { leaks: false, errors: false });
  if (walk.rebuild && fix.errors) highest = await rebuild(image, walk, stored);
  else if (repairs) {
    if (walk.rebuild) {
      image.say("ERROR need to rebuild refcount structures");
      throw new BlockError({ code: "EIO", op: "check" });
    }
    if (result.leaks > 0 || result.corruptions > 0) {
      Object.assign(result, before);
      highest = await compareRefcounts(image, walk, stored, fix);
    }
  }
  await checkCopiedFlags(image, stored);
  result.imageEndOffset = (highest + 1) * walk.clusterSize;
  if (snapshots.corruptions > 0 && fix.errors) {
    await snapshots.rewrite(image, walk, stored);
    result.corruptionsFixed += snapshots.corruptions;
  } else result.corruptions += snapshots.corruptions;
  if (!repairs) return result;
  await file.flush();
  if (result.checkErrors === 0 && result.corruptions === 0) await clearBits(image);
  return result;
}

/**
 * Writes new refcount structures, then counts again: the old ones are leaked now, and where the file grew, references that
 * left it may lie in it, on what was written just now; then once more. Resolves with the highest cluster in use.
 */
async function rebuild(image: Inspected, first: ReferenceWalk, stored: StoredRefcounts): Promise<number> {
  const { result, say, fix } = image;
  const old = { ...result };
  let walk = first;
  for (let round = 0; round < REBUILD_ROUNDS; round++) {
    say("Rebuilding refcount structure");
    await rebuildStructures(image, walk);
    stored.forget();
    Object.assign(result, { corruptions: 0, leaks: 0 });
    walk = new ReferenceWalk({ ...image, fix: { leaks: false, errors: false } });
    await walk.all();
    const saved = { ...result };
    const highest = await compareRefcounts(image, walk, stored, { leaks: fix.leaks, errors: false });
    if (walk.rebuild) continue;
    // What was mended here came with the rebuilding.
    Object.assign(result, saved);
    result.corruptionsFixed += Math.max(0, old.corruptions - result.corruptions);
    result.leaksFixed += Math.max(0, old.leaks - result.leaks);
    return highest;
  }
  say("ERROR rebuilt refcount structure is still broken");
  throw new BlockError({ code: "EIO", op: "check" });
}

/** The image is in order: it is neither dirty nor corrupt any more. */
async function clearBits({ header, file }: Inspected): Promise<void> {
  const bits = BigInt(Incompatible.dirty | Incompatible.corrupt);
  if (header.version < 3 || (header.incompatible & bits) === 0n) return;
  header.incompatible &= ~bits;
  await writeBits(file, INCOMPATIBLE_AT, header.incompatible);
}

/** Who changes an image clears the flags of what it does not know, since that may be stale then. */
async function clearAutoclear({ header, file }: Inspection): Promise<void> {
  const keep = BigInt(
    Autoclear.bitmaps | Autoclear.bitmapJournal | (isRawDataFile(header) ? Autoclear.dataFileRaw : 0),
  );
  if (header.version < 3 || (header.autoclear & ~keep) === 0n) return;
  header.autoclear &= keep;
  await writeBits(file, AUTOCLEAR_AT, header.autoclear);
}

async function writeBits(file: Edge, at: number, bits: bigint): Promise<void> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, bits);
  await file.pwrite(at, bytes);
  await file.flush();
}
