/**
 * Of what files, or what stands for files, disks consist, and whether they are still what they were. What is written by the job is
 * known by its name; what is read must not have changed: a file by its inode, size and times of change (compared, never ordered, so that
 * clocks that jump do not matter), a disk on a server by what that says of its version. A file that is written must keep its name: what is
 * copied into one that was removed, or whose file system was unmounted, is lost.
 */
import { BlockError, messageOf } from "../../base/errors.ts";
import { Role } from "../../block/model/contract.ts";
import { ownFilename, storageIdentity } from "../../block/model/filename.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Identity } from "./state.ts";

/** The storage at the bottom of a node: of all of its chain, or without what lies below `above`'s own backing link. */
function storagesOf(node: BlockNode, { ownOnly }: { ownOnly: boolean }): Set<BlockNode> {
  const found = new Set<BlockNode>();
  const visit = (at: BlockNode): void => {
    const children = at.children.filter(({ role }) => !ownOnly || !(role & Role.cow));
    if (children.length === 0) found.add(at);
    for (const child of children) visit(child.node);
  };
  visit(node);
  return found;
}

/** What a job reads and writes. */
export interface Roots {
  /** All that is read: tops of chains. */
  readonly reads: readonly BlockNode[];
  /** The image that is written; what lies below it is read. */
  readonly writes: BlockNode;
}

/** Names of what is written. */
export async function targetNames({ writes }: Roots): Promise<string[]> {
  const names: string[] = [];
  for (const node of storagesOf(writes, { ownOnly: true })) names.push((await identityOf(node)).name);
  return names;
}

/** Of file systems with inodes: elsewhere a file that grows is another one. */
const INODE = /^\d+:\d+$/;

/** Throws ESTALE where the name of a file that is written leads to another one, or to none, by now. */
export async function checkWritten({ writes }: Roots): Promise<void> {
  for (const node of storagesOf(writes, { ownOnly: true })) {
    const { filename } = node.spec as { filename?: unknown };
    const opened = storageIdentity(node);
    if (typeof filename !== "string" || opened === undefined || !INODE.test(opened)) continue;
    const gone = (why: string): BlockError => {
      const message = `the target '${filename}' has gone while it was written: ${why}`;
      return new BlockError({ code: "ESTALE", op: "checkpoint", node: node.name, message });
    };
    const info = await node.services.host.files.info(filename).catch((error: unknown) => {
      throw gone(messageOf(error));
    });
    if (info.identity !== opened) throw gone("another file has its name");
  }
}

/** What is read and not written. */
export async function sourceIdentities({ reads, writes }: Roots): Promise<Identity[]> {
  const written = storagesOf(writes, { ownOnly: true });
  const all = new Set<BlockNode>();
  for (const root of [...reads, writes])
    for (const node of storagesOf(root, { ownOnly: false })) if (!written.has(node)) all.add(node);
  const found: Identity[] = [];
  for (const node of all) found.push(await identityOf(node));
  return found;
}

async function identityOf(node: BlockNode): Promise<Identity> {
  const { files } = node.services.host;
  const { filename } = node.spec as { filename?: unknown };
  const told = node.driver.versions?.version();
  if (told !== undefined)
    return { name: ownFilename(node), size: node.length, version: JSON.stringify(told) };
  if (typeof filename === "string" && storageIdentity(node) !== undefined) {
    const info = await files.info(filename).catch(() => undefined);
    if (info) {
      const { identity, size, version } = info;
      return { name: await files.realPath(filename), identity, size, version };
    }
  }
  return { name: ownFilename(node), size: node.length };
}

/** Throws ESTALE where what is read is not what it was. */
export function checkSources(then: readonly Identity[], now: readonly Identity[], checkpoint: string): void {
  const stale = (what: string): never => {
    const message = `${what} since the checkpoint '${checkpoint}' was written: the work must be begun anew`;
    throw new BlockError({ code: "ESTALE", op: "checkpoint", message });
  };
  for (const one of then) {
    const other = now.find(({ name }) => name === one.name);
    if (!other) return stale(`'${one.name}' is not part of the source any more`);
    if (other.size !== one.size) return stale(`'${one.name}' has another size`);
    if (other.identity !== one.identity) return stale(`'${one.name}' is another file`);
    if (other.version !== one.version) return stale(`'${one.name}' was changed`);
  }
  const added = now.find(({ name }) => !then.some((one) => one.name === name));
  if (added) stale(`'${added.name}' has become part of the source`);
}

/** Whether what is read would be known to have changed. */
export function isVersioned(sources: readonly Identity[]): boolean {
  return sources.every(({ version }) => version !== undefined);
}
