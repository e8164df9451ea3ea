/** What a path or a descriptor stands for, out of what stat(2) says of it. */
import * as fs from "node:fs";
import type { FileInfo } from "../../base/host.ts";
import type { FileFacts } from "./calls.ts";
import { identityOf } from "./open-files.ts";

/** The description; `realPath` gives the canonical path, for file systems without inodes. */
export function fileInfo(facts: FileFacts, realPath: () => string): FileInfo {
  const kind = kindOf(facts);
  const info = { kind, size: Number(facts.size), identity: identityOf(facts, realPath) };
  // A device's file says nothing of what the device holds.
  return kind === "file" ? { ...info, version: `${facts.mtimeNs} ${facts.ctimeNs}` } : info;
}

function typeOf({ mode }: FileFacts): number {
  return Number(mode) & fs.constants.S_IFMT;
}

/** Bytes that it holds: a block device's own size, which only the kernel's tables tell. */
export function contentBytes(facts: FileFacts): number {
  if (kindOf(facts) !== "block-device") return Number(facts.size);
  const { major, minor } = numbersOf(facts.rdev);
  // In sectors of 512 bytes, whatever the device's own are.
  return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * 512;
}

/** The two numbers of a device, as Linux packs them. */
export function numbersOf(rdev: bigint): { major: bigint; minor: bigint } {
  const bits = (shift: bigint, mask: bigint): bigint => (rdev >> shift) & mask;
  return {
    major: bits(8n, 0xfffn) | (bits(44n, 0xfffffn) << 12n),
    minor: bits(0n, 0xffn) | (bits(20n, 0xffffffn) << 8n),
  };
}

/** Whether it is a symbolic link, which only lstat tells. */
export function isSymlink(facts: FileFacts): boolean {
  return typeOf(facts) === fs.constants.S_IFLNK;
}

function kindOf(facts: FileFacts): FileInfo["kind"] {
  const { S_IFREG, S_IFDIR, S_IFBLK, S_IFCHR } = fs.constants;
  const type = typeOf(facts);
  if (type === S_IFREG) return "file";
  if (type === S_IFDIR) return "directory";
  if (type === S_IFBLK) return "block-device";
  return type === S_IFCHR ? "character-device" : "other";
}
