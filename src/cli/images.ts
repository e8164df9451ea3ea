/**
 * Opening the images that verbs after qemu-img's pattern name: by file name, by `json:{…}`, or by `--image-opts`; read-only
 * unless asked, with the caching and sharing that the flags say. Messages as qemu-img's.
 */
import { CommandError, detailOf } from "../base/errors.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { type FoundFormat, probeFormat } from "../block/graph/probe.ts";
import { findDriver } from "../block/model/formats.ts";
import { Perm } from "../block/model/permissions.ts";
import { LUKS } from "../crypto/luks-rows.ts";
import { type Node, openNode, type OpenSpec } from "../node.ts";
import {
  isJsonObject,
  type JsonObject,
  parseKeyval,
  schemaWith,
  validate,
  validateOptions,
} from "../wire/qapi/index.ts";
import { jsonOptions, localFile, nameFiles, type Opener } from "./names.ts";
import type { CacheMode } from "./options/cache.ts";
import { readOptionWords } from "./options/words.ts";
import { Refusal, told } from "./refusal.ts";

/** How an image is opened. */
export interface ImageOptions {
  format?: string | undefined;
  imageOpts?: boolean | undefined;
  forceShare?: boolean | undefined;
  write?: boolean;
  /** Warns of a format that was guessed to be raw. Default: where the image is to be written, as QEMU. */
  warn?: boolean;
  /** To be described and not read: encrypted images need no secret. */
  metadataOnly?: boolean;
  /** Further options of the node: the secret of an image that was just made. */
  more?: Partial<NodeSpec> | undefined;
  /** False: the backing file is left out. */
  backing?: boolean;
  cache?: CacheMode | undefined;
  /** Frees what is discarded. */
  unmap?: boolean;
  nodeName?: string;
  /** threads, native or io_uring. */
  aio?: string | undefined;
}

/** Describes an image. Throws Refusal, CommandError, BlockError. */
export async function describeImage(verb: Opener, name: string, options: ImageOptions): Promise<NodeSpec> {
  if (options.imageOpts && options.format !== undefined)
    throw new Refusal("--image-opts and --format are mutually exclusive");
  if (options.imageOpts)
    return describeObject(verb, readOptionWords(verb.engine.graph, parseKeyval(name, "file")), {
      strings: true,
    });
  const { format } = options;
  if (name.startsWith("json:")) {
    const given = jsonOptions(name.slice("json:".length));
    // A format of its own counts more than the driver in the object.
    return describeObject(verb, format === undefined ? given : { ...given, driver: format }, {
      strings: false,
    });
  }
  const file: NodeSpec = { driver: "file", filename: localFile(name) };
  if (format === undefined) {
    const found = await probe(verb, file, options);
    if ((options.warn ?? options.write ?? false) && isUnclaimed(verb, found.driver))
      warnOfGuess(name, found.driver);
    return { ...found, file };
  }
  checkDriver(verb, format);
  return format === "file" ? file : { driver: format, file };
}

function checkDriver(verb: Opener, name: string): void {
  if (!findDriver(verb.engine.graph, name)) throw new CommandError(`Unknown driver '${name}'`);
}

/** The driver of an object of options, and those of the objects in it. */
function checkDrivers(verb: Opener, object: JsonObject): void {
  const { driver } = object;
  if (typeof driver === "string") checkDriver(verb, driver);
  for (const value of Object.values(object)) if (isJsonObject(value)) checkDrivers(verb, value);
}

function probe(verb: Opener, file: NodeSpec, { forceShare }: ImageOptions): Promise<FoundFormat> {
  return probeFormat(verb.engine.graph, forceShare ? { ...file, "force-share": true } : file);
}

/**
 * Encryption whose format the user left to the image's header, which QAPI would not take: fills a format in, and tells the
 * paths of the objects that have it.
 */
function openFormats(object: JsonObject, path: readonly string[] = []): string[][] {
  const found: string[][] = [];
  for (const [key, value] of Object.entries(object)) {
    if (!isJsonObject(value)) continue;
    if (key === "encrypt" && value["format"] === undefined) {
      value["format"] = LUKS;
      found.push([...path, key]);
    } else found.push(...openFormats(value, [...path, key]));
  }
  return found;
}

function forgetFormat(spec: NodeSpec, path: readonly string[]): void {
  let at = spec as Record<string, unknown>;
  for (const key of path) at = at[key] as Record<string, unknown>;
  delete at["format"];
}

