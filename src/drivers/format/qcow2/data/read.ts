/**
 * Reading guest data: runs of clusters that lie together become one request to the file; zeroes are filled in; what this
 * image does not hold comes from the backing file. Source: qcow2.txt, "Cluster mapping".
 */
import type { RequestFlags } from "../../../../block/model/contract.ts";
import { readCompressed } from "./compressed.ts";
import type { DataPlace, Image } from "../metadata/image.ts";
import { Kind } from "../disk/layout.ts";
import {
  type Extent,
  extentAt,
  findExtent,
  isImpossible,
  peekSlice,
  refuseExtent,
} from "../metadata/mapping.ts";

/** A read of guest data. */
interface GuestRead {
  offset: number;
  buffer: Uint8Array;
  /** What the children are told: Req.background or nothing. */
  flags: RequestFlags;
}

/** Fills `buffer` from `offset`; the range lies within the virtual disk. Errors: those of the children, EIO if corrupt. */
export async function readGuest(image: Image, read: GuestRead): Promise<void> {
  const reader = image.readers.begin();
  try {
    const whole = peekWhole(image, read.offset, read.buffer.byteLength);
    if (whole) await readExtent(image, whole, read);
    else await readExtents(image, read);
  } finally {
    image.readers.end(reader);
  }
}

/** As readGuest(), at once: for a request that one extent covers whose way is in memory. False: it can't be. */
export function readGuestNow(image: Image, offset: number, buffer: Uint8Array): boolean {
  const extent = peekWhole(image, offset, buffer.byteLength);
  if (image.file.node.driver.debugEvent) return false;
  if (extent?.kind === Kind.zeroPlain || extent?.kind === Kind.zeroAllocated) {
    buffer.fill(0);
    return true;
  }
  if (extent?.kind !== Kind.normal) return false;
  const { encryption } = image;
  if (encryption) return encryption.readNow(image, { guest: offset, host: extent.host }, buffer);
  return image.data.preadNow(extent.host, buffer);
}

async function readExtents(image: Image, { offset, buffer, flags }: GuestRead): Promise<void> {
  const bytes = buffer.byteLength;
  const reads: Promise<void>[] = [];
  try {
    for (let done = 0; done < bytes;) {
      const extent = await findExtent(image, offset + done, bytes - done);
      const part = { offset: offset + done, buffer: buffer.subarray(done, done + extent.bytes), flags };
      const read = readExtent(image, extent, part);
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

function readExtent(image: Image, extent: Extent, read: GuestRead): Promise<void> | undefined {
  const { offset, buffer, flags } = read;
  switch (extent.kind) {
    case Kind.zeroPlain:
    case Kind.zeroAllocated:
      buffer.fill(0);
      return undefined;
    case Kind.unallocated:
    case Kind.reserved:
      return readBacking(image, read);
    case Kind.compressed:
      return readCompressed(image, extent, offset, buffer);
    case Kind.normal:
      return readData(image, { guest: offset, host: extent.host }, { buffer, flags });
    case Kind.invalid:
      return refuseExtent(image, extent, offset);
  }
}

function readData(image: Image, place: DataPlace, how: Pick<GuestRead, "buffer" | "flags">): Promise<void> {
  const event = image.event("read_aio");
  const { encryption } = image;
  const read = (): Promise<void> =>
    encryption ? encryption.read(image, place, how) : image.data.pread(place.host, how.buffer, how.flags);
  return event ? event.then(read) : read();
}

/** Beyond the end of a shorter backing file the disk reads as zeroes; the child's edge takes care of that. */
function readBacking(image: Image, { offset, buffer, flags }: GuestRead): Promise<void> | undefined {
  const { backing } = image.node;
  if (!backing || offset >= backing.length) {
    buffer.fill(0);
    return undefined;
  }
  const event = image.event("read_backing_aio");
  const read = (): Promise<void> => backing.pread(offset, buffer, flags);
  return event ? event.then(read) : read();
}
