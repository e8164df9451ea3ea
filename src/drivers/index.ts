/**
 * The composition of drivers: what every entry can open. Entries add the protocols of their platform.
 */
import type { DriverType } from "../block/model/contract.ts";
import type { TypeOf } from "../wire/qapi/index.ts";
import { allocTrack } from "./filter/alloc-track.ts";
import { blkdebug } from "./filter/blkdebug.ts";
import { blkverify } from "./filter/blkverify.ts";
import { compress } from "./filter/compress.ts";
import { copyBeforeWrite } from "./filter/copy-before-write.ts";
import { copyOnRead } from "./filter/copy-on-read.ts";
import { snapshotAccess } from "./filter/snapshot-access.ts";
import { throttle } from "./filter/throttle.ts";
import { luks } from "./format/luks/index.ts";
import { checkedQcow2 } from "./format/qcow2/checked.ts";
import { raw } from "./format/raw.ts";
import { blob } from "./protocol/blob.ts";
import { http, https } from "./protocol/http/index.ts";
import { oci } from "./protocol/http/oci/index.ts";
import { s3 } from "./protocol/http/s3/index.ts";
import { memory } from "./protocol/memory.ts";
import { nullAio, nullCo } from "./protocol/null-co.ts";

/** Drivers that need nothing of the platform. */
export const portableDrivers: readonly DriverType[] = [
  raw,
  checkedQcow2,
  luks,
  memory,
  blob,
  nullCo,
  nullAio,
  http,
  https,
  s3,
  oci,
  blkdebug,
  blkverify,
  compress,
  throttle,
  copyOnRead,
  copyBeforeWrite,
  snapshotAccess,
  allocTrack,
];

/** A raw image in a new file. */
export interface CreateRawOptions<F = { driver: "file" | "opfs" | "indexeddb"; filename: string }> {
  driver: "raw";
  file: F;
  /** Bytes. */
  size: number;
  preallocation?: "off" | "falloc" | "full";
}

/** A qcow2 image as QAPI's BlockdevCreateOptionsQcow2: into a new file, an open node (by name) or a spec. */
export type CreateQcow2Options = Extract<TypeOf<"BlockdevCreateOptions">, { driver: "qcow2" }>;

/** A LUKS1 volume as QAPI's BlockdevCreateOptionsLUKS, in the same places. */
export type CreateLuksOptions = Extract<TypeOf<"BlockdevCreateOptions">, { driver: "luks" }>;

/** The images that Blockwright's own formats make; `F` is a new file. */
export type CreateFormatOptions<F> = CreateRawOptions<F> | CreateQcow2Options | CreateLuksOptions;
