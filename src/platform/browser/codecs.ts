/**
 * Raw DEFLATE by the platform's compression streams, and zstd, which can be read but not written, by a package. Browsers refuse input that goes on behind the end of the stream
 * (compressed clusters are stored in whole sectors, so most do), but deliver every byte before they say so: reading
 * stops as soon as the output is full. Source: RFC 1951; WHATWG Compression.
 */
import { blockError } from "../../base/errors.ts";
import type { HostCodecs } from "../../base/host.ts";
import { decompressByPackage } from "../fzstd.ts";

/** The whole of `input` through a transform, as a reader of its chunks. */
function through(
  input: Uint8Array,
  transform: CompressionStream | DecompressionStream,
): ReadableStreamDefaultReader<Uint8Array> {
  const writer = transform.writable.getWriter();
  // The streams take no shared memory, and the arena's bytes must not change hands.
  void writer.write(input.slice()).catch(() => undefined);
  void writer.close().catch(() => undefined);
  return transform.readable.getReader();
}

/** The codecs of a browser (and of any platform with compression streams). Malformed input is EIO. */
export const streamCodecs: HostCodecs = {
  decompressZstd: decompressByPackage,
  async inflateRaw(input, output) {
    const reader = through(input, new DecompressionStream("deflate-raw"));
    let done = 0;
    try {
      while (done < output.byteLength) {
        const { value } = await reader.read();
        if (!value) break;
        const part = value.subarray(0, output.byteLength - done);
        output.set(part, done);
        done += part.byteLength;
      }
    } catch (cause) {
      if (done < output.byteLength) throw blockError("EIO", "decompress", String(cause));
    } finally {
      await reader.cancel().catch(() => undefined);
    }
    return done;
  },
  async deflateRaw(input, limit, level) {
    if (level !== undefined) throw blockError("ENOTSUP", "compress", "browsers compress by one level only");
    const reader = through(input, new CompressionStream("deflate-raw"));
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for (let next = await reader.read(); next.value; next = await reader.read()) {
      bytes += next.value.byteLength;
      if (bytes >= limit) {
        await reader.cancel().catch(() => undefined);
        return undefined;
      }
      chunks.push(next.value);
    }
    const result = new Uint8Array(bytes);
    let at = 0;
    for (const chunk of chunks) {
      result.set(chunk, at);
      at += chunk.byteLength;
    }
    return result;
  },
};
