/**
 * The ordered write-back of cached metadata: the one place that makes a crash leave leaks at worst.
 *
 * Order, with a flush of the file (a barrier) wherever a later step refers to what an earlier one wrote:
 *   1. refcount blocks (every new cluster counted), 2. the refcount table's entries for new blocks,
 *   3. L2 tables (guest data and new tables are in the file before anything points to them), 4. L1 entries,
 *   5. refcounts of what no table refers to any more, and discards of those clusters.
 * A process kill keeps the order of the writes; a power cut may lose any set of writes since the last barrier. Both leave
 * a state in which every reference is counted. The metadata lock is held throughout, so no step sees changes of requests
 * that came later.
 *
 * With it goes what an overlay was made over: the version of its backing file (URL, size, ETag or date, hash of the manifest) in a header
 * extension of ours, as JSON. It is written before the first metadata that depends on that version, and compared when the
 * backing file is attached. Invariant: it counts only beside the backing name with which it was written, so that a link that
 * another program changes ends it. Source: qcow2.txt, "Header extensions"; RFC 9110, section 8.8.
 */
import { assert } from "../../../../base/assert.ts";
import { type Answer, isPromise } from "../../../../base/answer.ts";
import { MiB } from "../../../../base/limits.ts";
import { errnoOf, BlockError, messageOf } from "../../../../base/errors.ts";
import { updateHeader, writeHeader } from "./header-update.ts";
import type { Image } from "./image.ts";
import { Incompatible } from "../disk/layout.ts";
import { addRefcounts, unusedParts } from "./refcounts.ts";
import { decodeName, encodeName } from "../../../../base/names.ts";
import { alignUp } from "../../../../base/ranges.ts";
import type { ContentVersion, NodeView } from "../../../../block/model/contract.ts";
import { fitsFirstCluster, type Header, serializeHeader } from "../disk/header.ts";
import { Extension } from "../disk/header-extensions.ts";

/** The node in which a node's own content lies, if that is storage with versions. */
function versionedStorage(node: NodeView): NodeView | undefined {
  for (let at: NodeView | undefined = node; at; at = (at.filtered ?? at.file)?.node)
    if (at.driver.versions) return at;
  return undefined;
}

/** What goes into a request's header again: nothing but what an ETag or a date may hold. */
const FIELD = /^[\x20-\x7e\x80-\xff]*$/;

function isField(value: unknown): boolean {
  return value === undefined || (typeof value === "string" && FIELD.test(value));
}

function recordOf({ extensions }: Header): string | undefined {
  const found = extensions.find(({ type }) => type === Extension.madeOver);
  return found && decodeName(found.data);
}

