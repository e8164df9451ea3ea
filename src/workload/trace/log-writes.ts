/**
 * Logs of writes as Linux's dm-log-writes and QEMU's driver blklogwrites make them: every write with its data, discards, flushes,
 * FUA, and marks. There are no reads in them and no times.
 *
 * Source: the layout that the kernel's documentation of dm-log-writes describes. All numbers are little-endian. One block (the
 * device's sector) of head: magic, version, number of entries (64 bits each), bytes of a sector (32). Then for each entry one
 * block with sector, sectors, flags, bytes of a mark (64 bits each), and behind it the data, which discards have none of.
 */
import { WorkloadError } from "../model/plan.ts";
import type { Recorded } from "./recorded.ts";
import { BlockReader, type RecordingBytes } from "./source.ts";

const MAGIC = 0x6a736677736872n;
const [FLUSH, FUA, DISCARD, MARK] = [1, 2, 4, 8] as const;
const [LEAST_SECTOR, MOST_SECTOR] = [512, 1 << 20] as const;
/** More data than any request has. */
const MOST_BYTES = 2 ** 31;
const FILE = "disk";

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether these are the first bytes of one. */
export function isLogOfWrites(first: Uint8Array): boolean {
  return first.length >= 28 && viewOf(first).getBigUint64(0, true) === MAGIC;
}

interface Head {
  readonly entries: number;
  readonly sector: number;
}

function readHead(reader: BlockReader): Head {
  const first = reader.take(LEAST_SECTOR);
  if (first.length < LEAST_SECTOR) throw new WorkloadError("the log of writes ends within its head");
  const view = viewOf(first);
  const version = view.getBigUint64(8, true);
  if (version !== 1n) throw new WorkloadError(`the log of writes has version ${version}, not 1`);
  const entries = Number(view.getBigUint64(16, true));
  const sector = view.getUint32(24, true);
  const isPower = sector >= LEAST_SECTOR && sector <= MOST_SECTOR && (sector & (sector - 1)) === 0;
  if (!isPower) throw new WorkloadError(`the log of writes has sectors of ${sector} bytes`);
  reader.take(sector - LEAST_SECTOR);
  return { entries, sector };
}

interface Entry {
  readonly flags: number;
  readonly offset: number;
  readonly bytes: number;
}

function readEntry(reader: BlockReader, sector: number, number: number): Entry | undefined {
  const block = reader.take(sector);
  if (block.length < sector) return undefined;
  const view = viewOf(block);
  const offset = Number(view.getBigUint64(0, true)) * sector;
  const bytes = Number(view.getBigUint64(8, true)) * sector;
  const flags = Number(view.getBigUint64(16, true) & 0xffn);
  const isSound = Number.isSafeInteger(offset + bytes) && ((flags & DISCARD) !== 0 || bytes <= MOST_BYTES);
  if (!isSound) throw new WorkloadError(`entry ${number} of the log of writes is out of range`);
  return { flags, offset, bytes };
}

/** The requests. A log that ends early, as of a machine that has crashed, has those that are whole. Throws WorkloadError. */
export function* readLogOfWrites(source: RecordingBytes): Generator<Recorded> {
  const reader = new BlockReader(source);
  const { entries, sector } = readHead(reader);
  for (let number = 0; number < entries; number++) {
    const entry = readEntry(reader, sector, number);
    if (!entry) return;
    const { flags, offset, bytes } = entry;
    const timeless = { file: FILE, atNs: undefined };
    if ((flags & FLUSH) !== 0) yield { ...timeless, operation: "flush", offset: 0, bytes: 0 };
    if ((flags & MARK) !== 0 || bytes === 0) continue;
    if ((flags & DISCARD) !== 0) {
      yield { ...timeless, operation: "discard", offset, bytes };
      continue;
    }
    const data = reader.take(bytes);
    if (data.length < bytes) return;
    const fua = (flags & FUA) !== 0;
    yield { ...timeless, operation: "write", offset, bytes, data, ...(fua ? { fua } : {}) };
  }
}
