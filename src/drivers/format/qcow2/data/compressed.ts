/**
 * Compressed clusters: raw DEFLATE streams or zstd frames at any byte of the file. The entry names whole sectors, so a stream is usually
 * followed by junk; it must give exactly one cluster. Source: qcow2.txt, "Compressed Clusters Descriptor".
 */
import { assert } from "../../../../base/assert.ts";
import { BlockError, blockError, isUnsupported } from "../../../../base/errors.ts";
import { MiB } from "../../../../base/limits.ts";
import { allocate, free, unallocate } from "../metadata/allocate.ts";
import type { Image } from "../metadata/image.ts";
import {
  compressedEntry,
  type CompressedExtent,
  compressedExtent,
  Kind,
  maxRefcount,
} from "../disk/layout.ts";
import { type Extent, findExtent, setEntry, writableSlice } from "../metadata/mapping.ts";
import { addRefcounts, getRefcount } from "../metadata/refcounts.ts";
import type { FreeReason } from "../metadata/options.ts";
import { makeRoom } from "../metadata/write-back.ts";
import { zstdFrameBytes } from "../disk/zstd-frame.ts";

/** Fills `buffer` from the compressed cluster at `extent`; the range lies within it. Errors: EIO for a bad stream. */
export async function readCompressed(
  image: Image,
  extent: Extent,
  offset: number,
  buffer: Uint8Array,
): Promise<void> {
  const { clusterBits, clusterSize } = image.geometry;
  const { offset: host, bytes } = compressedExtent(extent.high, extent.low, clusterBits);
  const whole = buffer.byteLength === clusterSize;
  const output = whole ? buffer : new Uint8Array(clusterSize);
  const written = await withInput(image, bytes, async (input) => {
    await image.event("read_compressed");
    await image.file.pread(host, input);
    return inflate(image, input, output);
  });
  if (written !== clusterSize) throw blockError("EIO", "pread", "a compressed cluster is damaged");
  if (whole) return;
  const start = offset % clusterSize;
  buffer.set(output.subarray(start, start + buffer.byteLength));
}

/** Bytes of buffers for streams that are kept from read to read. */
const SPARE_BYTES = 16 * MiB;

/** Lends a buffer of `bytes` for a stream: a new one for each cluster would be memory that is collected late. */
async function withInput<T>(
  image: Image,
  bytes: number,
  body: (input: Uint8Array) => Promise<T>,
): Promise<T> {
  const { clusterSize } = image.geometry;
  const { spareInputs } = image;
  const isUsual = bytes <= clusterSize;
  const buffer = (isUsual ? spareInputs.pop() : undefined) ?? new Uint8Array(isUsual ? clusterSize : bytes);
  try {
    return await body(buffer.subarray(0, bytes));
  } finally {
    if (isUsual && (spareInputs.length + 1) * clusterSize <= SPARE_BYTES) spareInputs.push(buffer);
  }
}

async function inflate(image: Image, input: Uint8Array, output: Uint8Array): Promise<number> {
  try {
    if (image.header.compressionType === 0) return await image.host.codecs.inflateRaw(input, output);
    const frame = input.subarray(0, zstdFrameBytes(input, output.byteLength));
    const { decompressZstd } = image.host.codecs;
    if (decompressZstd) return await decompressZstd(frame, output);
  } catch (cause) {
    const message = "a compressed cluster is damaged";
    if (isUnsupported(cause)) throw cause;
    throw new BlockError({ code: "EIO", op: "pread", node: image.node.name, message, cause });
  }
  throw blockError("ENOTSUP", "pread", "this platform has no decoder for zstd clusters");
}

function deflate(image: Image, data: Uint8Array, limit: number): Promise<Uint8Array | undefined> {
  const { codecs } = image.host;
  if (image.header.compressionType === 0) return codecs.deflateRaw(data, limit, image.compressionLevel);
  if (codecs.compressZstd) return codecs.compressZstd(data, limit, image.compressionLevel);
  throw blockError("ENOTSUP", "pwrite", "this platform has no encoder for zstd clusters");
}

