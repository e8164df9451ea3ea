/**
 * From a name and options to the description of a node. A name is handed down to the lowest storage, whose driver reads it:
 * `blkdebug:CFG:F`, `null-co://`, `file:F`. What has no driver gets one: storage by its name, an image by its first bytes.
 * Options may stand beside a name at any depth (`file.driver=…`, `backing.node-name=…`).
 *
 * Invariant: names are read only where the user wrote them; a `filename` among options is a file's, whatever it looks like.
 * Source: behaviour of QEMU 7.2's bdrv_fill_options and bdrv_open_child.
 */
import { BlockError, CommandError, errnoOf } from "../base/errors.ts";
import type { DriverType } from "../block/model/contract.ts";
import { type FoundFormat, probeFormat } from "../block/graph/probe.ts";
import { typeOfName } from "../block/graph/storage-name.ts";
import { protocolPrefix } from "../block/model/gate.ts";
import { guessedFormat } from "../block/model/spec.ts";
import { isJsonObject, type Json, type JsonObject } from "../wire/qapi/index.ts";
import { type Opener, readName } from "./names.ts";
import { isFromHeader, nodeSpec } from "./node-spec.ts";

/** What is to be described. */
export interface Named {
  name: string | undefined;
  /** Values are strings; objects are the options of children. */
  options: JsonObject;
  /** Storage, whose format nobody asks for. */
  isStorage?: boolean;
  /** Reading the first bytes must not disturb a writer. */
  forceShare?: boolean | undefined;
}

/** Names of children whose options may lack what a name or the image's first bytes say. */
const childNames: ReadonlySet<string> = new Set(["file", "image", "test", "backing", "data-file", "header"]);

/** Whether options of that name are those of a child. */
function isChild(name: string, value: Json | undefined): boolean {
  if (childNames.has(name)) return true;
  return isJsonObject(value) && ["driver", "file", "filename"].some((key) => value[key] !== undefined);
}

/** The driver of a name. Throws CommandError. */
export function driverType({ engine }: Opener, name: string): DriverType {
  for (const type of engine.graph.drivers) if (type.name === name) return type;
  throw new CommandError(`Unknown driver '${name}'`);
}

/** All options of a node, with the drivers of it and of what lies below. Throws CommandError. */
export async function describe(opener: Opener, named: Named): Promise<JsonObject> {
  const { isStorage = false } = named;
  // A name within a name may be options, too: `blkdebug::json:{…}`.
  const { name, options: read } = named.name === undefined ? { options: {} } : readName(named.name);
  const options = Object.assign(Object.create(null) as JsonObject, read, named.options);
  let type = typeOf(opener, { ...named, name, options });
  if (type && options["driver"] === undefined && (await isDevice(opener, name)))
    type = driverType(opener, "host_device");
  const isNamed = type?.parseName !== undefined;
  const handed = name === undefined ? {} : handDown(options, name, type);
  const children = new Set([
    ...Object.keys(handed),
    ...Object.keys(options).filter((key) => isChild(key, options[key])),
  ]);
  for (const child of children) await describeChild(opener, { ...named, options }, { child, handed });
  const copies = await describeCopies(opener, { ...named, options });
  if (copies) options["children"] = copies;
  if (!type) {
    const { file } = options;
    if (!isJsonObject(file) || isStorage) throw new CommandError("Must specify either driver or file");
    const found = await probe(opener, file, named.forceShare);
    type = driverType(opener, found.driver);
    if (found[guessedFormat]) Object.assign(options, { [guessedFormat]: true });
  } else if (!isNamed && type.kind !== "protocol" && !copies && !("file" in options || "image" in options))
    throw new CommandError('A block device must be specified for "file"');
  options["driver"] = type.name;
  return type.modernOptions ? (type.modernOptions(options) as JsonObject) : options;
}

/** The driver that options or the name say; undefined: it must be found out. */
function typeOf(opener: Opener, { options, name, isStorage }: Named): DriverType | undefined {
  const { driver, filename } = options;
  if (typeof driver === "string") return driverType(opener, driver);
  if (!isStorage) return undefined;
  if (name !== undefined) return typeOfName(opener.engine.graph, name);
  return typeof filename === "string" ? driverType(opener, "file") : undefined;
}

/** Whether a name without a protocol leads to a device: such names are read by the driver of devices, as QEMU's are. */
/** Whether a name is a device's. */
export async function isDevice({ engine }: Opener, name: string | undefined): Promise<boolean> {
  if (name === undefined || protocolPrefix(name) !== "") return false;
  const info = await engine.graph.host.files.info(name).catch(() => undefined);
  return info?.kind === "block-device" || info?.kind === "character-device";
}

type Handed = Readonly<Record<string, { name: string; guess?: boolean }>>;

/** Reads the name where the driver has names; else its file gets it. `options` takes what was read. */
function handDown(options: JsonObject, name: string, type: DriverType | undefined): Handed {
  if (!type?.parseName) {
    // Storage without names of its own has nothing to read out of one.
    if (type?.kind === "protocol") return {};
    return { file: { name } };
  }
  if (options["filename"] !== undefined) throw twoNames();
  const { options: read = {}, children = {} } = type.parseName(name);
  for (const [key, value] of Object.entries(read)) options[key] = value;
  return children;
}

function twoNames(): CommandError {
  return new CommandError("Can't specify 'file' and 'filename' options at the same time");
}

/** Completes the options of one child, if there is something of it: options or a name. */
async function describeChild(
  opener: Opener,
  { options, forceShare }: Named,
  { child, handed }: { child: string; handed: Handed },
): Promise<void> {
  const given = options[child];
  const { name, guess } = handed[child] ?? {};
  if (typeof given === "string") {
    if (child === "backing" && given === "") return;
    if (name !== undefined)
      throw new CommandError(
        "Cannot reference an existing block device with additional options or a new filename",
      );
    // A node that is there: programs that open one image at a time have none.
    if (opener.engine.graph.findNode(given)) return;
    throw new CommandError(`Cannot find device='${given}' nor node-name='${given}'`);
  }
  if (name === undefined && !isJsonObject(given)) return;
  const below = isJsonObject(given) ? given : {};
  if (child === "backing" && isFromHeader(below)) return;
  // What an image or a filter lies in is storage; only a backing file, and what blkverify tests, is an image by itself.
  const isStorage = child !== "backing" && child !== "test" && !guess;
  try {
    options[child] = await describe(opener, { name, options: below, isStorage, forceShare });
  } catch (error) {
    throw child === "backing" ? ofBackingFile(error) : error;
  }
}

/** What is wrong with a backing file is told as such. */
function ofBackingFile(error: unknown): unknown {
  const prefix = "Could not open backing file: ";
  const isOurs = error instanceof CommandError || error instanceof BlockError;
  if (!isOurs || error.message.startsWith(prefix)) return error;
  return new BlockError({ code: errnoOf(error), op: "open", message: prefix + error.message, cause: error });
}

/** Completes the options of a list of children; undefined: there is none. */
async function describeCopies(opener: Opener, { options, forceShare }: Named): Promise<Json[] | undefined> {
  const { children } = options;
  if (!Array.isArray(children)) return undefined;
  const described: Json[] = [];
  for (const child of children)
    described.push(
      isJsonObject(child) ? await describe(opener, { name: undefined, options: child, forceShare }) : child,
    );
  return described;
}

async function probe(opener: Opener, file: JsonObject, forceShare = false): Promise<FoundFormat> {
  const spec = nodeSpec(opener, file);
  return probeFormat(opener.engine.graph, forceShare ? { ...spec, "force-share": true } : spec);
}
