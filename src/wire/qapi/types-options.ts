/**
 * What options of jobs and monitors hold, and the schema's answers too.
 * Source: QAPI block-core and control schemas, QEMU 7.2.
 */
import { alternate, enumOf, struct } from "./schema.ts";

/** The types of the options. */
export const sharedTypes = {
  BlockdevOnError: () => enumOf("report", "ignore", "enospc", "stop", "auto"),
  MirrorSyncMode: () => enumOf("top", "full", "none", "incremental", "bitmap"),
  MirrorCopyMode: () => enumOf("background", "write-blocking"),
  BitmapSyncMode: () => enumOf("on-success", "never", "always"),
  StrOrNull: () => alternate("str", "null"),
  BlockDirtyBitmap: () => struct({ node: "str", name: "str" }),

  VersionTriple: () => struct({ major: "int", minor: "int", micro: "int" }),
  VersionInfo: () => struct({ qemu: "VersionTriple", package: "str" }),
} as const;
