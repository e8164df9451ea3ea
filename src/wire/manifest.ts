/**
 * A manifest: the XXH3-64 of every cluster of a disk, by which a range that was shifted or damaged on its way is told
 * from a right one. It guards against accidents, not against a server that means harm.
 *
 * Layout, little endian: magic (8), version u32, cluster bytes u32, disk bytes u64, then a u64 for each cluster in order,
 * and the XXH3-64 of all that precedes. Disks are whole sectors long; the last cluster is hashed as far as the disk goes.
 */
import { ImageError } from "../base/errors.ts";
import { KiB, MiB, SECTOR_SIZE, limits } from "../base/limits.ts";
import { isPowerOfTwo } from "../base/ranges.ts";

const MAGIC = new TextEncoder().encode("bwHashes");
const VERSION = 1;
const HEADER_BYTES = 24;
const HASH_BYTES = 8;

/** Default bytes of a cluster. */
export const MANIFEST_CLUSTER_BYTES = 64 * KiB;
/** Largest cluster, bytes. */
export const MANIFEST_MAX_CLUSTER_BYTES = 2 * MiB;

/** Whether a manifest may have clusters of this size: a power of two from 512 bytes to 2 MiB. */
export function isManifestCluster(bytes: number): boolean {
  return isPowerOfTwo(bytes) && bytes >= SECTOR_SIZE && bytes <= MANIFEST_MAX_CLUSTER_BYTES;
}

/** Computes XXH3-64 (kernels.xxh3). */
type Hash = (bytes: Uint8Array) => bigint;

/** A manifest that can be asked. */
export interface Manifest {
  readonly clusterBytes: number;
  /** Bytes of the disk. */
  readonly size: number;
  /** Of all that it says, in hexadecimal digits. */
  readonly hash: string;
  /** Whether the content of a cluster is right; what it lacks up to the disk's end counts as zeroes. */
  matches(cluster: number, content: Uint8Array): boolean;
}

/** Bytes of a manifest. */
function manifestBytes(size: number, clusterBytes: number): number {
  return HEADER_BYTES + Math.ceil(size / clusterBytes) * HASH_BYTES + HASH_BYTES;
}

/** Fills a manifest cluster by cluster. */
export class ManifestWriter {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #hash: Hash;

  /** `size` in bytes, whole sectors; `clusterBytes` as isManifestCluster() has it. */
  constructor(init: { size: number; clusterBytes: number; hash: Hash }) {
    const { size, clusterBytes, hash } = init;
    this.#hash = hash;
    this.#bytes = new Uint8Array(manifestBytes(size, clusterBytes));
    this.#view = new DataView(this.#bytes.buffer);
    this.#bytes.set(MAGIC);
    this.#view.setUint32(8, VERSION, true);
    this.#view.setUint32(12, clusterBytes, true);
    this.#view.setBigUint64(16, BigInt(size), true);
  }

  /** Notes the hash of a cluster's content. */
  add(cluster: number, content: Uint8Array): void {
    this.#view.setBigUint64(HEADER_BYTES + cluster * HASH_BYTES, this.#hash(content), true);
  }

  /** The manifest, once every cluster was added. */
  finish(): Uint8Array {
    const end = this.#bytes.byteLength - HASH_BYTES;
    this.#view.setBigUint64(end, this.#hash(this.#bytes.subarray(0, end)), true);
    return this.#bytes;
  }
}

function bad(field: string, message: string): ImageError {
  return new ImageError({ structure: "manifest", field, message });
}

/** Reads a manifest. ImageError (EINVAL) for what is none, or is damaged. */
export function parseManifest(bytes: Uint8Array, hash: Hash): Manifest {
  if (bytes.byteLength < HEADER_BYTES + HASH_BYTES || !MAGIC.every((byte, i) => bytes[i] === byte))
    throw bad("magic", "This is no manifest");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== VERSION) throw bad("version", `Unsupported manifest version ${version}`);
  const clusterBytes = view.getUint32(12, true);
  const size = Number(view.getBigUint64(16, true));
  if (!isManifestCluster(clusterBytes) || size > limits.maxImageBytes || size % SECTOR_SIZE !== 0)
    throw bad("size", "The manifest's sizes are impossible");
  if (bytes.byteLength !== manifestBytes(size, clusterBytes))
    throw bad("length", "The manifest is too short or too long for its disk");
  const end = bytes.byteLength - HASH_BYTES;
  const own = view.getBigUint64(end, true);
  if (own !== hash(bytes.subarray(0, end))) throw bad("hash", "The manifest is damaged");
  return {
    hash: own.toString(16),
    clusterBytes,
    size,
    matches(cluster, content) {
      const length = Math.min(clusterBytes, size - cluster * clusterBytes);
      if (content.byteLength > length || length <= 0) return false;
      const padded = content.byteLength === length ? content : new Uint8Array(length);
      if (padded !== content) padded.set(content);
      return hash(padded) === view.getBigUint64(HEADER_BYTES + cluster * HASH_BYTES, true);
    },
  };
}
