/**
 * The table of internal snapshots: variable-length entries one after the other, each padded to 8 bytes. What is written back
 * has all extra data that we know, which old writers left out and version 3 demands; what we do not know is kept.
 * Source: qcow2.txt, "Snapshots".
 */
import { decodeName, encodeName } from "../../../../base/names.ts";
import { ImageError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import type { SnapshotInfo } from "../../../../block/model/contract.ts";
import type { Edge } from "../../../../block/model/contract.ts";
import { readU64, writeU64 } from "./layout.ts";

/** One snapshot. */
export interface Snapshot {
  readonly info: SnapshotInfo;
  /** Its L1 table: offset in the file (unchecked) and entries. */
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** Its entry as it lies in the file, padding included. */
  readonly bytes: Uint8Array;
}

/** Bytes of an entry before its extra data. */
export const FIXED_BYTES = 40;
/** The extra data that we write: 64-bit VM state size, disk size, instruction count. */
const EXTRA_BYTES = 24;
/** The least extra data of version 3: the sizes of the VM state and of the disk. */
export const LEAST_EXTRA_BYTES = 16;
const CHUNK_BYTES = 65536;
const NO_ICOUNT = 2n ** 64n - 1n;
const NANOSECONDS = 1_000_000_000n;

function fail(
  message: string,
  { code = "EINVAL", removable }: { code?: "EINVAL" | "EFBIG"; removable?: string } = {},
): never {
  throw new ImageError({
    structure: "snapshot table",
    code,
    message,
    ...(removable ? { details: { removable } } : {}),
  });
}

/** Reads the table at `offset`; a disk without a size of its own gets `diskBytes`. Throws ImageError for an impossible one. */
export async function readSnapshotTable(
  file: Edge,
  table: { offset: number; count: number; diskBytes: number },
): Promise<Snapshot[]> {
  const snapshots: Snapshot[] = [];
  let bytes = new Uint8Array(0);
  const need = async (end: number): Promise<DataView> => {
    if (end > limits.qcow2MaxSnapshotTableBytes) {
      const removable = `all ${table.count - snapshots.length} overhanging snapshots`;
      fail("Snapshot table is too big", { code: "EFBIG", removable });
    }
    if (end > bytes.byteLength) {
      const grown = new Uint8Array(Math.max(end, bytes.byteLength * 2, CHUNK_BYTES));
      grown.set(bytes);
      await file.pread(table.offset + bytes.byteLength, grown.subarray(bytes.byteLength));
      bytes = grown;
    }
    return new DataView(bytes.buffer);
  };
  let at = 0;
  for (let index = 0; index < table.count; index++) {
    const view = await need(at + FIXED_BYTES);
    const extra = view.getUint32(at + 36);
    if (extra > limits.qcow2MaxSnapshotExtraBytes) {
      const removable = "this extra metadata";
      fail(`Too much extra metadata in snapshot table entry ${index}`, { removable });
    }
    const used = FIXED_BYTES + extra + view.getUint16(at + 12) + view.getUint16(at + 14);
    const end = at + Math.ceil(used / 8) * 8;
    await need(end);
    snapshots.push(parseSnapshot(bytes.slice(at, end), table.diskBytes));
    at = end;
  }
  return snapshots;
}

/** An entry of its parts: the bytes up to the extra data, that, id and name. It gets the extra data that it lacks, and padding. */
export function completeEntry(
  { fixed, extra, names }: { fixed: Uint8Array; extra: Uint8Array; names: Uint8Array },
  diskBytes: number,
): Uint8Array<ArrayBuffer> {
  const extraBytes = Math.max(extra.byteLength, EXTRA_BYTES);
  const used = FIXED_BYTES + extraBytes + names.byteLength;
  const bytes = new Uint8Array(Math.ceil(used / 8) * 8);
  bytes.set(fixed);
  bytes.set(extra, FIXED_BYTES);
  bytes.set(names, FIXED_BYTES + extraBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(36, extraBytes);
  if (extra.byteLength < 8) writeU64(view, 40, view.getUint32(32));
  if (extra.byteLength < 16) writeU64(view, 48, diskBytes);
  if (extra.byteLength < EXTRA_BYTES) view.setBigUint64(56, NO_ICOUNT);
  return bytes;
}

/** The snapshot with all extra data that we know in its entry. */
export function completeSnapshot(snapshot: Snapshot): Snapshot {
  const { bytes, info } = snapshot;
  const idAt = FIXED_BYTES + snapshotExtraBytes(snapshot);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = {
    fixed: bytes.subarray(0, FIXED_BYTES),
    extra: bytes.subarray(FIXED_BYTES, idAt),
    names: bytes.subarray(idAt, idAt + view.getUint16(12) + view.getUint16(14)),
  };
  return { ...snapshot, bytes: completeEntry(parts, info.diskBytes) };
}

/** Bytes of an entry's extra data. */
export function snapshotExtraBytes({ bytes }: Snapshot): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(36);
}

/** An id or name of the table: a text up to its first NUL, as QEMU takes it. The entry keeps what stands behind that. */
export function snapshotText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decodeName(end < 0 ? bytes : bytes.subarray(0, end));
}