/** The version in the header; undefined where there is none, or none that can be read or is of another backing name. */
export function madeOver(header: Header): ContentVersion | undefined {
  try {
    const { backing, ...version } = JSON.parse(recordOf(header) ?? "") as Record<string, unknown>;
    const { url, size, etag, manifest } = version;
    const isVersion =
      typeof url === "string" &&
      Number.isSafeInteger(size) &&
      [etag, version["last-modified"], manifest].every((value) => isField(value));
    return isVersion && backing === header.backingFile ? (version as unknown as ContentVersion) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether nothing lies behind the L1 table, the last that is made of an empty image. */
function isPlainlyEmpty({ file, header, geometry }: Image): boolean {
  return file.length <= alignUp(header.l1Offset + header.l1Size * 8, geometry.clusterSize);
}

/** Takes it out of the header in memory: the link to the backing file changes. */
export function forgetMadeOver(header: Header): void {
  header.extensions = header.extensions.filter(({ type }) => type !== Extension.madeOver);
}

/** Throws ESTALE where the image was made over another version of `backing`, unless its options accept that. */
export function checkMadeOver(image: Image, backing: NodeView): void {
  const storage = versionedStorage(backing);
  if (!storage) return;
  if (image.options.acceptsChangedBacking) {
    image.madeOverDue = true;
    return;
  }
  const version = madeOver(image.header);
  // What there is already counts as made over what is found first.
  image.madeOverDue = version === undefined && !isPlainlyEmpty(image);
  try {
    if (version) storage.driver.versions?.demand(version);
  } catch (cause) {
    const was = `It was made over another version of its backing file (${version?.url}): ${messageOf(cause)}`;
    const ways = "Make a new image, open the version of then, or accept this one ('changed-backing')";
    const message = `${was}. ${ways}`;
    throw new BlockError({ code: "ESTALE", op: "open", node: image.node.name, message, cause });
  }
}

/** Writes the version of the backing file into the header, if the header lacks it. Under the lock. Errors: those of the file. */
export async function noteMadeOver(image: Image): Promise<void> {
  const { header, node } = image;
  const storage = node.backing && versionedStorage(node.backing.node);
  const version = storage?.driver.versions?.version();
  image.madeOverDue = false;
  if (!version || node.readOnly) return;
  const record = JSON.stringify({ backing: header.backingFile, ...version });
  if (record === recordOf(header)) return;
  const before = { ...header };
  const extensions = header.extensions.filter(({ type }) => type !== Extension.madeOver);
  const own = { type: Extension.madeOver, data: encodeName(record) };
  const after = [...extensions, own];
  // Clusters of 512 bytes have no room for it.
  if (!fitsFirstCluster({ ...header, extensions: after })) return;
  try {
    const end = serializeHeader({ ...header, backingFile: undefined, extensions: after }).bytes.byteLength;
    // The name is not written over before the header leads to its new place.
    if (header.backingOffset > 0 && end > header.backingOffset) await writeHeader(image);
    header.extensions = after;
    await writeHeader(image);
    await image.file.flush();
  } catch (error) {
    const { backingOffset } = header;
    Object.assign(header, before, { backingOffset });
    image.madeOverDue = true;
    throw error;
  }
}

/** Freed clusters that wait for a write-back before one is started on their account. */
const MAX_FREED_CLUSTERS = 65536;
const MAX_FREED_RUNS = 1024;
/** As large a part of the file as is freed before it grows. */
const FREED_PART = 1 / 8;
/** Or as large a write, bytes: it takes longer than two flushes. */
const LARGE_WRITE_BYTES = 4 * MiB;

/** Writes all cached metadata. Called under the lock. On an error what was not written stays cached. */
export async function writeBackLocked(image: Image): Promise<void> {
  assert(image.mutex.locked, "metadata changes under the lock");
  const isDue = isDirty(image);
  if (image.keepsLazyRefcounts && isDue) await markInUse(image);
  if (isDue || image.madeOverDue) await noteMadeOver(image);
  await image.refcountBlocks.writeDirty();
  if (image.refcountTable.dirtyTables > 0) {
    await barrier(image);
    await image.event("refblock_alloc_hookup");
    await image.refcountTable.writeDirty();
    image.barrierBeforeL2 = true;
  }
  if (image.l2.dirtyTables > 0) {
    if (image.barrierBeforeL2) await barrier(image);
    assert(isCounted(image), "tables are written before the counts of what they name");
    await image.l2.writeDirty();
  }
  image.barrierBeforeL2 = false;
  if (image.l1.dirtyTables > 0) {
    await barrier(image);
    assert(isCounted(image) && image.l2.dirtyTables === 0, "L1 entries are written before what they name");
    await image.l1.writeDirty();
  }
  if (image.freed.length > 0) await applyFrees(image);
}

/** Whether the file has all refcounts, those of freed clusters apart. */
function isCounted({ refcountBlocks, refcountTable }: Image): boolean {
  return refcountBlocks.dirtyTables === 0 && refcountTable.dirtyTables === 0;
}

/**
 * With lazy refcounts the dirty bit says that the image is in use: whoever finds it set repairs the counts first. Ours are in
 * order all the same, but another program need not believe that.
 */
async function markInUse(image: Image): Promise<void> {
  if ((Number(image.header.incompatible) & Incompatible.dirty) !== 0) return;
  // Before it is tried: a failure may come after the header was written.
  image.markedInUse = true;
  await updateHeader(image, (header) => {
    header.incompatible |= BigInt(Incompatible.dirty);
  });
  await image.file.flush();
}

/** Takes back `markInUse`: everything is written, nobody writes any more. The file is flushed before and after. */
export async function markClosed(image: Image): Promise<void> {
  if (!image.markedInUse) return;
  await updateHeader(image, (header) => {
    header.incompatible &= ~BigInt(Incompatible.dirty);
  });
  image.markedInUse = false;
  await image.file.flush();
}

/** Takes the lock and writes all cached metadata. */
export function writeBack(image: Image): Answer<void> {
  return image.locked(() => writeBackLocked(image));
}

/** Whether anything is cached that the file lacks. */
export function isDirty(image: Image): boolean {
  const { l1, l2, refcountTable, refcountBlocks, freed } = image;
  return [l1, l2, refcountTable, refcountBlocks].some((cache) => cache.dirtyTables > 0) || freed.length > 0;
}

/** Whether more metadata may be changed before the next write-back. */
function hasRoom(image: Image): boolean {
  const freedTooMuch = image.freedClusters > MAX_FREED_CLUSTERS || image.freed.length > MAX_FREED_RUNS;
  return !image.l2.crowded && !image.refcountBlocks.crowded && !freedTooMuch;
}

/**
 * Whether what was freed should be made usable before `count` clusters more are taken behind the end of the file: it would
 * do for them, and is no small part of the file or they are no small write, so that a write-back of two flushes pays.
 */
export function isWorthReuse(image: Image, count: number): boolean {
  const { clusterSize } = image.geometry;
  if (image.freedClusters < count) return false;
  const isLarge = count * clusterSize >= LARGE_WRITE_BYTES;
  return isLarge || image.freedClusters >= (image.file.length / clusterSize) * FREED_PART;
}

/** Makes room before more metadata is changed: called under the lock at the start of a change. */
export function makeRoom(image: Image): Promise<void> | undefined {
  if (!hasRoom(image)) return writeBackLocked(image).then(() => image.trim());
  image.trim();
  return undefined;
}

/** Runs `body`; where the disk below is full, anew as long as something was freed that can be used. Not under the lock. */
export function withRoom<T>(image: Image, body: () => Answer<T>): Answer<T> {
  const before = image.freedRuns;
  try {
    const answer = body();
    return isPromise(answer) ? answer.catch((error) => again(image, body, { error, before })) : answer;
  } catch (error) {
    return again(image, body, { error, before });
  }
}

async function again<T>(
  image: Image,
  body: () => Answer<T>,
  { error, before }: { error: unknown; before: number },
): Promise<T> {
  // What others have freed meanwhile counts as well.
  const isRoom = image.freed.length > 0 || image.freedRuns !== before;
  if (errnoOf(error) !== "ENOSPC" || !isRoom) throw error;
  await writeBack(image);
  return withRoom(image, body);
}

async function barrier(image: Image): Promise<void> {
  if (image.hasDataFile) await image.data.flush();
  await image.file.flush();
}

/** Lowers the refcounts of what was freed. The tables that referred to it are made durable first. */
async function applyFrees(image: Image): Promise<void> {
  await barrier(image);
  await image.readers.settle();
  const runs = image.freed;
  assert(image.mutex.locked && runs.length > 0, "metadata changes under the lock");
  image.freed = [];
  image.freedClusters = 0;
  image.freedRuns += runs.length;
  const { clusterSize } = image.geometry;
  for (const [index, run] of runs.entries()) {
    await image.event("cluster_free");
    try {
      await addRefcounts(image, run, -1);
    } catch (error) {
      // Counts that are wrong stay so, as in QEMU: a check finds them, and no guest's flush fails by them.
      if (errnoOf(error) === "EINVAL") continue;
      // Not counted down: a leak, which the next write-back tries again.
      const left = runs.slice(index + 1);
      image.freed.push(...left);
      for (const { count } of left) image.freedClusters += count;
      throw error;
    }
    if (!image.options.passDiscard[run.reason]) continue;
    for (const part of await unusedParts(image, run)) {
      await discardBelow(image, part.cluster * clusterSize, part.count * clusterSize);
    }
  }
  await image.refcountBlocks.writeDirty();
}

/** A failed discard costs only space. */
async function discardBelow(image: Image, offset: number, bytes: number): Promise<void> {
  const end = Math.min(offset + bytes, image.file.length);
  if (end <= offset) return;
  try {
    await image.file.pdiscard(offset, end - offset);
  } catch {
    // The clusters stay as they are; nothing refers to them.
  }
}
