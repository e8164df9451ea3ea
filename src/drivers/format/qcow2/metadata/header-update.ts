/**
 * Rewriting the header in place. All fields of fixed place lie in the first 512 bytes, which a disk writes or does not
 * write, but never tears; so a change that stays inside them is atomic.
 */
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