/** Frees what the entry of a compressed cluster refers to: every host cluster that it touches loses one reference. */
export function freeCompressed(image: Image, words: { high: number; low: number }, reason: FreeReason): void {
  const { clusterBits, clusterSize } = image.geometry;
  const { offset, bytes } = compressedExtent(words.high, words.low, clusterBits);
  const first = Math.floor(offset / clusterSize);
  const last = Math.floor((offset + bytes - 1) / clusterSize);
  free(image, { cluster: first, count: last - first + 1 }, reason);
}

/**
 * Stores one whole cluster compressed (the last one padded with zeroes). False: it does not get smaller, or the cluster
 * is in use already; write it as it is. The caller holds an exclusive claim on it.
 */
export async function writeCompressedCluster(
  image: Image,
  guest: number,
  data: Uint8Array,
): Promise<boolean> {
  const { clusterSize } = image.geometry;
  const stream = await deflate(image, data, clusterSize);
  if (!stream || stream.byteLength >= clusterSize) return false;
  const place = await image.locked(async () => {
    await makeRoom(image);
    const { kind } = await findExtent(image, guest, clusterSize);
    if (kind !== Kind.unallocated && kind !== Kind.zeroPlain) return undefined;
    await writableSlice(image, guest);
    return allocateBytes(image, stream.byteLength);
  });
  if (!place) return false;
  try {
    await image.event("write_compressed");
    await image.checkOverlap(place.offset, place.bytes);
    await image.file.pwrite(place.offset, stream);
  } catch (error) {
    await image.locked(() => unallocate(image, clustersOf(image, place)));
    throw error;
  }
  await image.locked(async () => {
    const slice = await writableSlice(image, guest);
    const [high, low] = compressedEntry(place, image.geometry.clusterBits);
    setEntry(image, { slice, guest, high, low });
    image.barrierBeforeL2 = true;
  });
  return true;
}

function clustersOf(image: Image, { offset, bytes }: CompressedExtent): { cluster: number; count: number } {
  const { clusterSize } = image.geometry;
  const cluster = Math.floor(offset / clusterSize);
  return { cluster, count: Math.floor((offset + bytes - 1) / clusterSize) - cluster + 1 };
}

/**
 * Finds room for `bytes` (< a cluster) of stream: right behind the previous one, and on into the next host cluster where
 * that is the one handed out; else at the start of a cluster. Each cluster that is touched gets a reference.
 */
async function allocateBytes(image: Image, bytes: number): Promise<CompressedExtent> {
  const { clusterSize } = image.geometry;
  assert(bytes > 0 && bytes < clusterSize, "a stream is less than its cluster");
  await image.event("cluster_alloc_bytes");
  const room = await roomBehindTail(image);
  if (bytes <= room) return behindTail(image, bytes);
  const { cluster } = await allocate(image, 1);
  // Making room may have freed the cluster of the tail: then there is none any more.
  const isNext = room > 0 && image.compressedTail + room === cluster * clusterSize;
  if (!isNext) {
    image.compressedTail = cluster * clusterSize + bytes;
    return { offset: cluster * clusterSize, bytes };
  }
  try {
    return await behindTail(image, bytes);
  } catch (error) {
    await unallocate(image, { cluster, count: 1 });
    throw error;
  }
}

/** The bytes left in the cluster in which the last stream ended; 0 where no further stream may refer to it. */
async function roomBehindTail(image: Image): Promise<number> {
  const { clusterSize, refcountOrder } = image.geometry;
  const used = image.compressedTail % clusterSize;
  if (used === 0) return 0;
  const count = await getRefcount(image, Math.floor(image.compressedTail / clusterSize));
  return count > 0 && count < maxRefcount(refcountOrder) ? clusterSize - used : 0;
}

/** Takes `bytes` behind the last stream, with one more reference of its cluster. */
async function behindTail(image: Image, bytes: number): Promise<CompressedExtent> {
  const offset = image.compressedTail;
  const cluster = Math.floor(offset / image.geometry.clusterSize);
  assert(cluster > 0, "the header's cluster was handed out");
  await addRefcounts(image, { cluster, count: 1 }, 1);
  image.compressedTail = offset + bytes;
  return { offset, bytes };
}
