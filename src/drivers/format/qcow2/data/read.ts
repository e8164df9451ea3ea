/**
 * Reading guest data: runs of clusters that lie together become one request to the file; zeroes are filled in; what this
 * image does not hold comes from the backing file. Source: qcow2.txt, "Cluster mapping".
 */
import { type Answer, andThen, guarded, isPromise, repeat } from "../../../../base/answer.ts";
import { closing } from "../../../../base/lease.ts";
import { settleAll } from "../../../../base/signals.ts";
import type { RequestFlags } from "../../../../block/model/contract.ts";
import { readCompressed } from "./compressed.ts";
import type { Image } from "../metadata/image.ts";
import { Kind } from "../disk/layout.ts";
import { type Extent, findExtent, refuseExtent } from "../metadata/mapping.ts";

/** A read of guest data. */
interface GuestRead {
  offset: number;
  buffer: Uint8Array;
  /** What the children are told: Req.background or nothing. */
  flags: RequestFlags;
}

/** Fills `buffer` from `offset`; the range lies within the virtual disk. Errors: those of the children, EIO if corrupt. */
export function readGuest(image: Image, read: GuestRead): Answer<void> {
  // Most reads are over at once, so nothing is made for them that only others need, not even a closure's context.
  const found = findExtent(image, read.offset, read.buffer.byteLength);
  const reading = isPromise(found) ? readFound(image, found, read) : readFrom(image, found, read);
  return isPromise(reading) ? readersUntil(image, reading) : undefined;
}

async function readFound(image: Image, found: Promise<Extent>, read: GuestRead): Promise<void> {
  await readFrom(image, await found, read);
}

/** A read under way counts as one. */
async function readersUntil(image: Image, reading: Promise<void>): Promise<void> {
  const reader = image.readers.begin();
  try {
    await reading;
  } finally {
    image.readers.end(reader);
  }
}

function readFrom(image: Image, first: Extent, read: GuestRead): Answer<void> {
  const isWhole = first.bytes === read.buffer.byteLength;
  return isWhole ? readExtent(image, first, read) : readExtents(image, first, read);
}

/** Reads what lies in several extents, `first` and those after it. */
function readExtents(image: Image, first: Extent, { offset, buffer, flags }: GuestRead): Answer<void> {
  const bytes = buffer.byteLength;
  const reads: Promise<void>[] = [];
  let done = 0;
  const readOne = (extent: Extent): boolean => {
    const part = { offset: offset + done, buffer: buffer.subarray(done, done + extent.bytes), flags };
    const read = guarded(() => readExtent(image, extent, part));
    if (isPromise(read)) {
      reads.push(read);
      // It may fail while the next extent is still looked up; it is reported below.
      read.catch(() => undefined);
    }
    done += extent.bytes;
    return done < bytes;
  };
  readOne(first);
  const all = guarded(() => repeat(() => andThen(findExtent(image, offset + done, bytes - done), readOne)));
  return isPromise(all) || reads.length > 0 ? settled(all, reads) : undefined;
}

/** No request of ours may still fill the caller's buffer after we have settled. */
function settled(all: Answer<void>, reads: readonly Promise<void>[]): Promise<void> {
  // The reads are not all started before `all` is over.
  return closing(
    async () => all,
    () => settleAll(reads),
  );
}

function readExtent(image: Image, extent: Extent, read: GuestRead): Answer<void> {
  const { offset, buffer } = read;
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
      return readData(image, extent, read);
    case Kind.invalid:
      return refuseExtent(image, extent, offset);
  }
}

function readData(image: Image, extent: Extent, read: GuestRead): Answer<void> {
  const held = image.event("read_aio");
  return held ? readHeld(image, extent, { read, held }) : readStored(image, extent, read);
}

async function readHeld(
  image: Image,
  extent: Extent,
  { read, held }: { read: GuestRead; held: Promise<void> },
): Promise<void> {
  await held;
  await readStored(image, extent, read);
}

function readStored(image: Image, { host }: Extent, read: GuestRead): Answer<void> {
  const { encryption } = image;
  if (encryption) return encryption.read(image, { guest: read.offset, host }, read);
  return image.data.pread(host, read.buffer, read.flags);
}

/** Beyond the end of a shorter backing file the disk reads as zeroes; the child's edge takes care of that. */
function readBacking(image: Image, { offset, buffer, flags }: GuestRead): Answer<void> {
  const { backing } = image.node;
  if (!backing || offset >= backing.length) {
    buffer.fill(0);
    return undefined;
  }
  return andThen(image.event("read_backing_aio"), () => backing.pread(offset, buffer, flags));
}
