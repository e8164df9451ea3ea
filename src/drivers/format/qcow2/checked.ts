/**
 * qcow2 with what a guest's disk in a page has no use for: the check, which finds and repairs damage, amend and internal
 * snapshots. A file of its own: that is a sixth of a bundle that opens qcow2 images in a page. Without it an image that was
 * not closed properly, or that has internal snapshots, opens read-only only.
 */
import type { BlockDriver, DriverType, NodeSpec, OpenContext } from "../../../block/driver.ts";
import { amendImage } from "./amend.ts";
import { checkImage, repairImage } from "./check.ts";
import type { Image } from "./image.ts";
import { openQcow2, qcow2 } from "./index.ts";
import { inspectImage } from "./inspect.ts";
import { Qcow2Snapshots } from "./snapshots.ts";
import { Qcow2VmState } from "./vm-state.ts";

const tools = {
  check: checkImage,
  repair: repairImage,
  snapshots: (image: Image) => Qcow2Snapshots.open(image),
};

async function open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const driver = await openQcow2(context, spec, tools);
  driver.amend = (options, how) => amendImage(driver.image, options, how);
  driver.vmState = () => new Qcow2VmState(driver.image);
  return driver;
}

/** The format as every entry but `./v86` has it. */
export const checkedQcow2 = {
  ...qcow2,
  open,
  check: inspectImage,
} satisfies DriverType;