/** One entry, complete. */
export function parseSnapshot(bytes: Uint8Array, diskBytes: number): Snapshot {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const extra = view.getUint32(36);
  const idAt = FIXED_BYTES + extra;
  const nameAt = idAt + view.getUint16(12);
  const clock = view.getBigUint64(24);
  const icount = extra >= 24 ? view.getBigUint64(56) : NO_ICOUNT;
  const info: SnapshotInfo = {
    id: snapshotText(bytes.subarray(idAt, nameAt)),
    name: snapshotText(bytes.subarray(nameAt, nameAt + view.getUint16(14))),
    vmStateBytes: extra >= 8 ? readU64(view, 40) : view.getUint32(32),
    dateSeconds: view.getUint32(16),
    dateNanoseconds: view.getUint32(20),
    vmClockSeconds: Number(clock / NANOSECONDS),
    vmClockNanoseconds: Number(clock % NANOSECONDS),
    diskBytes: extra >= 16 ? readU64(view, 48) : diskBytes,
    ...(icount === NO_ICOUNT ? {} : { icount: Number(icount) }),
  };
  return { info, l1Offset: readU64(view, 0), l1Entries: view.getUint32(8), bytes };
}

/** A new entry. */
export function makeSnapshot(info: SnapshotInfo, l1: { offset: number; entries: number }): Snapshot {
  const id = encodeName(info.id);
  const name = encodeName(info.name);
  const used = FIXED_BYTES + EXTRA_BYTES + id.byteLength + name.byteLength;
  const bytes = new Uint8Array(Math.ceil(used / 8) * 8);
  const view = new DataView(bytes.buffer);
  writeU64(view, 0, l1.offset);
  view.setUint32(8, l1.entries);
  view.setUint16(12, id.byteLength);
  view.setUint16(14, name.byteLength);
  view.setUint32(16, info.dateSeconds);
  view.setUint32(20, info.dateNanoseconds);
  view.setBigUint64(24, BigInt(info.vmClockSeconds) * NANOSECONDS + BigInt(info.vmClockNanoseconds));
  view.setUint32(32, Math.min(info.vmStateBytes, 2 ** 32 - 1));
  view.setUint32(36, EXTRA_BYTES);
  writeU64(view, 40, info.vmStateBytes);
  writeU64(view, 48, info.diskBytes);
  view.setBigUint64(56, info.icount === undefined ? NO_ICOUNT : BigInt(info.icount));
  bytes.set(id, FIXED_BYTES + EXTRA_BYTES);
  bytes.set(name, FIXED_BYTES + EXTRA_BYTES + id.byteLength);
  return { info, l1Offset: l1.offset, l1Entries: l1.entries, bytes };
}

/** The whole table. Throws EFBIG if it is too large. */
export function serializeSnapshots(snapshots: readonly Snapshot[]): Uint8Array {
  const total = snapshotTableBytes(snapshots);
  if (total > limits.qcow2MaxSnapshotTableBytes) fail("Snapshot table is too big", { code: "EFBIG" });
  const out = new Uint8Array(total);
  let at = 0;
  for (const { bytes } of snapshots) {
    out.set(bytes, at);
    at += bytes.byteLength;
  }
  return out;
}

/** Bytes that the table of these snapshots takes. */
export function snapshotTableBytes(snapshots: readonly Snapshot[]): number {
  return snapshots.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
}
