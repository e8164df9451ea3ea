/**
 * The verb `snapshot`: the library's snapshot functions in qemu-img's words.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf, messageOf } from "../../../base/errors.ts";
import { applySnapshot, createSnapshot, removeSnapshot, snapshots } from "../../../api/snapshots.ts";
import { limits } from "../../../base/limits.ts";
import type { Node } from "../../../node.ts";
import { snapshotTable } from "../../snapshot-table.ts";
import { openImage } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { VerbFlags } from "../../options/flags.ts";

/** Options of the verb. */
export interface SnapshotFlags extends VerbFlags {
  imageOpts?: boolean;
  forceShare?: boolean;
  list?: number;
  apply?: string[];
  create?: string[];
  delete?: string[];
}

/** Errno numbers of Linux that a refused snapshot may carry. */
const numbers: Readonly<Record<string, number>> = {
  EAGAIN: 11,
  EIO: 5,
  EBADF: 9,
  EACCES: 13,
  EBUSY: 16,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  ENOTSUP: 95,
};

/** Runs the verb; resolves with the exit status. */
export function snapshot(files: readonly string[], flags: SnapshotFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const { list = 0, apply = [], create = [], delete: removed = [] } = flags;
    if (list + apply.length + create.length + removed.length > 1)
      throw misuse("Cannot mix '-l', '-a', '-c', '-d'");
    const [file] = files;
    if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
    const { imageOpts, forceShare } = flags;
    const write = apply.length + create.length + removed.length > 0;
    const metadataOnly = !write;
    await using node = await openImage(verb, file, { imageOpts, forceShare, write, metadataOnly });
    if (list > 0) listAll(verb, node);
    for (const name of create) await make(node, name);
    for (const name of apply) await restore(node, name);
    for (const name of removed) await remove(node, name);
    return 0;
  });
}

function listAll(verb: Run, node: Node): void {
  const list = snapshots(node);
  if (list.length > 0) verb.print(snapshotTable(list));
}

async function make(node: Node, name: string): Promise<void> {
  try {
    await createSnapshot(node, cut(name));
  } catch (error) {
    const code = errnoOf(error);
    const number = numbers[code];
    const why = number === undefined ? messageOf(error) : `-${number} (${strerror(code)})`;
    throw new Refusal(`Could not create snapshot '${name}': ${why}`);
  }
}

/** As much of a name as fits. */
function cut(name: string): string {
  const bytes = new TextEncoder().encode(name);
  if (bytes.byteLength <= limits.maxSnapshotNameBytes) return name;
  return new TextDecoder().decode(bytes.subarray(0, limits.maxSnapshotNameBytes), { stream: true });
}

async function restore(node: Node, name: string): Promise<void> {
  try {
    await applySnapshot(node, name);
  } catch (error) {
    const why =
      errnoOf(error) === "ENOENT"
        ? `Failed to load snapshot: ${strerror("ENOENT")}`
        : errnoOf(error) === "ENOTSUP"
          ? "Block driver does not support snapshots"
          : messageOf(error);
    throw new Refusal(`Could not apply snapshot '${name}': ${why}`);
  }
}

async function remove(node: Node, name: string): Promise<void> {
  // By its name only, as qemu-img does.
  const found = snapshots(node).find((candidate) => candidate.name === name);
  if (!found) throw new Refusal(`Could not delete snapshot '${name}': snapshot not found`);
  try {
    await removeSnapshot(node, { id: found.id });
  } catch (error) {
    throw new Refusal(`Could not delete snapshot '${name}': ${messageOf(error)}`);
  }
}
