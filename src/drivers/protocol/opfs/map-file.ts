/**
 * The map of a cluster store as it lies in its file: two copies of a header, then 8 bytes for each slot of the data file
 * that say which cluster of the disk it holds.
 *
 * Layout, little endian. Header (512 bytes, at 0 and at 4096; the valid one of the higher generation counts): magic (8),
 * version u32, cluster bits u32, size u64, generation u32, salt u32, check u32. Entries from 8192 on: cluster + 1 as u32
 * (0: the slot is free), check u32 over slot, cluster and salt. A header and an entry each lie within one sector, so that
 * a power cut leaves the old or the new one.
 */
import { ImageError } from "../../../base/errors.ts";
import type { SyncFile } from "../../../base/host.ts";
import { alignUp } from "../../../base/ranges.ts";
import { readWhole, writeWhole } from "./sync-io.ts";

const MAGIC = new TextEncoder().encode("bwStore\n");
const VERSION = 1;
const HEADER_BYTES = 512;
const CHECKED_BYTES = 32;
const SECOND_HEADER = 4096;
const ENTRIES_AT = 8192;
const ENTRY_BYTES = 8;
/** The file grows by so many bytes of entries at once. */
const GROWTH_BYTES = 4096;
/** Entries that are read or written at once. */
const BATCH = 65_536;

/** What the header says. */
export interface StoreHeader {
  clusterBits: number;
  /** Bytes of the disk. */
  size: number;
  generation: number;
  /** Drawn at creation, so that entries of another store are not taken for ours. */
  salt: number;
}

/** FNV-1a over bytes. */
function hashBytes(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Mixes the numbers of an entry; never 0, so that an entry of zeroes is a free slot and nothing else. */
function entryCheck(slot: number, owner: number, salt: number): number {
  let hash = Math.imul(slot ^ salt, 0x9e3779b1) ^ owner;
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae3d);
  return ((hash ^ (hash >>> 16)) | 1) >>> 0;
}

function parseHeader(bytes: Uint8Array): StoreHeader | undefined {
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (view.getUint32(CHECKED_BYTES, true) !== hashBytes(bytes.subarray(0, CHECKED_BYTES))) return undefined;
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    const message = `Unsupported version ${version} of the store`;
    throw new ImageError({ code: "ENOTSUP", structure: "store header", field: "version", message });
  }
  const size = view.getUint32(16, true) + view.getUint32(20, true) * 2 ** 32;
  return {
    clusterBits: view.getUint32(12, true),
    size,
    generation: view.getUint32(24, true),
    salt: view.getUint32(28, true),
  };
}

/** The map file. Errors of the calls: those of the file. */
export class MapFile {
  readonly #file: SyncFile;
  readonly #salt: number;

  constructor(file: SyncFile, salt: number) {
    this.#file = file;
    this.#salt = salt;
  }

  /** The header of the last generation that is whole; ImageError where there is none. */
  static readHeader(file: SyncFile): StoreHeader {
    let newest: StoreHeader | undefined;
    for (const at of [0, SECOND_HEADER]) {
      const bytes = new Uint8Array(HEADER_BYTES);
      readWhole(file, bytes, { offset: at, least: 0 });
      const header = parseHeader(bytes);
      if (header && (!newest || header.generation > newest.generation)) newest = header;
    }
    if (!newest)
      throw new ImageError({ structure: "store header", message: "The store has no valid header" });
    return newest;
  }

  /** Writes a header beside the one of the generation before it. Not yet durable. */
  writeHeader({ clusterBits, size, generation, salt }: StoreHeader): void {
    const bytes = new Uint8Array(HEADER_BYTES);
    bytes.set(MAGIC);
    const view = new DataView(bytes.buffer);
    const low = size % 2 ** 32;
    view.setUint32(8, VERSION, true);
    view.setUint32(12, clusterBits, true);
    view.setUint32(16, low, true);
    view.setUint32(20, (size - low) / 2 ** 32, true);
    view.setUint32(24, generation, true);
    view.setUint32(28, salt, true);
    view.setUint32(CHECKED_BYTES, hashBytes(bytes.subarray(0, CHECKED_BYTES)), true);
    writeWhole(this.#file, bytes, generation % 2 === 0 ? 0 : SECOND_HEADER);
  }

  /** Calls `found(slot, cluster)` for every slot in use. ImageError for an entry that is neither free nor valid. */
  readEntries(found: (slot: number, cluster: number) => void): void {
    const count = Math.max(0, Math.floor((this.#file.size() - ENTRIES_AT) / ENTRY_BYTES));
    for (let first = 0; first < count; first += BATCH) {
      const batch = Math.min(BATCH, count - first);
      const bytes = new Uint8Array(batch * ENTRY_BYTES);
      readWhole(this.#file, bytes, { offset: ENTRIES_AT + first * ENTRY_BYTES, least: bytes.byteLength });
      const words = new DataView(bytes.buffer);
      for (let i = 0; i < batch; i++) {
        const owner = words.getUint32(i * ENTRY_BYTES, true);
        const check = words.getUint32(i * ENTRY_BYTES + 4, true);
        if (owner === 0 && check === 0) continue;
        if (owner === 0 || check !== entryCheck(first + i, owner, this.#salt)) throw damaged(first + i);
        found(first + i, owner - 1);
      }
    }
  }

  /**
   * Makes room for the entries of `slots` slots, so that writing them never meets a full disk: what was accepted can
   * be made durable. ENOSPC.
   */
  reserve(slots: number): void {
    const size = this.#file.size();
    const needed = ENTRIES_AT + slots * ENTRY_BYTES;
    if (needed <= size) return;
    const from = Math.max(size, ENTRIES_AT);
    writeWhole(this.#file, new Uint8Array(alignUp(needed, GROWTH_BYTES) - from), from);
  }

  /** Writes the entries of `count` slots from `first` on; `ownerOf` gives cluster + 1, or 0. Not yet durable. */
  writeEntries(first: number, count: number, ownerOf: (slot: number) => number): void {
    const bytes = new Uint8Array(count * ENTRY_BYTES);
    const words = new DataView(bytes.buffer);
    for (let i = 0; i < count; i++) {
      const owner = ownerOf(first + i);
      if (owner === 0) continue;
      words.setUint32(i * ENTRY_BYTES, owner, true);
      words.setUint32(i * ENTRY_BYTES + 4, entryCheck(first + i, owner, this.#salt), true);
    }
    writeWhole(this.#file, bytes, ENTRIES_AT + first * ENTRY_BYTES);
  }

  flush(): void {
    this.#file.flush();
  }

  size(): number {
    return this.#file.size();
  }

  close(): void {
    this.#file.close();
  }
}

function damaged(slot: number): ImageError {
  return new ImageError({
    code: "EIO",
    structure: "store map",
    field: `slot ${slot}`,
    message: `The store's map is damaged at slot ${slot}`,
  });
}
