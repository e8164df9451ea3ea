/**
 * What a job's names lead to: a path, a URL of any protocol that the library knows, or json:{…}; and by what a source is known again.
 */
import { storageOfName } from "../../block/model/options.ts";
import type { NodeSpec } from "../../block/model/spec.ts";
import { FleetError } from "../../fleet/jobs.ts";
import type { Engine } from "../../machine/engine.ts";
import type * as Entry from "../../node.ts";
import type { Node, OpenSpec } from "../../node.ts";

/** The library, which is a bundle of its own. */
export type Library = typeof Entry;

/** A library and an engine of it. */
export interface Opener {
  readonly library: Library;
  readonly engine: Engine;
}

/** Whether a name is a path of this machine. */
export function isPath(name: string): boolean {
  return !/^[a-z][a-z0-9+.-]*:/i.test(name);
}

/** The storage that a name says, by the driver that reads such names. Throws FleetError. */
export function storageOf({ graph }: Engine, name: string): NodeSpec {
  if (isPath(name)) return { driver: "file", filename: name };
  const protocol = name.slice(0, name.indexOf(":")).toLowerCase();
  const storage = storageOfName(graph, protocol, name);
  if (!storage) throw new FleetError(`'${name}': unknown protocol '${protocol}'`);
  return storage;
}

/** Opens what a job names for reading, as the format that the job says; default: probed. */
export async function openNamed(
  { library, engine }: Opener,
  name: string,
  format: string | undefined,
): Promise<Node> {
  const open = (image: string | OpenSpec): Promise<Node> =>
    library.openNode(image, { engine, readOnly: true });
  if (name.startsWith("json:")) return open(JSON.parse(name.slice("json:".length)) as OpenSpec);
  if (format === undefined) return open(name);
  return open({ driver: format, file: storageOf(engine, name) } as unknown as OpenSpec);
}

type BlockNode = Node["blockNode"];

/**
 * By what the content of a disk is known again: of each file at the bottom its inode, size and times of change, of what lies on a
 * server what that says of its version (an ETag, a digest).
 */
export async function identityOf(source: Node): Promise<string> {
  const found: unknown[] = [];
  for (const node of storagesOf(source.blockNode)) found.push(await storageIdentity(node));
  return JSON.stringify(found);
}

function storagesOf(node: BlockNode): BlockNode[] {
  const below = node.children.map((child) => child.node);
  return below.length === 0 ? [node] : below.flatMap(storagesOf);
}

async function storageIdentity(node: BlockNode): Promise<unknown> {
  const { filename } = node.spec as { filename?: unknown };
  const told = node.driver.versions?.version() ?? node.driver.formatSpecific?.()?.data["etag"];
  if (told !== undefined) return [node.length, told];
  if (typeof filename !== "string") return [node.length];
  const info = await node.services.host.files.info(filename).catch(() => undefined);
  return info ? [filename, info.identity, info.size, info.version] : [node.length, filename];
}
