/** What a path or a descriptor stands for, out of what stat(2) says of it. */
import * as fs from "node:fs";
import type { FileInfo } from "../../base/host.ts";
import type { FileFacts } from "./calls.ts";
import { identityOf } from "./open-files.ts";

/** The description; `realPath` gives the canonical path, for file systems without inodes. */
export function fileInfo(facts: FileFacts, realPath: () => string): FileInfo {
  return { kind: kindOf(facts), size: Number(facts.size), identity: identityOf(facts, realPath) };
}

function typeOf({ mode }: FileFacts): number {
  return Number(mode) & fs.constants.S_IFMT;
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
