/** What talks to an object store: loaded when the first of its disks is opened or made. A script of its own beside the program. */
export { chunksOf, draftOf, makeDisk, objectExists } from "./make.ts";
export { objectsBelow } from "./object-store.ts";
export { openS3 } from "./open.ts";
