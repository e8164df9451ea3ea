/**
 * What a machine says of its drives: rows of query-block. Source: QAPI block-core schema and behaviour of QEMU 7.2.
 */
import { skipImplicitFilters } from "../../block/model/chain.ts";
import { deviceInfo } from "../../block/query.ts";
import { oldLimitName, throttleBuckets } from "../../block/throttle/config.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";
import type { Board } from "./board.ts";
import { BoardDisk } from "./device.ts";
import type { Drive } from "./drive.ts";

/** The drives that are listed: those with a name, and those of devices. */
export function listedDrives(board: Board): Drive[] {
  const all = [...board.drives].filter((drive) => isNamed(drive) || drive.user !== undefined);
  return [...all.filter(isNamed), ...all.filter((drive) => !isNamed(drive))];
}

function isNamed({ name, isForgotten }: Drive): boolean {
  return name !== "" && !isForgotten;
}

/** The row of one drive. */
export async function driveRow(drive: Drive): Promise<TypeOf<"BlockInfo">> {
  const disk = drive.user instanceof BoardDisk ? drive.user : undefined;
  // What a job has put over the disk is none of its user's business.
  const node = drive.node && skipImplicitFilters(drive.node);
  return {
    device: drive.isForgotten ? "" : drive.name,
    ...(disk ? { qdev: disk.backendPath } : {}),
    type: "unknown",
    removable: disk?.isRemovable ?? true,
    locked: false,
    ...(node ? { inserted: await insertedRow(drive, node) } : {}),
    ...(disk?.hasTray ? { tray_open: drive.isTrayOpen } : {}),
    ...(disk?.iostatusEnabled ? { "io-status": disk.ioStatus } : {}),
  };
}

async function insertedRow(
  drive: Drive,
  node: NonNullable<Drive["node"]>,
): Promise<TypeOf<"BlockDeviceInfo">> {
  const info = await deviceInfo(node);
  return { ...info, ...limitRows(drive), cache: { ...info.cache, writeback: drive.backend.writeCache } };
}

/** The limits of a drive under their older names; bursts only where there are some. */
function limitRows({ backend }: Drive): Partial<TypeOf<"BlockDeviceInfo">> {
  if (!backend.throttle) return {};
  const { limits, name } = backend.throttle.group;
  const rows: Record<string, number | string> = { group: name };
  for (const bucket of throttleBuckets) {
    const old = oldLimitName(bucket);
    rows[old] = limits[bucket];
    if (limits[`${bucket}-max`] === 0) continue;
    rows[`${old}_max`] = limits[`${bucket}-max`];
    rows[`${old}_max_length`] = limits[`${bucket}-max-length`];
  }
  if (limits["iops-size"] > 0) rows["iops_size"] = limits["iops-size"];
  return rows;
}
