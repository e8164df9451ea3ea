/**
 * What a node says of itself and of the image it shows: one function for each row, called by the library's handles and by the
 * monitor alike. Rows are those of the QAPI table. Source: QAPI block-core schema, QEMU 7.2.
 */
import { allocatedBytes } from "./model/allocated.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import type { TypeOf } from "../wire/qapi/index.ts";
import { filterOrCow, skipImplicitFilters } from "./model/chain.ts";
import type { SnapshotInfo } from "./model/contract.ts";
import type { DriverInfo } from "./model/terms.ts";
import { dirtyBitmapInfo } from "./model/dirty-bitmap.ts";
import { imageFilename, nodeFilename } from "./model/filename.ts";
import { hasProtocol } from "./model/gate.ts";
import type { BlockNode } from "./model/node.ts";

const noThrottling = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };

/** BlockDeviceInfo of a node; with `flat` the backing images are left out, and not counted. */
export async function deviceInfo(node: BlockNode, flat = false): Promise<TypeOf<"BlockDeviceInfo">> {
  const bitmaps = dirtyBitmapInfo(node);
  const backing = backingFile(node);
  return {
    ...noThrottling,
    file: nodeFilename(node),
    "node-name": node.name,
    ro: node.readOnly,
    drv: node.type.name,
    ...(backing === undefined ? {} : { backing_file: backing }),
    backing_file_depth: flat ? 0 : depth(node),
    encrypted: isEncrypted(node),
    detect_zeroes: node.options.detectZeroes,
    write_threshold: node.writeThreshold,
    cache: { writeback: true, direct: node.options.cacheDirect, "no-flush": node.options.cacheNoFlush },
    image: await imageInfo(node, !flat),
    ...(bitmaps.length > 0 ? { "dirty-bitmaps": bitmaps } : {}),
  };
}

/** Whether the disk's content is stored encrypted, in this image or below it. */
function isEncrypted(node: BlockNode): boolean {
  if (node.driver.encrypted) return node.driver.encrypted();
  const below = node.filtered ?? node.backing;
  return below ? isEncrypted(below.node) : false;
}

/** The name of what lies behind an image; a filter has none, though what it shows counts as a layer. */
function backingFile(node: BlockNode): string | undefined {
  const below = node.isFilter ? undefined : layerBelow(node);
  return below && nodeFilename(below);
}

/** The next layer, filters of the user's among them. */
function layerBelow(node: BlockNode): BlockNode | undefined {
  const next = filterOrCow(node);
  return next && skipImplicitFilters(next);
}

function depth(node: BlockNode): number {
  let count = 0;
  for (let at = layerBelow(node); at; at = layerBelow(at)) count += 1;
  return count;
}

/** ImageInfo of a node, its backing chain included if asked for. */
export async function imageInfo(node: BlockNode, chain: boolean): Promise<TypeOf<"ImageInfo">> {
  const info = driverInfo(node);
  const actual = await allocatedBytes(node);
  const specific = node.driver.formatSpecific?.() as TypeOf<"ImageInfoSpecific"> | undefined;
  const backing = chain ? layerBelow(node) : undefined;
  const snapshots = node.driver.snapshots?.()?.list() ?? [];
  return {
    filename: nodeFilename(node),
    format: node.type.name,
    // Told in whole sectors, as QEMU counts them.
    "virtual-size": alignUp(node.length, SECTOR_SIZE),
    ...(actual === undefined ? {} : { "actual-size": actual }),
    ...(info && info.clusterSize > 0 ? { "cluster-size": info.clusterSize } : {}),
    ...(node.driver.encrypted?.() ? { encrypted: true } : {}),
    ...(info ? { "dirty-flag": info.isDirty ?? false } : {}),
    ...backingNames(node),
    ...(snapshots.length > 0 ? { snapshots: snapshots.map(snapshotInfo) } : {}),
    ...(backing ? { "backing-image": await imageInfo(backing, true) } : {}),
    ...(specific ? { "format-specific": specific } : {}),
  };
}

/** What a node tells of itself, or what lies below a filter. */
function driverInfo(node: BlockNode): DriverInfo | undefined {
  if (node.driver.getInfo || !node.filtered) return node.driver.getInfo?.();
  return driverInfo(node.filtered.node);
}

/** A snapshot as lists show it. */
export function snapshotInfo(snapshot: SnapshotInfo): TypeOf<"SnapshotInfo"> {
  return {
    id: snapshot.id,
    name: snapshot.name,
    "vm-state-size": snapshot.vmStateBytes,
    "date-sec": snapshot.dateSeconds,
    "date-nsec": snapshot.dateNanoseconds,
    "vm-clock-sec": snapshot.vmClockSeconds,
    "vm-clock-nsec": snapshot.vmClockNanoseconds,
    ...(snapshot.icount === undefined ? {} : { icount: snapshot.icount }),
  };
}

function backingNames(node: BlockNode): Partial<TypeOf<"ImageInfo">> {
  const { headerBacking } = node.driver;
  const name = headerBacking?.filename();
  if (!name) return {};
  const format = headerBacking?.format();
  const full = fullName(node, name);
  return {
    "backing-filename": name,
    ...(full === undefined ? {} : { "full-backing-filename": full }),
    ...(format === undefined ? {} : { "backing-filename-format": format }),
  };
}

/** Where a backing name leads; undefined: it is relative, and the image lies in no one file that it could lie beside. */
function fullName(node: BlockNode, name: string): string | undefined {
  const { files } = node.services.host;
  const image = imageFilename(node);
  const isRelative = !hasProtocol(name) && files.resolve("/", name) !== name;
  if (!isRelative) return name;
  return image === "" ? undefined : files.resolve(image, name);
}
