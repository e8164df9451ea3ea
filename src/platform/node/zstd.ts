/**
 * zstd by what there is: node:zlib where it has it (Node 22.15 on), else the optional packages fzstd (reading) and
 * @bokuweb/zstd-wasm (writing). Source: RFC 8878.
 */
import { blockError } from "../../base/errors.ts";
import type { HostCodecs } from "../../base/host.ts";
import { decompressByPackage, missingPackage } from "../fzstd.ts";

type Callback = (error: Error | null, result: Uint8Array) => void;

/** Loaded when it is first needed. */
export const zlib = () => process.getBuiltinModule("node:zlib");

/** The part of node:zlib that older versions lack. */
interface Builtin {
  zstdDecompress?: (input: Uint8Array, options: { maxOutputLength: number }, done: Callback) => void;
  zstdCompress?: (input: Uint8Array, options: { params: Record<number, number> }, done: Callback) => void;
}

/** The level that libzstd calls its default, and QEMU uses. */
const LEVEL = 3;

function decompressByNode(
  decompress: NonNullable<Builtin["zstdDecompress"]>,
  input: Uint8Array,
  output: Uint8Array,
): Promise<number> {
  return new Promise((resolve, reject) => {
    decompress(input, { maxOutputLength: Math.max(1, output.byteLength) }, (error, result) => {
      if (error) return reject(blockError("EIO", "decompress", error.message));
      output.set(result);
      resolve(result.byteLength);
    });
  });
}

/** ZSTD_c_compressionLevel of zstd.h. */
const LEVEL_PARAMETER = 100;

type Writer = (input: Uint8Array, level: number) => Uint8Array;

/** Of the process: made ready twice, the package writes damaged frames, and a process may hold this module twice. */
const READY = Symbol.for("blockwright.zstd-wasm");
const ofProcess = globalThis as { [READY]?: Promise<Writer> };

async function loadWriter(): Promise<Writer> {
  const { compress, init } = await import("@bokuweb/zstd-wasm").catch((cause: unknown) => {
    throw missingPackage("@bokuweb/zstd-wasm", cause);
  });
  await init();
  return (input, level) => compress(input, level);
}

async function compressBySomething(input: Uint8Array, level: number): Promise<Uint8Array> {
  const { zstdCompress } = zlib() as unknown as Builtin;
  if (!zstdCompress) return (await (ofProcess[READY] ??= loadWriter()))(input, level);
  return new Promise((resolve, reject) => {
    zstdCompress(input, { params: { [LEVEL_PARAMETER]: level } }, (error, result) => {
      if (error) reject(blockError("EIO", "compress", error.message));
      else resolve(new Uint8Array(result.buffer, result.byteOffset, result.byteLength));
    });
  });
}

/** The zstd half of Node's codecs. Malformed input is EIO; ENOTSUP where a package is missing. */
export const nodeZstd: Required<Pick<HostCodecs, "compressZstd" | "decompressZstd">> = {
  decompressZstd(input, output) {
    const { zstdDecompress } = zlib() as unknown as Builtin;
    return zstdDecompress
      ? decompressByNode(zstdDecompress, input, output)
      : decompressByPackage(input, output);
  },
  async compressZstd(input, limit, level = LEVEL) {
    const result = await compressBySomething(input, level);
    return result.byteLength < limit ? result : undefined;
  },
};