/** An image as an object of options: without a driver the first bytes of its file tell it. */
async function describeObject(
  verb: Opener,
  given: JsonObject,
  { strings }: { strings: boolean },
): Promise<NodeSpec> {
  for (const value of Object.values(given)) if (isJsonObject(value)) nameFiles(value);
  const below = given["file"];
  if (typeof below === "string")
    throw new CommandError(`Cannot find device='${below}' nor node-name='${below}'`);
  if (isJsonObject(below)) {
    const { filename } = below;
    if (below["driver"] === "file" && typeof filename !== "string")
      throw new CommandError("The 'file' block driver requires a file name");
  }
  const found =
    isJsonObject(below) && given["driver"] === undefined
      ? await probe(verb, { ...below } as unknown as NodeSpec, {})
      : undefined;
  if (found) given["driver"] = found.driver;
  const { driver } = given;
  if (typeof driver !== "string") throw new CommandError("Must specify either driver or file");
  checkDrivers(verb, given);
  const { kind } = verb.engine.graph.driver(driver);
  if (kind === "format" && below === undefined)
    throw new CommandError('A block device must be specified for "file"');
  const open = openFormats(given);
  try {
    const spec = (strings ? validateOptions : validate)(
      "BlockdevOptions",
      given,
      schemaWith(verb.engine.graph.drivers),
    ) as NodeSpec;
    for (const path of open) forgetFormat(spec, path);
    return { ...spec, ...found };
  } catch (error) {
    const unknown = detailOf(error, "unexpected");
    if (unknown === undefined || unknown.includes(".")) throw error;
    throw new CommandError(`Block format '${driver}' does not support the option '${unknown}'`);
  }
}

/** Opens an image. Throws Refusal `Could not open 'x': …`. */
export async function openImage(verb: Opener, name: string, options: ImageOptions = {}): Promise<Node> {
  try {
    return await openBare(verb, name, options);
  } catch (error) {
    if (verb.signal.aborted || error instanceof Refusal) throw error;
    throw new Refusal(`Could not open '${name}': ${told(error)}`);
  }
}

/** Opens an image. Throws what opening it throws, without its name. */
export async function openBare(verb: Opener, name: string, options: ImageOptions = {}): Promise<Node> {
  const { cache, write, unmap, nodeName, forceShare, backing, metadataOnly = false } = options;
  if (write && forceShare) throw new CommandError("force-share=on can only be used with read-only images");
  const spec = withAio(await describeImage(verb, name, options), options.aio);
  const supportsBacking = verb.engine.graph.driver(spec.driver).supportsBacking ?? false;
  const opened = {
    ...spec,
    ...options.more,
    "read-only": !write,
    ...(cache ? { cache: { ...cache } } : {}),
    ...(forceShare ? { "force-share": true } : {}),
    ...(unmap ? { discard: "unmap" as const } : {}),
    ...(nodeName === undefined ? {} : { "node-name": nodeName }),
    ...(backing === false && supportsBacking ? { backing: null } : {}),
  };
  return openDescribed(verb, opened, { metadataOnly });
}

/** Opens what describeImage() described. */
export function openDescribed(
  { engine, signal }: Opener,
  spec: NodeSpec,
  { metadataOnly = false }: { metadataOnly?: boolean } = {},
): Promise<Node> {
  return openNode(spec as unknown as OpenSpec, { engine, signal, metadataOnly });
}

/** Keeps writers away from an open image until the answer is closed: from before its first read, another target's opening included. */
export async function holdImage(source: Node): Promise<BlockBackend> {
  const backend = new BlockBackend(source.engine.graph);
  const shared = Perm.consistentRead | Perm.writeUnchanged;
  await backend.attach(source.blockNode, { perm: Perm.consistentRead, shared });
  return backend;
}

/** Hands the way of I/O to the file at the bottom. */
export function withAio(spec: NodeSpec, aio: string | undefined): NodeSpec {
  if (aio === undefined) return spec;
  if (spec.driver === "file") return { ...spec, aio };
  const { file } = spec;
  return typeof file === "object" && file !== null ? { ...spec, file: withAio(file as NodeSpec, aio) } : spec;
}

/** Whether probing left it at the format that nothing claims. */
function isUnclaimed({ engine }: Opener, driver: string): boolean {
  return engine.graph.driver(driver).isDefault === "unclaimed";
}

/** Says on stderr that the format of a file was guessed, since nothing claims it. */
function warnOfGuess(name: string, format: string): void {
  process.stderr.write(
    `WARNING: Image format was not specified for '${name}' and probing guessed ${format}.\n` +
      `         Automatically detecting the format is dangerous for ${format} images, write operations on block 0 will be restricted.\n` +
      `         Specify the '${format}' format explicitly to remove the restrictions.\n`,
  );
}
