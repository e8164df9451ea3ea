/**
 * Making the manifest of a disk: the hashes that the http driver checks what it gets by.
 */
import { blockError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import { MANIFEST_CLUSTER_BYTES, ManifestWriter, isManifestCluster } from "../wire/manifest.ts";
import type { CallOptions, Node } from "./node.ts";
import { checkNodes, followed, optionsOf } from "./options.ts";

/** Clusters are read in pieces of so many bytes, or one by one if they are larger. */
const PIECE_BYTES = 1 << 20;

/** Options of makeManifest(). */
export interface ManifestOptions extends CallOptions {
  /** Bytes that share a hash: a power of two, 512 … 2 MiB; default 64 KiB. The http driver then asks in this unit. */
  clusterBytes?: number;
  /** Told how far it is, bytes. */
  onProgress?: (done: number, total: number) => void;
}

const checkOptions = optionsOf<ManifestOptions>({ ...followed, clusterBytes: "Length" });

/**
 * Reads an open disk and makes its manifest. Give it the node of the file that is served (`{ driver: "file", … }`), not of
 * the format in it. Errors: EINVAL for a bad cluster size, those of reads.
 */
export async function makeManifest(node: Node, options: ManifestOptions = {}): Promise<Uint8Array> {
  checkOptions(options);
  checkNodes({ node });
  const { clusterBytes = MANIFEST_CLUSTER_BYTES, onProgress, signal } = options;
  if (!isManifestCluster(clusterBytes))
    throw blockError("EINVAL", "manifest", "Cluster size must be a power of two between 512 and 2048k");
  const { kernels } = node.engine.graph;
  const [length, size] = [node.length, alignUp(node.length, SECTOR_SIZE)];
  const writer = new ManifestWriter({ size, clusterBytes, hash: (bytes) => kernels.xxh3(bytes) });
  const piece = new Uint8Array(Math.max(PIECE_BYTES, clusterBytes));
  for (let done = 0; done < size;) {
    const bytes = Math.min(piece.byteLength, size - done);
    piece.fill(0, Math.max(0, length - done), bytes);
    await node.read(done, piece.subarray(0, Math.min(bytes, length - done)), signal ? { signal } : {});
    for (let at = 0; at < bytes; at += clusterBytes)
      writer.add((done + at) / clusterBytes, piece.subarray(at, Math.min(at + clusterBytes, bytes)));
    done += bytes;
    onProgress?.(done, size);
  }
  return writer.finish();
}
