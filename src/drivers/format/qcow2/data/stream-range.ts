/** Where the streams of compressed clusters lie in a file of the host, for those who decompress them without reading here. */
import { isPromise } from "../../../../base/answer.ts";
import type { FileRange } from "../../../../base/host.ts";
import { compressedExtent, Kind } from "../disk/layout.ts";
import type { Image } from "../metadata/image.ts";
import { findExtent } from "../metadata/mapping.ts";

/**
 * The streams of the compressed clusters from `offset` on, of at most `bytes` bytes, as far as the tables are in memory; undefined where
 * there are none, or `offset` is within a cluster.
 */
export function streamRange(image: Image, offset: number, bytes: number): FileRange | undefined {
  const { clusterBits, clusterSize } = image.geometry;
  const { length, node } = image.file;
  const place = node.driver.fileRange?.(0, 0);
  if (place?.offset !== 0 || image.encryption || offset % clusterSize !== 0) return undefined;
  const places = new Float64Array(2 * Math.ceil(bytes / clusterSize));
  let count = 0;
  for (; count * 2 < places.length; count++) {
    const extent = findExtent(image, offset + count * clusterSize, clusterSize);
    if (isPromise(extent)) {
      void extent.catch(() => undefined);
      break;
    }
    if (extent.kind !== Kind.compressed) break;
    const stream = compressedExtent(extent.high, extent.low, clusterBits);
    if (stream.offset >= length) break;
    places.set([stream.offset, stream.bytes], 2 * count);
  }
  if (count === 0) return undefined;
  const format = image.header.compressionType === 0 ? "deflate" : "zstd";
  const streams = { format, unit: clusterSize, places: places.subarray(0, 2 * count) } as const;
  return { file: place.file, offset: 0, bytes: Math.min(bytes, count * clusterSize), streams };
}
