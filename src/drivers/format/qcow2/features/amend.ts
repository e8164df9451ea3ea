/**
 * Amending an open image: version, refcount width, lazy refcounts, data file's name, size. The disk is drained meanwhile, so
 * nothing else changes it. Each step leaves a whole image, whatever comes after it.
 * Source: qcow2.txt, "Header"; behaviour and words of QEMU 7.2. Where QEMU would leave an image that it then can't read right
 * (zstd clusters or persistent bitmaps in version 2), and for any internal snapshot, a downgrade is refused instead.
 */
import { encodeName } from "../../../../base/names.ts";
import { nodeOf } from "../../../../block/model/node.ts";
import { CommandError } from "../../../../base/errors.ts";
import { SECTOR_SIZE } from "../../../../base/limits.ts";
import { drained } from "../../../../block/model/drain.ts";
import type { AmendContext, AmendOptions } from "../../../../block/model/contract.ts";
import { truncate } from "../../../../block/io/io.ts";
import { rewriteHeader } from "../metadata/backing-link.ts";
import { hasDataFile, isRawDataFile } from "../data/data-file.ts";
import { downgrade } from "./downgrade.ts";
import { Extension, withFeatureNames } from "../disk/header-extensions.ts";
import { updateHeader } from "../metadata/header-update.ts";
import { fitsFirstCluster, type Header } from "../disk/header.ts";
import type { Image } from "../metadata/image.ts";
import { Autoclear, Compatible, HEADER_BYTES_WRITTEN, isPowerOfTwoBetween } from "../disk/layout.ts";
import { changeRefcountOrder } from "./refcount-order.ts";
import type { Qcow2Snapshots } from "./snapshots.ts";

/** An open image with its snapshots. */
export interface AmendedDisk {
  readonly image: Image;
  readonly snapshots: Qcow2Snapshots | undefined;
}

/** What is to become of the image; what is absent stays. */
interface Wanted {
  version: 2 | 3;
  backingFile: string | undefined;
  backingFormat: string | undefined;
  lazyRefcounts: boolean | undefined;
  refcountOrder: number | undefined;
  size: number | undefined;
  dataFile: string | undefined;
  /** False: the data file need not be kept readable as a raw image any more. */
  keepsRaw: boolean;
}

const known = new Set([
  "version",
  "backing-file",
  "backing-fmt",
  "lazy-refcounts",
  "refcount-bits",
  "size",
  "data-file",
  "data-file-raw",
]);

/** Carries out the options. Throws CommandError for what can't be, BlockError of the file. */
export function amendImage(disk: AmendedDisk, options: AmendOptions, context: AmendContext): Promise<void> {
  const wanted = parse(disk.image, options);
  return drained([nodeOf(disk.image.node)], () => carryOut(disk, wanted, context));
}

