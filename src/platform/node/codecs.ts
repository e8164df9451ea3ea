/**
 * zstd (see zstd.ts), and raw DEFLATE by node:zlib, on its thread pool; many streams at once are decompressed on threads (see
 * decode-pool.ts). Deflating uses QEMU's parameters for compressed clusters: a window of
 * 4 KiB, the largest memory level, the default compression level. Source: RFC 1951, qcow2's compressed clusters.
 */
import type { HostCodecs } from "../../base/host.ts";
import { zstdStreamByPackage } from "../fzstd.ts";
import { DecodePool } from "./decode-pool.ts";
import { nodeError } from "./errors.ts";
import { nodeZstd, zlib } from "./zstd.ts";

const WINDOW_BITS = 12;
const MEMORY_LEVEL = 9;
/** Node's smallest zlib chunk, bytes. */
const MIN_CHUNK = 64;

function isTooLarge(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE";
}

/** For input that holds more than `output` takes: stops at the chunk that fills it. */
function inflateUntilFull(input: Uint8Array, output: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const stream = zlib().createInflateRaw({ chunkSize: Math.max(MIN_CHUNK, output.byteLength) });
    stream.on("data", (chunk: Uint8Array) => {
      const room = output.byteLength - done;
      output.set(chunk.subarray(0, room), done);
      done += Math.min(room, chunk.byteLength);
      if (done < output.byteLength) return;
      stream.destroy();
      resolve(done);
    });
    stream.once("end", () => resolve(done));
    stream.once("error", (error) => reject(nodeError(error, "decompress")));
    stream.end(input);
  });
}

function inflateByZlib(input: Uint8Array, output: Uint8Array): Promise<number> {
  const options = {
    chunkSize: Math.max(MIN_CHUNK, output.byteLength),
    maxOutputLength: Math.max(1, output.byteLength),
    // Input that ends early gives what it holds, not an error; the caller sees the count.
    finishFlush: zlib().constants.Z_SYNC_FLUSH,
  };
  return new Promise((resolve, reject) => {
    zlib().inflateRaw(input, options, (error, result) => {
      if (isTooLarge(error)) return resolve(inflateUntilFull(input, output));
      if (error) return reject(nodeError(error, "decompress"));
      output.set(result.subarray(0, output.byteLength));
      resolve(Math.min(result.byteLength, output.byteLength));
    });
  });
}

/** The codecs of Node that decompress by `pool`, and what does not go there by Node's own. Malformed input is EIO. */
export function codecsOf(pool: DecodePool): HostCodecs & typeof nodeZstd {
  return {
    ...plainCodecs,
    inflateRaw: (input, output) =>
      pool.decode("deflate", input, { output, otherwise: () => inflateByZlib(input, output) }),
    decompressZstd: (input, output) =>
      pool.decode("zstd", input, { output, otherwise: () => nodeZstd.decompressZstd(input, output) }),
  };
}

/** Node's own codecs, each call on its thread pool. Malformed input is EIO. */
export const plainCodecs: HostCodecs & typeof nodeZstd = {
  ...nodeZstd,
  zstdStream: zstdStreamByPackage,
  inflateRaw: inflateByZlib,
  deflateRaw(input, limit, level) {
    if (limit <= 1) return Promise.resolve(undefined);
    const options = {
      windowBits: WINDOW_BITS,
      memLevel: MEMORY_LEVEL,
      maxOutputLength: limit - 1,
      level: level ?? zlib().constants.Z_DEFAULT_COMPRESSION,
    };
    return new Promise((resolve, reject) => {
      zlib().deflateRaw(input, options, (error, result) => {
        if (isTooLarge(error)) resolve(undefined);
        else if (error) reject(nodeError(error, "compress"));
        else resolve(new Uint8Array(result.buffer, result.byteOffset, result.byteLength));
      });
    });
  },
};

/** The codecs of this process, with the system's library of zstd and without. Malformed input is EIO. */
export const nodeCodecs = {
  auto: codecsOf(new DecodePool()),
  off: codecsOf(new DecodePool({ native: false })),
} as const;
