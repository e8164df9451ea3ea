/**
 * The composition of drivers: what every entry can open. Entries add the protocols of their platform.
 */
import type { DriverType } from "./block/driver.ts";
import { blkdebug } from "./drivers/filter/blkdebug.ts";
import { copyBeforeWrite } from "./drivers/filter/copy-before-write.ts";
import { copyOnRead } from "./drivers/filter/copy-on-read.ts";
import { snapshotAccess } from "./drivers/filter/snapshot-access.ts";
import { throttle } from "./drivers/filter/throttle.ts";
import { luks } from "./drivers/format/luks/index.ts";
import { checkedQcow2 } from "./drivers/format/qcow2/checked.ts";
import { raw } from "./drivers/format/raw.ts";
import { blob } from "./drivers/protocol/blob.ts";
import { http, https } from "./drivers/protocol/http/index.ts";
import { memory } from "./drivers/protocol/memory.ts";
import { nullCo } from "./drivers/protocol/null-co.ts";

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
