/**
 * Requests of `io` on its disk, in pieces of bounded size: reading with verification and dump, writing a pattern or a
 * file's bytes.
 */
import type { Answer } from "../../../base/answer.ts";
import { type Errno, strerror } from "../../../base/errno.ts";
import { blockError, detailOf, errnoOf } from "../../../base/errors.ts";
import { MiB } from "../../../base/limits.ts";
import { readVmState, writeVmState } from "../../../block/io/vm-state.ts";
import { skipFilters } from "../../../block/model/chain.ts";
import { Req } from "../../../block/model/contract.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import type { BlockBackend } from "../../../block/graph/backend.ts";
import { IoFailure } from "./failure.ts";
import type { IoConsole } from "./console.ts";
import { hexDump, type RequestReport, requestReport } from "./report.ts";

/** A request is carried out in pieces of this size. */
const PIECE_BYTES = 16 * MiB;

/** What untouched buffers of writes are filled with. */
export const FILL_BYTE = 0xcd;

/** What `bytes` bytes from `start` (in the request) on must be. */
export interface Pattern {
  byte: number;
  start: number;
  bytes: number;
}

/** A range of the disk, bytes. */
export interface Range {
  offset: number;
  bytes: number;
}

/** How a request is told of. */
export interface Telling {
  quiet: boolean;
  machine: boolean;
}

function nodeOf(backend: BlockBackend): BlockNode {
  if (!backend.node) throw blockError("ENOMEDIUM", "io");
  return backend.node;
}

/** Seconds since a moment that performance.now() gave. */
function secondsSince(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}

/** A failed request: `read failed: Input/output error`, and what its driver says of it. */
export function requestFailure(name: string, error: unknown): IoFailure {
  const code: Errno = errnoOf(error);
  const hint = detailOf(error, "hint");
  return new IoFailure(`${name} failed: ${strerror(code)}${hint === undefined ? "" : `\n${hint}`}`);
}

/** Does the request and tells of it. Throws IoFailure under the given name. */
export async function timed(
  { name, verb, offset, bytes, quiet, machine }: Range & Telling & { name: string; verb: string },
  request: () => Answer<void>,
): Promise<string> {
  const started = performance.now();
  try {
    await request();
  } catch (error) {
    throw requestFailure(name, error);
  }
  const report: RequestReport = { verb, offset, bytes, seconds: secondsSince(started), machine };
  return quiet ? "" : requestReport(report);
}

async function inPieces(
  { offset, bytes }: Range,
  body: (piece: Range, at: number) => Promise<void>,
): Promise<void> {
  for (let at = 0; at < bytes; at += PIECE_BYTES)
    await body({ offset: offset + at, bytes: Math.min(PIECE_BYTES, bytes - at) }, at);
}

/** Reads a range; resolves with whether all bytes are as the pattern says. Errors: those of the disk. */
async function verifyRange(
  range: Range,
  pattern: Pattern | undefined,
  read: (piece: Range) => Promise<Uint8Array>,
): Promise<boolean> {
  let verified = true;
  await inPieces(range, async (piece, at) => {
    const buffer = await read(piece);
    if (!pattern) return;
    const start = Math.max(pattern.start - at, 0);
    const end = Math.min(pattern.start + pattern.bytes - at, piece.bytes);
    if (start < end && !buffer.subarray(start, end).every((byte) => byte === pattern.byte)) verified = false;
  });
  return verified;
}

/** A read as it was asked for. */
export interface ReadRequest extends Range, Telling {
  /** Names it in a failure. */
  name: string;
  pattern?: Pattern | undefined;
  dump: boolean;
  /** From the saved machine instead of the disk. */
  vmState?: boolean;
}

/** Reads, verifies and tells; resolves with whether the bytes are as they should. Throws IoFailure. */
export async function carryOutRead(
  verb: IoConsole,
  backend: BlockBackend,
  request: ReadRequest,
): Promise<boolean> {
  const { name, offset, bytes, pattern, quiet } = request;
  let last: Uint8Array = new Uint8Array();
  const read = async (piece: Range): Promise<Uint8Array> => {
    last = new Uint8Array(piece.bytes);
    if (request.vmState) await readVmState(nodeOf(backend), piece.offset, last);
    else await backend.pread(piece.offset, last);
    return last;
  };
  let verified = true;
  const report = await timed({ ...request, verb: "read" }, async () => {
    if (!request.vmState) backend.checkRange("pread", request.offset, request.bytes);
    verified = await verifyRange(request, pattern, read);
  });
  if (!verified) {
    const from = offset + pattern!.start;
    verb.print(`Pattern verification failed at offset ${from}, ${pattern!.bytes} bytes\n`);
  }
  if (quiet) return verified;
  if (request.dump && bytes <= PIECE_BYTES) verb.print(hexDump(last, offset));
  else if (request.dump) {
    // What was read is not kept: it may be large.
    const print = async (piece: Range): Promise<void> => verb.print(hexDump(await read(piece), piece.offset));
    await inPieces(request, print).catch((error: unknown) => {
      throw requestFailure(name, error);
    });
  }
  verb.print(report);
  return verified;
}

/** A write as it was asked for. */
export interface WriteRequest extends Range, Telling {
  /** Names it in a failure. */
  name: string;
  /** Bits of Req. */
  flags: number;
  /** Zeroes by themselves, without data. */
  zeroes: boolean;
  /** What is written, again and again. */
  source: Uint8Array;
  /** Into the saved machine instead of the disk. */
  vmState?: boolean;
}

/** Writes and tells. Throws IoFailure. */
export async function carryOutWrite(
  verb: IoConsole,
  backend: BlockBackend,
  request: WriteRequest,
): Promise<boolean> {
  const { offset, bytes, flags, source } = request;
  const report = await timed({ ...request, verb: "wrote" }, async () => {
    if (request.zeroes) return backend.pwriteZeroes(offset, bytes, flags);
    if (flags & Req.compressed && !skipFilters(nodeOf(backend)).type.compressedWrites)
      throw blockError("ENOTSUP", "pwrite");
    if (!request.vmState) backend.checkRange("pwrite", request.offset, request.bytes);
    await inPieces(request, async (piece, at) => {
      const buffer = new Uint8Array(piece.bytes);
      repeat(buffer, source, at);
      if (request.vmState) await writeVmState(nodeOf(backend), piece.offset, buffer);
      else await backend.pwrite(piece.offset, buffer, flags);
    });
  });
  verb.print(report);
  return true;
}

/** Fills a buffer with `source` over and over; `at` bytes went before. */
function repeat(buffer: Uint8Array, source: Uint8Array, at: number): void {
  const [only] = source;
  if (source.byteLength === 1) {
    buffer.fill(only!);
    return;
  }
  let from = at % source.byteLength;
  for (let to = 0; to < buffer.byteLength;) {
    const part = source.subarray(from, from + Math.min(source.byteLength - from, buffer.byteLength - to));
    buffer.set(part, to);
    to += part.byteLength;
    from = 0;
  }
}
