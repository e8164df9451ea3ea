/** What keeps checkpoints: loaded when the first is asked for. */
import type * as Late from "./late.ts";

/** Loads it. */
export const loadCheckpoints = (): Promise<typeof Late> => import("./late.ts");
