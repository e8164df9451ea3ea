/**
 * How large a qcow2 image would become, without making it. Source: qcow2.txt; behaviour of qemu-img measure 7.2, which counts
 * the metadata of a fully allocated image whatever is required.
 */
import { blockError } from "../../../../base/errors.ts";
import { KiB, limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import { alignUp } from "../../../../base/ranges.ts";
import { blockStatusAbove } from "../../../../block/io/status.ts";
import type { MeasureRequest, MeasureResult } from "../../../../block/model/contract.ts";
import { type BlockNode, nodeOf } from "../../../../block/model/node.ts";
import { parseLuksCreateOptions, payloadOffset } from "../../../../crypto/luks-options.ts";
import { LUKS } from "../../../../crypto/luks-rows.ts";

const BITMAP_ENTRY_BYTES = 24;

/** Measures. Throws BlockError EINVAL in QEMU's words, EFBIG's words for a disk that the format can't hold. */
export async function measure(request: MeasureRequest): Promise<MeasureResult> {
  const { options, signal } = request;
  const source = request.source && nodeOf(request.source);
  const bytes = alignUp(request.bytes, SECTOR_SIZE);
  const header = encryptionBytes(options);
  const { clusterSize, entryBytes, refcountOrder } = geometry(options);
  const l2Tables = Math.ceil(bytes / clusterSize / (clusterSize / entryBytes));
  if (bytes > limits.maxImageBytes || l2Tables * 8 > limits.qcow2MaxL1Bytes)
    refuse("The image size is too large (try using a larger cluster size)");
  const virtual = alignUp(bytes, clusterSize);
  const all = options["preallocation"] === "full" || options["preallocation"] === "falloc";
  let required = all || (source && options["backing-file"] !== undefined) ? virtual : 0;
  if (required === 0 && source) required = await dataBytes(source, { bytes, clusterSize, signal });
  const metadata = metadataBytes(virtual, { clusterSize, entryBytes, refcountOrder });
  const fullyAllocatedBytes = virtual + metadata + alignUp(header, clusterSize);
  const result = { requiredBytes: fullyAllocatedBytes - virtual + required, fullyAllocatedBytes };
  const keepsBitmaps = !isOld(options) && source && canKeepBitmaps(source);
  return keepsBitmaps ? { ...result, bitmapsBytes: bitmapsBytes(source, clusterSize) } : result;
}

/** Bytes of the encryption's header; the other way to encrypt has none. */
function encryptionBytes({ encrypt }: MeasureRequest["options"]): number {
  const options = encrypt as Readonly<Record<string, unknown>> | undefined;
  if (options === undefined || (options["format"] ?? LUKS) !== LUKS) return 0;
  return payloadOffset(parseLuksCreateOptions(options).keyBytes);
}

function isOld(options: MeasureRequest["options"]): boolean {
  return options["version"] === "v2";
}

function refuse(message: string): never {
  throw blockError("EINVAL", "measure", message);
}

interface Geometry {
  clusterSize: number;
  entryBytes: number;
  refcountOrder: number;
}

function geometry(options: MeasureRequest["options"]): Geometry {
  const clusterSize = Number(options["cluster-size"] ?? 64 * KiB);
  const refcountBits = Number(options["refcount-bits"] ?? 16);
  const extendedL2 = options["extended-l2"] === true;
  const old = isOld(options);
  const least = 2 ** limits.qcow2MinClusterBits;
  const most = 2 ** limits.qcow2MaxClusterBits;
  const isPower = (value: number): boolean => Number.isInteger(Math.log2(value));
  if (!isPower(clusterSize) || clusterSize < least || clusterSize > most)
    refuse(`Cluster size must be a power of two between ${least} and ${most / KiB}k`);
  if (extendedL2 && clusterSize < 16 * KiB)
    refuse(`Extended L2 entries are only supported with cluster sizes of at least ${16 * KiB} bytes`);
  if (!isPower(refcountBits) || refcountBits < 1 || refcountBits > 64)
    refuse("Refcount width must be a power of two and may not exceed 64 bits");
  if (old && refcountBits !== 16) {
    refuse(
      "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)",
    );
  }
  return { clusterSize, entryBytes: extendedL2 ? 16 : 8, refcountOrder: Math.log2(refcountBits) };
}

/** Metadata of an image that is full. */
function metadataBytes(virtual: number, { clusterSize, entryBytes, refcountOrder }: Geometry): number {
  const l2Bytes = alignUp(virtual / clusterSize, clusterSize / entryBytes) * entryBytes;
  const l1Bytes = alignUp(l2Bytes / clusterSize, clusterSize / 8) * 8;
  const bytes = clusterSize + l2Bytes + l1Bytes;
  const clusters = (bytes + virtual) / clusterSize;
  const perBlock = (clusterSize * 8) / 2 ** refcountOrder;
  let blocks = 0;
  let table = 0;
  // Blocks and table are counted by blocks too.
  for (let last = -1, all = 0; all !== last;) {
    last = all;
    blocks = Math.ceil((clusters + table + blocks) / perBlock);
    table = Math.ceil(blocks / (clusterSize / 8));
    all = clusters + blocks + table;
  }
  return bytes + (blocks + table) * clusterSize;
}

/** Bytes of all clusters that hold data. */
async function dataBytes(
  source: BlockNode,
  { bytes, clusterSize, signal }: { bytes: number; clusterSize: number; signal: AbortSignal | undefined },
): Promise<number> {
  let required = 0;
  for (let at = 0; at < bytes;) {
    signal?.throwIfAborted();
    const status = await blockStatusAbove(source, at, bytes - at);
    let reach = status.bytes;
    if (!status.zero && status.data && status.allocated) {
      reach = alignUp(at + reach, clusterSize) - at;
      required += (at % clusterSize) + reach;
    }
    at += reach;
  }
  return required;
}

function canKeepBitmaps(source: BlockNode): boolean {
  const { driver } = source;
  return driver.bitmapStore?.() !== undefined && driver.formatSpecific?.()?.data["compat"] !== "0.10";
}

function bitmapsBytes(source: BlockNode, clusterSize: number): number {
  let bytes = 0;
  let directory = 0;
  for (const bitmap of source.dirtyBitmaps) {
    if (!bitmap.persistent || bitmap.inconsistent) continue;
    const clusters = Math.ceil(Math.ceil(Math.ceil(source.length / bitmap.granularity) / 8) / clusterSize);
    bytes += clusters * clusterSize + alignUp(clusters * 8, clusterSize);
    directory += alignUp(BITMAP_ENTRY_BYTES + new TextEncoder().encode(bitmap.name).byteLength, 8);
  }
  return bytes + alignUp(directory, clusterSize);
}
