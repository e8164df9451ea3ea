/** What a path or a descriptor stands for, out of what stat(2) says of it. */
import type * as fs from "node:fs";
import type { FileInfo } from "../../base/host.ts";
import { identityOf } from "./open-files.ts";

/** The description; `realPath` gives the canonical path, for file systems without inodes. */
export function fileInfo(stats: fs.BigIntStats, realPath: () => string): FileInfo {
  return { kind: kindOf(stats), size: Number(stats.size), identity: identityOf(stats, realPath) };
}

function kindOf(stats: fs.BigIntStats): FileInfo["kind"] {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  if (stats.isBlockDevice()) return "block-device";
  return stats.isCharacterDevice() ? "character-device" : "other";
}
