/**
 * The parameter of -l: an id or a name, or `snapshot.id=…,snapshot.name=…`. Source: behaviour and words of qemu-img 7.2.
 */
import { errnoOf, messageOf } from "../../base/errors.ts";
import type { Node, SnapshotRef } from "../../node.ts";
import { showSnapshot } from "../../api/snapshots.ts";
import { splitAtCommas } from "../../wire/qapi/keyval.ts";
import { Refusal } from "../refusal.ts";

/** Reads the parameter. Throws Refusal. */
export function snapshotParameter(text: string): SnapshotRef {
  if (!text.startsWith("snapshot.")) return text;
  const which: { id?: string; name?: string } = {};
  for (const part of splitAtCommas(text)) {
    const at = part.indexOf("=");
    const key = at < 0 ? part : part.slice(0, at);
    const value = at < 0 ? "on" : part.slice(at + 1);
    if (key === "snapshot.id") which.id = value;
    else if (key === "snapshot.name") which.name = value;
    else throw new Refusal([`Invalid parameter '${key}'`, `Failed in parsing snapshot param '${text}'`]);
  }
  return which;
}

/** Lets the image show the snapshot. Throws Refusal. */
export async function loadSnapshot(node: Node, which: SnapshotRef): Promise<void> {
  try {
    await showSnapshot(node, which);
  } catch (error) {
    const unable =
      `Block format '${node.chain[0]?.driver}' used by device '' does not support temporarily loading ` +
      "internal snapshots";
    const why = errnoOf(error) === "ENOTSUP" ? unable : messageOf(error);
    throw new Refusal(`Failed to load snapshot: ${why}`);
  }
}
