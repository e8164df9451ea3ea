/**
 * What a job's names lead to: a path, a URL of any protocol that the library knows, or json:{…}; and by what a source is known again.
 */
import { statSync } from "node:fs";
import { messageOf } from "../../base/errors.ts";
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

/** What the library is to take for what a job names, as the format that the job says; default: probed. Throws FleetError. */
export function imageOf(engine: Engine, name: string, format: string | undefined): string | OpenSpec {
  if (name.startsWith("json:")) return parsed(name.slice("json:".length));
  if (format === undefined) return name;
  return { driver: format, file: storageOf(engine, name) } as unknown as OpenSpec;
}

/** Opens what a job names for reading. */
export async function openNamed(
  { library, engine }: Opener,
  name: string,
  format: string | undefined,
): Promise<Node> {
  return library.openNode(imageOf(engine, name, format), { engine, readOnly: true });
}

function parsed(text: string): OpenSpec {
  try {
    return JSON.parse(text) as OpenSpec;
  } catch (error) {
    throw new FleetError(`the source's json: is no JSON: ${messageOf(error)}`);
  }
}

/** Throws FleetError where what is to be made takes the place of something that the source is read from. */
export function refuseOwn({ engine }: Opener, source: Node, target: string): void {
  const { filename, url, endpoint } = storageOf(engine, target) as Readonly<Record<string, unknown>>;
  const there = fileId(filename);
  for (const { spec } of storagesOf(source.blockNode)) {
    const own = spec as Readonly<Record<string, unknown>>;
    const isObject = url !== undefined && own["url"] === url && own["endpoint"] === endpoint;
    if (isObject || (there !== undefined && fileId(own["filename"]) === there))
      throw new FleetError(`the target '${target}' is what the source is read from`);
  }
}

/** What a file is known by under all its names; undefined: there is none. */
function fileId(path: unknown): string | undefined {
  if (typeof path !== "string") return undefined;
  const info = statSync(path, { bigint: true, throwIfNoEntry: false });
  return info && `${info.dev} ${info.ino}`;
}

type BlockNode = Node["blockNode"];

/** What is known of a file. */
const FACTS = 4;

/**
 * By what the content of a disk is known again: of each file at the bottom its inode, size and times of change, of what lies on a
 * server what that says of its version (an ETag, a digest).
 */
export async function identityOf(source: Node): Promise<string> {
  const found: unknown[] = [];
  for (const node of storagesOf(source.blockNode)) found.push(await storageIdentity(node));
  return JSON.stringify(found);
}

/** Throws where a file that a disk is read from is not what it was: what was copied may be of both. Servers tell of that by themselves. */
export async function refuseChanged(source: Node, before: string): Promise<void> {
  const then = JSON.parse(before) as unknown[];
  const now = JSON.parse(await identityOf(source)) as unknown[][];
  if (now.some((one, i) => one.length === FACTS && JSON.stringify(one) !== JSON.stringify(then[i])))
    throw new Error("the source has changed while it was copied");
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
