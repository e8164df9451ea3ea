/**
 * qcow2 with what a guest's disk in a page has no use for: the check, which finds and repairs damage, amend, encryption,
 * internal snapshots and persistent bitmaps. A file of its own: that is a fifth of a bundle that opens qcow2 images in a
 * page. Without it an image that was not closed properly, or that has snapshots or bitmaps, opens read-only only, and an
 * encrypted one not at all.
 */
import type {
  AmendContext,
  AmendOptions,
  BlockDriver,
  DriverType,
  NodeSpec,
  OpenContext,
} from "../../../block/model/contract.ts";
import { amendEncryption } from "./features/amend-encryption.ts";
import { type AmendedDisk, amendImage } from "./features/amend.ts";
import { amendOptions, createOptions } from "./features/create-options.ts";
import { measure } from "./features/measure.ts";
import { Qcow2Bitmaps } from "./features/bitmaps.ts";
import { checkImage, repairImage } from "./check/check.ts";
import { checkCreate, create } from "./create.ts";
import { encryptionSupport } from "./features/encryption-support.ts";
import type { EncryptOptions } from "./data/encryption.ts";
import type { ImageTools } from "./features/tools.ts";
import type { Image } from "./metadata/image.ts";
import { openQcow2, qcow2 } from "./index.ts";
import { inspectImage } from "./check/inspect.ts";
import {
  forgetTables,
  keptOptions,
  reopenableOptions,
  reopenImage,
  useOverlapCheck,
} from "./features/reopen.ts";
import { Qcow2Snapshots } from "./features/snapshots.ts";
import { Qcow2VmState } from "./features/vm-state.ts";
import { templateOf } from "./metadata/overlap.ts";
import { streamQcow2 } from "./streamed.ts";

const tools: ImageTools = {
  encryption: encryptionSupport,
  check: checkImage,
  repair: repairImage,
  snapshots: (image: Image) => Qcow2Snapshots.open(image),
  bitmaps: (image: Image) => new Qcow2Bitmaps(image),
};

/** Key slots first: they are the part that can be refused for reasons outside of the image. */
async function amend(disk: AmendedDisk, options: AmendOptions, context: AmendContext): Promise<void> {
  const { encrypt, ...others } = options;
  if (encrypt !== undefined) await amendEncryption(disk.image, encrypt as EncryptOptions, context);
  if (Object.keys(others).length > 0) await amendImage(disk, others, context);
}

async function open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const driver = await openQcow2(context, spec, tools);
  const { image } = driver;
  const snapshots = driver.snapshots();
  await useOverlapCheck(image, spec, snapshots);
  driver.reopen = (changed) => reopenImage(image, changed, snapshots);
  driver.fileReplaced = () => forgetTables(image);
  driver.amend = (options, how) => amend({ image, snapshots }, options, how);
  driver.vmState = () => new Qcow2VmState(image);
  return driver;
}

/** A template that there is none of is told before QAPI would tell it in other words. */
function checkOption(name: string, value: unknown): void {
  if (name !== "overlap-check") return;
  const isObject = typeof value === "object" && value !== null;
  templateOf(isObject ? ((value as { template?: unknown }).template ?? "cached") : value);
}

/** The format as every entry but `./v86` has it. */
export const checkedQcow2: DriverType & Required<Pick<DriverType, "check">> = {
  ...qcow2,
  createOptions,
  amendOptions,
  refusals: { tooLong: "Failed to grow the L1 table", option: checkOption },
  open,
  create: (context, options) => create(context, options, encryptionSupport),
  checkCreate: (context, options) => void checkCreate(context, options, encryptionSupport),
  measure,
  stream: streamQcow2,
  check: inspectImage,
  reopenable: reopenableOptions,
  keptOptions,
};
