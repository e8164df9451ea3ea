/**
 * qcow2 as a guest's disk in a page has it, and as a stream: so that the disk can be taken out of the browser as a file. A
 * file of its own: `./v86` does without.
 */
import type { DriverType } from "../../../block/model/contract.ts";
import { qcow2 } from "./index.ts";
import { streamQcow2 } from "./streamed.ts";

/** The format, without what checked.ts adds but the stream. */
export const streamableQcow2: DriverType = { ...qcow2, stream: streamQcow2 };
