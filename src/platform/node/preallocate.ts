/**
 * Changes the length of a file, reserving blocks for the new part on request. If that fails, the old length is restored.
 * `falloc` without the native call writes zeroes, as posix_fallocate does where a filesystem lacks it.
 */
import { BlockError, blockError, errnoOf, isUnsupported } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import type { FileCall, FileFacts } from "./calls.ts";
import { nativeError } from "./errors.ts";
import type { Lane } from "./lanes.ts";
import type { NativeCalls } from "./native.ts";

/** Zeroes written at once, bytes. */
const CHUNK = 1 << 20;

/** A change of length. */
export interface ResizeRequest {
  fd: number;
  lane: Lane;
  size: number;
  preallocation: "off" | "falloc" | "full";
  native: NativeCalls | undefined;
  /** Above 1 for O_DIRECT. */
  alignment: number;
}

/** Sets the length; messages as QEMU's. */
export async function resizeFile(request: ResizeRequest): Promise<void> {
  const { size, preallocation } = request;
  if (preallocation === "off") return setLength(request, size);
  const before = await lengthOf(request);
  if (size < before)
    throw blockError("ENOTSUP", "truncate", "Preallocation can't be used for shrinking files");
  if (size === before) return;
  try {
    if (preallocation === "falloc") await reserve(request, before);
    else await writeZeroes(request, before);
  } catch (error) {
    await setLength(request, before).catch(() => undefined);
    throw error;
  }
}

async function reserve(request: ResizeRequest, before: number): Promise<void> {
  const { native, lane, fd, size } = request;
  if (!native) return writeZeroes(request, before);
  const run = (): Promise<number> => native.posixFallocate(fd, before, size - before);
  const result = await lane.make({ call: "native", run }, "truncate").catch((error: BlockError) => {
    if (!isUnsupported(error)) throw error;
  });
  if (result === undefined) return writeZeroes(request, before);
  if (result === 0) return;
  const cause = nativeError(-(result as number), "truncate");
  throw described(cause, "Could not preallocate new data");
}

async function writeZeroes(request: ResizeRequest, before: number): Promise<void> {
  const { fd, lane, size, alignment } = request;
  try {
    const end = Math.floor(size / alignment) * alignment;
    const zeroes = new Uint8Array(new WebAssembly.Memory({ initial: CHUNK >> 16 }).buffer);
    for (let offset = Math.ceil(before / alignment) * alignment; offset < end;) {
      const bytes = Math.min(CHUNK, end - offset);
      const call: FileCall = { call: "write", fd, buffer: zeroes, at: 0, bytes, position: offset };
      offset += (await lane.make(call, "truncate")) as number;
    }
    await setLength(request, size);
    await lane.make({ call: "fsync", fd }, "truncate");
  } catch (error) {
    throw described(error, "Could not write zeros for preallocation");
  }
}

async function lengthOf({ fd, lane }: ResizeRequest): Promise<number> {
  return Number(((await lane.make({ call: "fstat", fd }, "truncate")) as FileFacts).size);
}

async function setLength({ fd, lane }: ResizeRequest, size: number): Promise<void> {
  try {
    await lane.make({ call: "ftruncate", fd, size }, "truncate");
  } catch (error) {
    throw described(error, "Could not resize file");
  }
}

function described(error: unknown, what: string): BlockError {
  const code = errnoOf(error);
  return new BlockError({ code, op: "truncate", message: `${what}: ${strerror(code)}`, cause: error });
}
