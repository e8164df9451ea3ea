/**
 * Version 3 to version 2: zero clusters, which version 2 has not, become unallocated where nothing lies below them and data
 * elsewhere; then one write of the header switches. Until then the image is a whole one of version 3.
 * Source: behaviour and words of QEMU 7.2 (`qemu-img amend -o compat=0.10`).
 */
import { assert } from "../../../../base/assert.ts";
import { CommandError } from "../../../../base/errors.ts";
import { MiB } from "../../../../base/limits.ts";
import { rewriteHeader } from "../metadata/backing-link.ts";
import { hasDataFile } from "../data/data-file.ts";
import { Extension, withFeatureNames } from "../disk/header-extensions.ts";
import type { Header } from "../disk/header.ts";
import type { Image } from "../metadata/image.ts";
import { Incompatible, Kind } from "../disk/layout.ts";
import { findExtent } from "../metadata/mapping.ts";
import { writeGuest } from "../data/write.ts";
import { discardFully } from "../data/zeroes-discard.ts";

const CHUNK_BYTES = MiB;

/** Makes the image one of version 2. Throws CommandError for one that can't be. */
export async function downgrade(image: Image): Promise<void> {
  check(image.header);
  await expandZeroes(image);
  await rewriteHeader(image, (header) => {
    // A snapshot or a bitmap may have come meanwhile.
    check(header);
    header.version = 2;
    header.headerLength = 72;
    header.incompatible = 0n;
    header.compatible = 0n;
    header.autoclear = 0n;
    header.extensions = withFeatureNames(header.extensions, false);
  });
}

function check(header: Header): void {
  if (hasDataFile(header)) throw new CommandError("Cannot downgrade an image with a data file");
  if (header.refcountOrder !== 4) throw new CommandError("compat=0.10 requires refcount_bits=16");
  // Their tables may hold zero clusters too.
  if (header.snapshotCount > 0) throw new CommandError("Internal snapshots prevent downgrade of image");
  const features = Number(header.incompatible) & ~Incompatible.dirty;
  if (features !== 0)
    throw new CommandError(
      `Cannot downgrade an image with incompatible features 0x${features.toString(16)} set`,
    );
  if (header.extensions.some(({ type }) => type === Extension.bitmaps))
    throw new CommandError("Cannot downgrade an image with persistent bitmaps");
}

/** Replaces zero clusters of the disk; what lies behind its end is the saved machine, which a downgrade keeps as it is. */
async function expandZeroes(image: Image): Promise<void> {
  const { backing } = image.node;
  for (let at = 0; at < image.size;) {
    const extent = await findExtent(image, at, image.size - at);
    const end = at + extent.bytes;
    assert(end > at, "a look finds something");
    const isBacked = backing !== undefined && backing.length > at;
    if (extent.kind === Kind.zeroPlain && !isBacked) await drop(image, at, end);
    else if (extent.kind === Kind.zeroPlain || extent.kind === Kind.zeroAllocated) {
      for (let from = at; from < end; from += CHUNK_BYTES)
        await writeGuest(image, from, new Uint8Array(Math.min(CHUNK_BYTES, end - from)));
    }
    at = end;
  }
}

async function drop(image: Image, from: number, to: number): Promise<void> {
  const claim = await image.claims.exclusive(from, to - from);
  try {
    await discardFully(image, { from, to });
  } finally {
    image.claims.end(claim);
  }
}
