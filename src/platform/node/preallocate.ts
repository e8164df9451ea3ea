/**
 * Changes the length of a file, reserving blocks for the new part on request. If that fails, the old length is restored.
 * `falloc` without the native call writes zeroes, as posix_fallocate does where a filesystem lacks it.
 */
import * as fs from "node:fs";
import { BlockError, blockError, errnoOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import { nativeError, nodeError, settle } from "./errors.ts";
import type { NativeCalls } from "./native.ts";

/** Zeroes written at once, bytes. */
const CHUNK = 1 << 20;

/** A change of length. */
export interface ResizeRequest {
  fd: number;
  size: number;
  preallocation: "off" | "falloc" | "full";
  native: NativeCalls | undefined;
  /** Above 1 for O_DIRECT. */
  alignment: number;
}

/** Sets the length; messages as QEMU's. */
export async function resizeFile(request: ResizeRequest): Promise<void> {
  const { fd, size, preallocation } = request;
  if (preallocation === "off") return setLength(fd, size);
  const before = await lengthOf(fd);
  if (size < before)
    throw blockError("ENOTSUP", "truncate", "Preallocation can't be used for shrinking files");
  if (size === before) return;
  try {
    if (preallocation === "falloc") await reserve(request, before);
    else await writeZeroes(request, before);
  } catch (error) {
    await setLength(fd, before).catch(() => undefined);
    throw error;
  }
}

async function reserve(request: ResizeRequest, before: number): Promise<void> {
  if (!request.native) return writeZeroes(request, before);
  const result = await request.native.posixFallocate(request.fd, before, request.size - before);
  if (result === 0) return;
  const cause = nativeError(-result, "truncate");
  throw described(cause, "Could not preallocate new data");
}

async function writeZeroes({ fd, size, alignment }: ResizeRequest, before: number): Promise<void> {
  try {
    const end = Math.floor(size / alignment) * alignment;
    const zeroes = new Uint8Array(new WebAssembly.Memory({ initial: CHUNK >> 16 }).buffer);
    for (let offset = Math.ceil(before / alignment) * alignment; offset < end;) {
      offset += await writeSome(fd, zeroes.subarray(0, Math.min(CHUNK, end - offset)), offset);
    }
    await setLength(fd, size);
    await new Promise<void>((resolve, reject) => fs.fsync(fd, settle("truncate", resolve, reject)));
  } catch (error) {
    throw described(error, "Could not write zeros for preallocation");
  }
}

function writeSome(fd: number, bytes: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(fd, bytes, 0, bytes.byteLength, offset, (error, count) => {
      if (error) reject(nodeError(error, "truncate"));
      else resolve(count);
    });
  });
}

function lengthOf(fd: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.fstat(fd, (error, stats) => (error ? reject(nodeError(error, "truncate")) : resolve(stats.size)));
  });
}

function setLength(fd: number, size: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.ftruncate(fd, size, (error) => {
      if (error) reject(described(nodeError(error, "truncate"), "Could not resize file"));
      else resolve();
    });
  });
}

function described(error: unknown, what: string): BlockError {
  const code = errnoOf(error);
  return new BlockError({ code, op: "truncate", message: `${what}: ${strerror(code)}`, cause: error });
}
