/**
 * qcow2 with its check, which finds and repairs damage. A file of its own: the check is a tenth of a bundle that opens
 * qcow2 images in a page, where nobody calls it.
 */
import type { DriverType } from "../../../block/driver.ts";
import { qcow2 } from "./index.ts";
import { inspectImage } from "./inspect.ts";

/** The format as every entry but `./v86` has it. */
export const checkedQcow2 = { ...qcow2, check: inspectImage } satisfies DriverType;
