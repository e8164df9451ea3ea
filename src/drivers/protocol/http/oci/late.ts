/** What talks to a registry: loaded when the first of its disks is opened or made. A script of its own beside the program. */
export { openOci } from "./open.ts";
export { draftOf, imageExists } from "./push.ts";
