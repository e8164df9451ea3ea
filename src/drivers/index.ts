/**
 * The composition of drivers: what every entry can open. Entries add the protocols of their platform.
 */
import type { DriverType } from "../block/model/contract.ts";
import { blkdebug } from "./filter/blkdebug.ts";
import { copyBeforeWrite } from "./filter/copy-before-write.ts";
import { copyOnRead } from "./filter/copy-on-read.ts";
import { snapshotAccess } from "./filter/snapshot-access.ts";
import { throttle } from "./filter/throttle.ts";
import { luks } from "./format/luks/index.ts";
import { checkedQcow2 } from "./format/qcow2/checked.ts";
import { raw } from "./format/raw.ts";
import { blob } from "./protocol/blob.ts";
import { http, https } from "./protocol/http/index.ts";
import { memory } from "./protocol/memory.ts";
import { nullCo } from "./protocol/null-co.ts";

/** Drivers that need nothing of the platform. */
export const portableDrivers: readonly DriverType[] = [
  raw,
  checkedQcow2,
  luks,
  memory,
  blob,
  nullCo,
  http,
  https,
  blkdebug,
  throttle,
  copyOnRead,
  copyBeforeWrite,
  snapshotAccess,
];