async function carryOut(
  { image, snapshots }: AmendedDisk,
  wanted: Wanted,
  context: AmendContext,
): Promise<void> {
  const { header } = image;
  const steps: (() => Promise<void>)[] = [];
  if (wanted.version > header.version) steps.push(() => upgrade(image, snapshots));
  const { refcountOrder: order, lazyRefcounts: lazy, size, dataFile } = wanted;
  if (order !== undefined && order !== header.refcountOrder) {
    if (order !== 4 && wanted.version < 3) {
      throw new CommandError(
        "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)",
      );
    }
    steps.push(() => changeRefcountOrder(image, order));
  }
  if (dataFile !== undefined) steps.push(() => renameDataFile(image, dataFile));
  if (!wanted.keepsRaw && isRawDataFile(header)) steps.push(() => forgetRaw(image));
  if (wanted.backingFile !== header.backingFile || wanted.backingFormat !== header.backingFormat)
    throw new CommandError("Cannot amend the backing file", { details: { instead: "rebase" } });
  if (lazy !== undefined) {
    if (lazy && wanted.version < 3) {
      throw new CommandError(
        "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)",
      );
    }
    steps.push(() => setLazyRefcounts(image, lazy));
  }
  if (size !== undefined && size !== image.size)
    steps.push(() => truncate(nodeOf(image.node), size, { exact: false, preallocation: "off" }));
  if (wanted.version < header.version) steps.push(() => downgrade(image));
  for (const [done, step] of steps.entries()) {
    context.signal?.throwIfAborted();
    context.onProgress?.(done, steps.length);
    await step();
  }
  context.onProgress?.(1, 1);
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function parse(image: Image, options: AmendOptions): Wanted {
  const { header } = image;
  for (const name of Object.keys(options))
    if (!known.has(name)) throw new CommandError(`Invalid parameter '${name}'`);
  const bits = options["refcount-bits"] as number | undefined;
  if (bits !== undefined && !isPowerOfTwoBetween(bits, 1, 64))
    throw new CommandError("Refcount width must be a power of two and may not exceed 64 bits");
  const size = options["size"] as number | undefined;
  if (size !== undefined && size % SECTOR_SIZE !== 0)
    throw new CommandError(`The new size must be a multiple of ${SECTOR_SIZE}`);
  const dataFile = text(options["data-file"]);
  if (dataFile !== undefined && !hasDataFile(header))
    throw new CommandError("data-file can only be set for images that use an external data file");
  // What can be taken back only by another image: what a raw data file promises.
  if (options["data-file-raw"] === true && !isRawDataFile(header))
    throw new CommandError("data-file-raw cannot be set on existing images");
  const version = options["version"] === undefined ? header.version : options["version"] === "v2" ? 2 : 3;
  return {
    version: version === 2 ? 2 : 3,
    ...(options["backing-file"] === undefined && options["backing-fmt"] === undefined
      ? { backingFile: header.backingFile, backingFormat: header.backingFormat }
      : { backingFile: text(options["backing-file"]), backingFormat: text(options["backing-fmt"]) }),
    lazyRefcounts: options["lazy-refcounts"] as boolean | undefined,
    refcountOrder: bits === undefined ? undefined : Math.log2(bits),
    size,
    dataFile,
    keepsRaw: options["data-file-raw"] !== false,
  };
}

/** Version 3 with all features off. */
async function upgrade(image: Image, snapshots: Qcow2Snapshots | undefined): Promise<void> {
  await snapshots?.complete();
  await rewriteHeader(image, (header) => {
    const named = withFeatureNames(header.extensions, true);
    if (fitsFirstCluster({ ...header, version: 3, extensions: named })) header.extensions = named;
    header.version = 3;
    header.headerLength = HEADER_BYTES_WRITTEN;
    header.incompatible = 0n;
    header.compatible = 0n;
    header.autoclear = 0n;
    header.refcountOrder = 4;
    header.compressionType = 0;
  });
}

/** The image's file only; what the data file holds is the caller's business. */
function renameDataFile(image: Image, name: string): Promise<void> {
  return rewriteHeader(image, (header) => {
    const record = { type: Extension.dataFile, data: encodeName(name) };
    const others = header.extensions.filter(({ type }) => type !== Extension.dataFile);
    header.extensions = name === "" ? others : [...others, record];
  });
}

function forgetRaw(image: Image): Promise<void> {
  return updateDurably(image, (header) => {
    header.autoclear &= ~BigInt(Autoclear.dataFileRaw);
  });
}

/** Refcounts are always kept up to date here, so the flag alone changes. */
function setLazyRefcounts(image: Image, on: boolean): Promise<void> {
  return updateDurably(image, (header) => {
    const bit = BigInt(Compatible.lazyRefcounts);
    header.compatible = on ? header.compatible | bit : header.compatible & ~bit;
  });
}

async function updateDurably(image: Image, change: (header: Header) => void): Promise<void> {
  return image.locked(async () => {
    await updateHeader(image, change);
    await image.file.flush();
  });
}
