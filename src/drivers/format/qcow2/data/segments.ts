/**
 * Writing the parts of a planned write to the file: one request for the caller's buffer, copy on write only at a ragged head
 * or tail.
 */
import { type Answer, andThen, rejected, together } from "../../../../base/answer.ts";
import type { DataPlace, Image } from "../metadata/image.ts";
import type { Segment } from "./plan.ts";
import { readGuest } from "./read.ts";

/** Up to this many bytes a ragged write is assembled into one request. */
const MERGE_BYTES = 256 * 1024;

/** What is written, from the guest offset on. */
export interface Source {
  readonly offset: number;
  readonly buffer: Uint8Array;
}

/** Writes all segments; the first error is thrown when none is under way any more. */
export function writeSegments(image: Image, segments: readonly Segment[], source: Source): Answer<void> {
  const only = segments.length === 1 ? segments[0] : undefined;
  if (only) return writeSegment(image, only, source);
  return together(segments.map((segment) => () => writeSegment(image, segment, source)));
}

/** Begins to write a segment. Never throws: its failure is looked at when all have ended. */
export function beginSegment(image: Image, segment: Segment, source: Source): Answer<void> {
  try {
    return writeSegment(image, segment, source);
  } catch (error) {
    return rejected(error);
  }
}

function writeSegment(image: Image, segment: Segment, { offset, buffer }: Source): Answer<void> {
  const { guest, bytes } = segment;
  const start = guest - offset;
  const whole = start === 0 && bytes === buffer.byteLength;
  const data = whole ? buffer : buffer.subarray(start, start + bytes);
  const isRagged = segment.head !== 0 || segment.tail !== 0;
  return isRagged ? writeRagged(image, segment, data) : writeData(image, segment, data);
}

function writeRagged(
  image: Image,
  { guest, bytes, host, head, tail }: Segment,
  data: Uint8Array,
): Answer<void> {
  if (head + bytes + tail <= MERGE_BYTES) {
    const merged = new Uint8Array(head + bytes + tail);
    merged.set(data, head);
    const reads = together([
      () => copyOnWriteRead(image, guest - head, merged.subarray(0, head)),
      () => copyOnWriteRead(image, guest + bytes, merged.subarray(head + bytes)),
    ]);
    return andThen(reads, () => writeData(image, { guest: guest - head, host: host - head }, merged));
  }
  return together([
    () => copyOnWrite(image, { guest: guest - head, host: host - head, bytes: head }),
    () => writeData(image, { guest, host }, data),
    () => copyOnWrite(image, { guest: guest + bytes, host: host + bytes, bytes: tail }),
  ]);
}

function copyOnWrite(
  image: Image,
  { guest, host, bytes }: { guest: number; host: number; bytes: number },
): Answer<void> {
  if (bytes === 0) return undefined;
  const buffer = new Uint8Array(bytes);
  return andThen(copyOnWriteRead(image, guest, buffer), () =>
    andThen(image.event("cow_write"), () =>
      andThen(image.checkDataOverlap(host, bytes), () => writeStored(image, { guest, host }, buffer)),
    ),
  );
}

/** The old content around a write; beyond the end of the disk it is zeroes. */
function copyOnWriteRead(image: Image, guest: number, buffer: Uint8Array): Answer<void> {
  const bytes = Math.min(buffer.byteLength, Math.max(0, image.size - guest));
  if (bytes === 0) return undefined;
  return andThen(image.event("cow_read"), () =>
    readGuest(image, { offset: guest, buffer: buffer.subarray(0, bytes), flags: 0 }),
  );
}

function writeStored(image: Image, place: DataPlace, data: Uint8Array): Answer<void> {
  if (image.encryption) return image.encryption.write(image, place, data);
  return image.data.pwrite(place.host, data);
}

function writeData(image: Image, place: DataPlace, data: Uint8Array): Answer<void> {
  const wait = image.checkDataOverlap(place.host, data.byteLength) ?? image.event("write_aio");
  return wait ? wait.then(() => writeStored(image, place, data)) : writeStored(image, place, data);
}
