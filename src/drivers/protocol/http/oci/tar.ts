/**
 * Tar archives, read by their headers and written. Source: POSIX.1-2017 pax (ustar, and the records `path` and `size`); GNU's long names and large
 * sizes.
 *
 * Invariants: only headers are read; nothing is allocated by a size that a header tells but names, of which the longest is LONGEST_NAME.
 */
import { blockError } from "../../../../base/errors.ts";

/** Unit of archives, bytes. */
export const BLOCK = 512;
const LONGEST_NAME = 65_536;
/** Members that are looked at. */
const MOST_MEMBERS = 100_000;

/** A file in an archive. */
export interface Member {
  readonly name: string;
  /** Where its content begins in the archive. */
  readonly offset: number;
  readonly size: number;
}

/** Reads bytes of an archive. */
export type ReadAt = (offset: number, bytes: number) => Promise<Uint8Array>;

function damaged(what: string): Error {
  return blockError("EIO", "open", `the layer is no tar archive: ${what}`);
}

/** What is told of an archive that has more than one disk, where nobody has said which. */
export function severalDisks(one: Member, other: Member): Error {
  const names = `'${one.name}', '${other.name}'`;
  return blockError(
    "EINVAL",
    "open",
    `its layer has several files below /disk/ (${names}): say which by 'path'`,
  );
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function number(field: Uint8Array): number {
  if ((field[0]! & 0x80) !== 0) {
    const value = field.reduce((sum, byte, i) => sum * 256 + (i === 0 ? byte & 0x7f : byte), 0);
    if (Number.isSafeInteger(value)) return value;
    throw damaged("a size is too large");
  }
  const digits = text(field).trim();
  if (!/^[0-7]*$/.test(digits)) throw damaged("a number is none");
  return Number.parseInt(digits || "0", 8);
}

function checkSum(header: Uint8Array): number {
  return header.reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0);
}

/** The records of a pax header. */
function records(bytes: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of new TextDecoder().decode(bytes).split("\n")) {
    const [, key, value] = /^\d+ ([^=]+)=(.*)$/s.exec(line) ?? [];
    if (key !== undefined) found.set(key, value ?? "");
  }
  return found;
}

/** What a header says of the member after it. */
interface Said {
  path?: string | undefined;
  size?: number | undefined;
}

/** All regular files of an archive of so many bytes, in its order. */
export async function* members(read: ReadAt, bytes: number): AsyncGenerator<Member> {
  let said: Said = {};
  let at = 0;
  for (let count = 0; at + BLOCK <= bytes; count++) {
    if (count > MOST_MEMBERS) throw damaged("it has too many members");
    const header = await read(at, BLOCK);
    if (header.every((byte) => byte === 0)) return;
    if (number(header.subarray(148, 156)) !== checkSum(header))
      throw damaged(`the header at ${at} has a wrong checksum`);
    const type = String.fromCharCode(header[156]! || 0x30);
    const size = (type === "0" ? said.size : undefined) ?? number(header.subarray(124, 136));
    const offset = at + BLOCK;
    if (offset + size > bytes) throw damaged("a member is longer than it");
    if (type === "x" || type === "L") said = { ...said, ...(await longer(read, { type, offset, size })) };
    else {
      const name = said.path ?? nameIn(header);
      if (type === "0" || type === "7") yield { name, offset, size };
      if (type !== "g" && type !== "K") said = {};
    }
    at = offset + Math.ceil(size / BLOCK) * BLOCK;
  }
}

function nameIn(header: Uint8Array): string {
  const prefix = text(header.subarray(257, 262)) === "ustar" ? text(header.subarray(345, 500)) : "";
  const name = text(header.subarray(0, 100));
  return prefix === "" ? name : `${prefix}/${name}`;
}

async function longer(
  read: ReadAt,
  { type, offset, size }: { type: string; offset: number; size: number },
): Promise<Said> {
  if (size > LONGEST_NAME) throw damaged("a name is too long");
  const bytes = await read(offset, size);
  if (type === "L") return { path: text(bytes) };
  const found = records(bytes);
  const told = found.get("size");
  if (found.has("GNU.sparse.major") || found.has("GNU.sparse.size"))
    throw damaged("it has a sparse file, which can't be read by ranges");
  return {
    ...(found.has("path") ? { path: found.get("path") } : {}),
    ...(told !== undefined && /^\d{1,15}$/.test(told) ? { size: Number(told) } : {}),
  };
}

function octal(value: number, width: number): Uint8Array {
  const digits = value.toString(8);
  if (digits.length < width) return new TextEncoder().encode(`${digits.padStart(width - 1, "0")}\0`);
  const field = new Uint8Array(width);
  for (let i = width - 1, rest = value; i > 0; i--, rest = Math.floor(rest / 256)) field[i] = rest % 256;
  field[0] = 0x80;
  return field;
}

/** The header of a file, or of a folder (a name that ends in a slash). The name has at most 100 bytes. */
export function tarHeader(name: string, size: number): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(BLOCK);
  const isFolder = name.endsWith("/");
  header.set(new TextEncoder().encode(name).subarray(0, 100), 0);
  header.set(octal(isFolder ? 0o755 : 0o444, 8), 100);
  // KubeVirt's user for disks is 107, QEMU's own.
  for (const at of [108, 116]) header.set(octal(107, 8), at);
  header.set(octal(size, 12), 124);
  header.set(octal(0, 12), 136);
  header[156] = isFolder ? 0x35 : 0x30;
  header.set(new TextEncoder().encode("ustar\0" + "00"), 257);
  header.set(octal(checkSum(header), 7), 148);
  header[155] = 32;
  return header;
}
