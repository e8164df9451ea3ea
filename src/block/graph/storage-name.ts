/**
 * Storage by the name that a command gives it: a path, or the name of a protocol, whose driver reads it (`blkdebug:CFG:F`,
 * `file:F`, `null-co://`).
 *
 * Invariant: only names that a user wrote are read so; what an image names goes through the gate.
 * Source: behaviour of QEMU 7.2's bdrv_find_protocol and bdrv_parse_filename.
 */
import { CommandError } from "../../base/errors.ts";
import type { DriverType, GraphView, NodeSpec } from "../model/contract.ts";
import { driverOfProtocol, findDriver, optionsOfName } from "../model/options.ts";
import type { NodeHome } from "./home.ts";
import { probeFormat } from "./probe.ts";

const FILES = "file";

/** The driver of the protocol that a name is of; without one it is a file's. Throws CommandError for a protocol that there is not. */
export function typeOfName(graph: GraphView, name: string): DriverType {
  const protocol = (name.includes(":") ? /^([^/\\:]*):/.exec(name)?.[1] : undefined) ?? FILES;
  // A caller's own driver for files need not read names: a path is its file's.
  const found =
    driverOfProtocol(graph, protocol) ?? (protocol === FILES ? findDriver(graph, FILES) : undefined);
  if (!found) throw new CommandError(`Unknown protocol '${protocol}'`);
  return found;
}

/** The storage of a name. Throws CommandError where it has none. */
export async function storageByName(graph: NodeHome, name: string): Promise<NodeSpec> {
  const type = typeOfName(graph, name);
  const { options = {}, children = {} } = type.parseName?.(name) ?? { options: { filename: name } };
  const spec: NodeSpec = { driver: type.name, ...optionsOfName(type, options) };
  for (const [child, below] of Object.entries(children)) {
    const storage = await storageByName(graph, below.name);
    spec[child] = below.guess ? { ...(await probeFormat(graph, storage)), file: storage } : storage;
  }
  return spec;
}

/** Where an image is to be made: a file, or storage that is there. */
export interface NewStorage {
  readonly file: NodeSpec;
  /** The file, if it is one. */
  readonly filename: string | undefined;
}

/** What lies under the name of an image that is to be made. Throws CommandError for protocols whose storage is not made by a name. */
export function newStorage(graph: GraphView, name: string): NewStorage {
  const type = typeOfName(graph, name);
  const { options = {} } = type.parseName?.(name) ?? { options: { filename: name } };
  const { filename } = options;
  if (type.create && typeof filename === "string") return { filename, file: { driver: "file", filename } };
  if (type.makeInPlace)
    return { filename: undefined, file: { ...optionsOfName(type, options), driver: type.name } };
  throw new CommandError(`Protocol driver '${type.name}' does not support image creation`);
}

/** The file that is to be made under a name. Throws CommandError for storage that is no file. */
export function newFileName(graph: GraphView, name: string): string {
  const { filename } = newStorage(graph, name);
  if (filename !== undefined) return filename;
  throw new CommandError(`'${name}' is no file that can be made`);
}
