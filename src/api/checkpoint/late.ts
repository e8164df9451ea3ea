/** Checkpoints of jobs: loaded when the first is asked for. A script of its own beside the program. */
export { type Beginning, beginCheckpoint } from "./begin.ts";
export { CheckpointFile } from "./file.ts";
export { ConvertKeeper } from "./convert-keeper.ts";
export { wipeOutstanding } from "./wipe.ts";
