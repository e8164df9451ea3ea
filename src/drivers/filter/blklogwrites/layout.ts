/**
 * What lies in a log of writes: one sector with the head, then for each entry one sector that describes it, and its data. All numbers
 * are little-endian, places and lengths are sectors. Source: the layout that the kernel's documentation of dm-log-writes describes.
 */
import { optionError } from "../../../block/model/options.ts";

const MAGIC = 0x6a736677736872n;
const VERSION = 1n;
/** Bits of an entry's flags. */
export const EntryFlag = { flush: 1, discard: 4 } as const;
/** With FUA and marks, which we write none of. */
const KNOWN_FLAGS = 15n;
const HEAD_BYTES = 28;
/** Bytes of an entry without its padding: no sector is smaller. */
export const ENTRY_BYTES = 32;
const MOST_SECTOR = 2 ** 24;

/** An entry; `offset` and `sectors` count sectors of the disk. */
export interface LogEntry {
  readonly offset: number;
  readonly sectors: number;
  readonly flags: number;
}

/** Throws EINVAL for what can be no sector. */
export function checkSector(bytes: number): void {
  const isPower = bytes > 0 && 2 ** Math.round(Math.log2(bytes)) === bytes;
  if (!isPower || bytes < ENTRY_BYTES || bytes >= MOST_SECTOR)
    throw optionError(`Invalid log sector size ${bytes}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The head, a sector long. */
export function headOf(entries: number, sector: number): Uint8Array {
  const block = new Uint8Array(sector);
  const view = viewOf(block);
  [MAGIC, VERSION, BigInt(entries)].forEach((value, at) => view.setBigUint64(at * 8, value, true));
  view.setUint32(24, sector, true);
  return block;
}

/** The head of a log that is there, bytes and number of entries. Throws EINVAL in QEMU's words. */
export function readHead(bytes: Uint8Array): { sector: number; entries: number } {
  const view = viewOf(bytes.subarray(0, HEAD_BYTES));
  if (view.getBigUint64(0, true) !== MAGIC) throw optionError("Invalid log superblock magic");
  const version = view.getBigUint64(8, true);
  if (version !== VERSION) throw optionError(`Unsupported log version ${version}`);
  const sector = view.getUint32(24, true);
  checkSector(sector);
  return { sector, entries: Number(view.getBigUint64(16, true)) };
}

/** An entry, a sector long. */
export function blockOf({ offset, sectors, flags }: LogEntry, sector: number): Uint8Array {
  const block = new Uint8Array(sector);
  const view = viewOf(block);
  [offset, sectors, flags].forEach((value, at) => view.setBigUint64(at * 8, BigInt(value), true));
  return block;
}

/** How many sectors an entry of a log takes, itself included. Throws EINVAL for flags that nobody knows. */
export function sectorsTaken(block: Uint8Array, number: number): number {
  const view = viewOf(block);
  const flags = view.getBigUint64(16, true);
  if ((flags & ~KNOWN_FLAGS) !== 0n)
    throw optionError(`Invalid flags 0x${flags.toString(16)} in log entry ${number}`);
  return 1 + (Number(flags) & EntryFlag.discard ? 0 : Number(view.getBigUint64(8, true)));
}
