/**
 * Disks as WHATWG streams. Backpressure is the stream's: one chunk is read ahead at most, and a write resolves when the
 * node has taken it. Chunks are 1 MiB unless the reader brings its own buffer (BYOB), where the engine has byte streams.
 */
import { BlockError } from "../base/errors.ts";
import { MiB } from "../base/limits.ts";
import { callOptions, optionsOf, rangeOptions } from "./options.ts";

/** Bytes of a chunk. */
export const STREAM_CHUNK_BYTES = MiB;

/** Where a stream reads and writes. */
export interface StreamTarget {
  readonly name: string;
  readonly length: number;
  read(offset: number, buffer: Uint8Array, options?: { signal?: AbortSignal }): Promise<Uint8Array>;
  write(offset: number, data: Uint8Array, options?: { signal?: AbortSignal }): Promise<void>;
  flush(options?: { signal?: AbortSignal }): Promise<void>;
}

/** Which part of a disk a stream covers, bytes. */
export interface StreamRange {
  /** Default 0. */
  offset?: number;
  /** Default: up to the end of the disk. Readable streams only. */
  length?: number;
  signal?: AbortSignal;
}

const checkReadable = optionsOf<StreamRange>(rangeOptions);
const checkWritable = optionsOf<Omit<StreamRange, "length">>({ ...callOptions, offset: "Length" });

/** A byte stream (a plain one where the engine has no byte streams) over a range of a disk; errors the stream with EINVAL where the range is outside the disk. */
export function readableOf(disk: StreamTarget, range: StreamRange = {}): ReadableStream<Uint8Array> {
  checkReadable(range);
  const { offset = 0, signal } = range;
  const end = offset + (range.length ?? disk.length - offset);
  checkRange(disk, { offset, end });
  const options = signal ? { signal } : {};
  let at = offset;
  const source = {
    async pull(controller: ReadableByteStreamController | ReadableStreamDefaultController): Promise<void> {
      const request = "byobRequest" in controller ? controller.byobRequest : null;
      if (at >= end) {
        controller.close();
        request?.respond(0);
        return;
      }
      const view = request?.view;
      const room = Math.min(end - at, view?.byteLength ?? STREAM_CHUNK_BYTES);
      const buffer = view ? new Uint8Array(view.buffer, view.byteOffset, room) : new Uint8Array(room);
      await disk.read(at, buffer, options);
      at += room;
      if (request) request.respond(room);
      else controller.enqueue(buffer);
    },
  };
  return hasByteStreams()
    ? new ReadableStream({ ...source, type: "bytes" })
    : new ReadableStream<Uint8Array>(source);
}

/** Whether a reader can bring its own buffer. WebKit names the parts of byte streams, and throws a TypeError where one is made. */
function hasByteStreams(): boolean {
  try {
    return new ReadableStream({ type: "bytes" }).locked === false;
  } catch {
    return false;
  }
}

/** A stream that writes what comes from `offset` on, and flushes when it is closed. Beyond the end: ENOSPC. */
export function writableOf(
  disk: StreamTarget,
  range: Omit<StreamRange, "length"> = {},
): WritableStream<Uint8Array> {
  checkWritable(range);
  const { offset = 0, signal } = range;
  checkRange(disk, { offset, end: offset });
  const options = signal ? { signal } : {};
  let at = offset;
  return new WritableStream<Uint8Array>({
    async write(chunk): Promise<void> {
      if (at + chunk.byteLength > disk.length) {
        throw new BlockError({
          code: "ENOSPC",
          op: "pwrite",
          node: disk.name,
          offset: at,
          bytes: chunk.byteLength,
        });
      }
      await disk.write(at, chunk, options);
      at += chunk.byteLength;
    },
    close: () => disk.flush(options),
  });
}

function checkRange(disk: StreamTarget, { offset, end }: { offset: number; end: number }): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(end);
  if (whole && offset >= 0 && end >= offset && end <= disk.length) return;
  const message = `the range ${offset} … ${end} is outside the disk of ${disk.length} bytes`;
  throw new BlockError({ code: "EINVAL", op: "stream", node: disk.name, message });
}
