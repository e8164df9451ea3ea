/**
 * Reading guest data: runs of clusters that lie together become one request to the file; zeroes are filled in; what this
 * image does not hold comes from the backing file. Source: qcow2.txt, "Cluster mapping".
 */
import { readCompressed } from "./compressed.ts";
import type { Image } from "./image.ts";
import { Kind } from "./layout.ts";
import { type Extent, extentAt, findExtent, isImpossible, peekSlice, refuseExtent } from "./mapping.ts";

/** Fills `buffer` from `offset`; the range lies within the virtual disk. Errors: those of the children, EIO if corrupt. */
export async function readGuest(image: Image, offset: number, buffer: Uint8Array): Promise<void> {
  const reader = image.readers.begin();
  try {
    const whole = peekWhole(image, offset, buffer.byteLength);
    if (whole) await readExtent(image, whole, offset, buffer);
    else await readExtents(image, offset, buffer);
  } finally {
    image.readers.end(reader);
  }
}

async function readExtents(image: Image, offset: number, buffer: Uint8Array): Promise<void> {
  const bytes = buffer.byteLength;
  const reads: Promise<void>[] = [];
  try {
    for (let done = 0; done < bytes;) {
      const extent = await findExtent(image, offset + done, bytes - done);
      const read = readExtent(image, extent, offset + done, buffer.subarray(done, done + extent.bytes));
      if (read) {
        reads.push(read);
        // It may fail while the next extent is still looked up; it is reported below.
        read.catch(() => undefined);
      }
      done += extent.bytes;
    }
  } finally {
    // No request of ours may still fill the caller's buffer after we have settled.
    await Promise.allSettled(reads);
  }
  await Promise.all(reads);
}

/** The extent that covers the whole request, if it is one and in memory. */
function peekWhole(image: Image, offset: number, bytes: number): Extent | undefined {
  const slice = peekSlice(image, offset);
  if (slice === undefined) return undefined;
  const extent = extentAt(image, slice, offset, bytes);
  return extent.bytes === bytes && !isImpossible(image, extent, offset) ? extent : undefined;
}

function readExtent(
  image: Image,
  extent: Extent,
  offset: number,
  buffer: Uint8Array,
): Promise<void> | undefined {
  switch (extent.kind) {
    case Kind.zeroPlain:
    case Kind.zeroAllocated:
      buffer.fill(0);
      return undefined;
    case Kind.unallocated:
    case Kind.reserved:
      return readBacking(image, offset, buffer);
    case Kind.compressed:
      return readCompressed(image, extent, offset, buffer);
    case Kind.normal:
      return readData(image, extent.host, buffer);
    case Kind.invalid:
      return refuseExtent(image, extent, offset);
  }
}

function readData(image: Image, host: number, buffer: Uint8Array): Promise<void> {
  const event = image.event("read_aio");
  return event ? event.then(() => image.data.pread(host, buffer)) : image.data.pread(host, buffer);
}

/** Beyond the end of a shorter backing file the disk reads as zeroes; the child's edge takes care of that. */
function readBacking(image: Image, offset: number, buffer: Uint8Array): Promise<void> | undefined {
  const { backing } = image.node;
  if (!backing || offset >= backing.length) {
    buffer.fill(0);
    return undefined;
  }
  const event = image.event("read_backing_aio");
  return event ? event.then(() => backing.pread(offset, buffer)) : backing.pread(offset, buffer);
}
