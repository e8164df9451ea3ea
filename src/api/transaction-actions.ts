/** The actions of transaction(), and the check of what plain JavaScript passes for one. */
import { CommandError } from "../base/errors.ts";
import { checkAutoResume } from "./auto-resume.ts";
import { type AddBitmapOptions, type BitmapSource, addBitmapOptions } from "./bitmaps.ts";
import { type BackupOptions, backupOptions } from "./jobs.ts";
import type { Node } from "./node.ts";
import type { OpenSpec } from "./specs.ts";
import { checkArgument, optionsOf } from "./options.ts";

/** Starts a backup, as backup(). */
export interface BackupAction extends BackupOptions {
  type: "backup";
  source: Node;
  target: Node;
}

/** Adds a dirty bitmap, as addBitmap(). */
export interface AddBitmapAction extends AddBitmapOptions {
  type: "addBitmap";
  node: Node;
  name: string;
}

/** Removes a dirty bitmap, or marks all of it clean. */
export interface BitmapAction {
  type: "removeBitmap" | "clearBitmap";
  node: Node;
  name: string;
}

/** Switches a dirty bitmap's recording on, or off with `enabled` false. */
export interface EnableBitmapAction {
  type: "enableBitmap";
  node: Node;
  name: string;
  /** Default true. */
  enabled?: boolean | undefined;
}

/** Adds the bits of other bitmaps to one of the node, as mergeBitmaps(). */
export interface MergeBitmapsAction {
  type: "mergeBitmaps";
  node: Node;
  target: string;
  sources: readonly BitmapSource[];
}

/** Puts an image over the node, which takes all writes from then on: an external snapshot. Handles of the node show the overlay. */
export interface OverlayAction {
  type: "overlay";
  node: Node;
  /** The image, as openNode() takes it; it is opened without a backing file. Its header is not changed. */
  overlay: OpenSpec;
}

/** Takes an internal snapshot, as createSnapshot(). */
export interface CreateSnapshotAction {
  type: "createSnapshot";
  node: Node;
  name: string;
}

/** Makes the transaction fail: for trying one. */
export interface AbortAction {
  type: "abort";
}

/** One action of a transaction. */
export type TransactionAction =
  | BackupAction
  | AddBitmapAction
  | BitmapAction
  | EnableBitmapAction
  | MergeBitmapsAction
  | OverlayAction
  | CreateSnapshotAction
  | AbortAction;

type Check = (action: unknown) => void;

/** The check of an action: what it must have, and what it may. */
function actionOf(
  required: Readonly<Record<string, "Node" | "str" | "Array" | "Object">>,
  optional: Parameters<typeof optionsOf>[0] = {},
): Check {
  const known = optionsOf({ ...optional, ...required, type: "str" });
  return (action) => {
    known(action);
    const members = action as Readonly<Record<string, unknown>>;
    for (const [name, type] of Object.entries(required)) checkArgument(name, members[name], type);
  };
}

const named = { node: "Node", name: "str" } as const;

const checks: Readonly<Record<TransactionAction["type"], Check>> = {
  backup: actionOf({ source: "Node", target: "Node" }, backupOptions),
  addBitmap: actionOf(named, addBitmapOptions),
  removeBitmap: actionOf(named),
  clearBitmap: actionOf(named),
  enableBitmap: actionOf(named, { enabled: "bool" }),
  mergeBitmaps: actionOf({ node: "Node", target: "str", sources: "Array" }),
  overlay: actionOf({ node: "Node", overlay: "Object" }),
  createSnapshot: actionOf(named),
  abort: actionOf({}),
};

/** Throws CommandError for what is no action. */
export function checkAction(action: unknown): void {
  const type = (action as { type?: unknown } | null | undefined)?.type;
  if (typeof type !== "string") throw new CommandError("Parameter 'type' is missing");
  if (!Object.hasOwn(checks, type))
    throw new CommandError(
      `Parameter 'type' does not accept value '${type}' (there are: ${Object.keys(checks).join(", ")})`,
    );
  checks[type as TransactionAction["type"]](action);
  const { autoResume } = action as Partial<BackupAction>;
  if (autoResume) checkAutoResume(autoResume);
}
