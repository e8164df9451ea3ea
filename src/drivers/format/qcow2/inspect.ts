/**
 * A whole check of the qcow2 image in a file, as qemu-img check does it: structures, references, refcounts, flags; and
 * with `fix` their repair. It works on the file and not on an open image, so that it also serves images that are marked
 * corrupt or dirty. Source: qcow2.txt; behaviour and words of QEMU 7.2.
 */
import { BlockError } from "../../../base/errors.ts";
import type { Child, ChildParent } from "../../../block/child.ts";
import type { CheckRequest, CreateContext, ImageCheck } from "../../../block/driver.ts";
import { Perm } from "../../../block/permissions.ts";
import { type Header, headerClusterBits, parseHeader, virtualSize } from "./header.ts";
import { checkCopiedFlags, compareRefcounts, rebuildStructures, StoredRefcounts } from "./inspect-repair.ts";
import { type Inspected, ReferenceWalk } from "./inspect-walk.ts";
import { Incompatible } from "./layout.ts";

/** Offset of `incompatible_features` in the header. */
const INCOMPATIBLE_AT = 72;

const readerParent: ChildParent = {
  describe: () => "an unnamed block device",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

/** Checks, and repairs if asked, the image in `request.file`. Errors: the file's; ImageError for what can't be followed. */
export async function inspectImage(
  context: CreateContext,
  { file, fix, message }: CheckRequest,
): Promise<ImageCheck> {
  const { graph, signal } = context;
  const node = typeof file === "string" ? graph.lookup(file) : await graph.open(file);
  if (typeof file === "string") graph.reference(node);
  try {
    const writes = fix.leaks || fix.errors;
    const shared = Perm.consistentRead | Perm.writeUnchanged;
    const child = await graph.attach(readerParent, node, {
      name: "root",
      perm: Perm.consistentRead | (writes ? Perm.write | Perm.resize : 0),
      shared: node.options.forceShare ? Perm.all : shared,
    });
    try {
      const header = await readWholeHeader(child);
      return await inspect({ file: child, header, result: emptyResult(header), say: message, fix, signal });
    } finally {
      await graph.detach(child);
    }
  } finally {
    await graph.release(node);
  }
}

async function readWholeHeader(file: Child): Promise<Header> {
  const head = new Uint8Array(512);
  await file.pread(0, head);
  const cluster = new Uint8Array(2 ** headerClusterBits(head));
  await file.pread(0, cluster);
  return parseHeader(cluster);
}

function emptyResult(header: Header): ImageCheck {
  return {
    corruptions: 0,
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 0,
    totalClusters: Math.ceil(virtualSize(header) / 2 ** header.clusterBits),
    allocatedClusters: 0,
    fragmentedClusters: 0,
    compressedClusters: 0,
  };
}

async function inspect(image: Inspected): Promise<ImageCheck> {
  const { result, fix, file } = image;
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
  if (!repairs) return result;
  await file.flush();
  if (result.checkErrors === 0 && result.corruptions === 0) await clearBits(image);
  return result;
}

/** Writes new refcount structures, then counts again: the old ones are leaked now. Resolves with the highest cluster in use. */
async function rebuild(image: Inspected, walk: ReferenceWalk, stored: StoredRefcounts): Promise<number> {
  const { result, say, fix } = image;
  const old = { ...result };
  say("Rebuilding refcount structure");
  await rebuildStructures(image, walk);
  stored.forget();
  Object.assign(result, { corruptions: 0, leaks: 0 });
  const again = new ReferenceWalk({ ...image, fix: { leaks: false, errors: false } });
  await again.all();
  const saved = { ...result };
  const highest = await compareRefcounts(image, again, stored, { leaks: fix.leaks, errors: false });
  if (again.rebuild) {
    say("ERROR rebuilt refcount structure is still broken");
    throw new BlockError({ code: "EIO", op: "check" });
  }
  // What was mended here came with the rebuilding.
  Object.assign(result, saved);
  result.corruptionsFixed += Math.max(0, old.corruptions - result.corruptions);
  result.leaksFixed += Math.max(0, old.leaks - result.leaks);
  return highest;
}

/** The image is in order: it is neither dirty nor corrupt any more. */
async function clearBits({ header, file }: Inspected): Promise<void> {
  const bits = BigInt(Incompatible.dirty | Incompatible.corrupt);
  if (header.version < 3 || (header.incompatible & bits) === 0n) return;
  header.incompatible &= ~bits;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, header.incompatible);
  await file.pwrite(INCOMPATIBLE_AT, bytes);
  await file.flush();
}
