/**
 * Rewriting the header in place. All fields of fixed place lie in the first 512 bytes, which a disk writes or does not
 * write, but never tears; so a change that stays inside them is atomic.
 */
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import { encodeName } from "../../../../base/names.ts";
import { type Header, serializeHeader } from "../disk/header.ts";
import type { Image } from "./image.ts";

/** Where the fields begin that this function rewrites: after the backing name's place and the cluster size. */
const FIELDS_FROM = 24;
const FIELDS_TO_V2 = 72;
const FIELDS_TO_V3 = 100;

/**
 * Applies `change` to sizes, table places or feature bits of the header and writes them, as one atomic write. On an error
 * the header in memory is as before. The caller orders it against other writes (flush before, flush after).
 */
export async function updateHeader(image: Image, change: (header: Header) => void): Promise<void> {
  const before = { ...image.header };
  change(image.header);
  try {
    const { bytes } = serializeHeader(image.header);
    const to = image.header.version === 2 ? FIELDS_TO_V2 : FIELDS_TO_V3;
    await image.file.pwrite(FIELDS_FROM, bytes.subarray(FIELDS_FROM, to));
  } catch (error) {
    Object.assign(image.header, before);
    throw error;
  }
}

/**
 * Writes the whole header: what lies behind the first sector first, then the first sector, which switches. The new name goes
 * where the old one is not, if there is room, so that the old link stays whole until the switch.
 */
export async function writeHeader(image: Image): Promise<void> {
  const { header } = image;
  const name = encodeName(header.backingFile ?? "");
  const plain = serializeHeader({ ...header, backingFile: undefined }).bytes.byteLength;
  const oldEnd = header.backingOffset + limits.maxBackingNameBytes;
  const candidates = [Math.max(plain, SECTOR_SIZE), Math.ceil(oldEnd / SECTOR_SIZE) * SECTOR_SIZE];
  const within = (end: number): number | undefined =>
    candidates.find(
      (at) =>
        at + name.byteLength <= end &&
        (header.backingOffset === 0 || at + name.byteLength <= header.backingOffset || at >= oldEnd),
    );
  // A journal of bitmaps gives way to it, and ends.
  const clear = within(image.headerEnd) ?? within(image.geometry.clusterSize);
  const { bytes, backingOffset } = serializeHeader(header, clear ?? 0);
  const sector = new Uint8Array(SECTOR_SIZE);
  sector.set(bytes.subarray(0, SECTOR_SIZE));
  // Only what is needed: the bytes between the extensions and the new name may hold the old one.
  if (plain > SECTOR_SIZE) await image.file.pwrite(SECTOR_SIZE, bytes.subarray(SECTOR_SIZE, plain));
  if (backingOffset + name.byteLength > SECTOR_SIZE) await image.file.pwrite(backingOffset, name);
  if (bytes.byteLength > SECTOR_SIZE) await image.file.flush();
  await image.file.pwrite(0, sector);
  header.backingOffset = backingOffset;
}
