/**
 * qcow2 with its check, which finds and repairs damage. A file of its own: the check is a tenth of a bundle that opens
 * qcow2 images in a page, where nobody calls it. Without it an image that was not closed properly opens read-only only.
 */
import type { DriverType } from "../../../block/driver.ts";
import { checkImage, repairImage } from "./check.ts";
import { openQcow2, qcow2 } from "./index.ts";
import { inspectImage } from "./inspect.ts";

const tools = { check: checkImage, repair: repairImage };

/** The format as every entry but `./v86` has it. */
export const checkedQcow2 = {
  ...qcow2,
  open: (context, spec) => openQcow2(context, spec, tools),
  check: inspectImage,
} satisfies DriverType;
