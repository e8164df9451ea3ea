/**
 * Opening the images that verbs after qemu-img's pattern name: by file name, by `json:{…}`, or by `--image-opts`; read-only
 * unless asked, with the caching and sharing that the flags say. Messages as qemu-img's.
 */
import { CommandError, messageOf } from "../base/errors.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { probeFormat } from "../block/graph/open.ts";
import { Perm } from "../block/model/permissions.ts";
import { type Engine, type Node, openNode, type OpenSpec } from "../node.ts";
import {
  isJsonObject,
  type JsonObject,
  parseJson,
  parseKeyval,
  validate,
  validateOptions,
} from "../wire/qapi/index.ts";
import { readOptionWords } from "./options/words.ts";
import { lockHint, Refusal } from "./verb.ts";

/** Who opens an image: a verb, or a job in the foreground. */
export interface Opener {
  readonly engine: Engine;
  readonly signal: AbortSignal;
}

/** How an image is opened. */
export interface SourceOptions {
  format?: string | undefined;
  imageOpts?: boolean | undefined;
  forceShare?: boolean | undefined;
  write?: boolean;
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

/** Caching, as BlockdevOptions has it. */
export interface CacheMode {
  direct: boolean;
  "no-flush": boolean;
}

const cacheModes: Readonly<Record<string, CacheMode>> = {
  none: { direct: true, "no-flush": false },
  off: { direct: true, "no-flush": false },
  directsync: { direct: true, "no-flush": false },
  writeback: { direct: false, "no-flush": false },
  writethrough: { direct: false, "no-flush": false },
  unsafe: { direct: false, "no-flush": true },
};

/** The meaning of `-t` or `-T`; `what` names the option in the refusal. */
export function cacheMode(text: string, what: string): CacheMode {
  const mode = Object.hasOwn(cacheModes, text) ? cacheModes[text] : undefined;
  if (!mode) throw new Refusal(`Invalid ${what} option: ${text}`);
  return mode;
}

/** The file that a plain name stands for. Throws `Unknown protocol 'x'` for names with another protocol than file. */
export function localFile(name: string): string {
  if (name.startsWith("file:")) return name.slice("file:".length);
  const protocol = /^([^/\\:]*):/.exec(name)?.[1];
  if (protocol !== undefined) throw new CommandError(`Unknown protocol '${protocol}'`);
  return name;
}

/** Describes an image. Throws Refusal, CommandError, BlockError. */
export async function describeSource(verb: Opener, name: string, options: SourceOptions): Promise<NodeSpec> {
  if (options.imageOpts && options.format !== undefined)
    throw new Refusal("--image-opts and --format are mutually exclusive");
  if (options.imageOpts)
    return describeObject(verb, readOptionWords(parseKeyval(name, "file")), { strings: true });
  const { format } = options;
  if (name.startsWith("json:")) {
    const given = jsonOptions(name.slice("json:".length));
    // A format of its own counts more than the driver in the object.
    return describeObject(verb, format === undefined ? given : { ...given, driver: format }, {
      strings: false,
    });
  }
  const file: NodeSpec = { driver: "file", filename: localFile(name) };
  if (format === undefined) return { driver: await probe(verb, file, options), file };
  checkDriver(verb, format);
  return format === "file" ? file : { driver: format, file };
}

/** Whether there is a driver of that name. */
export function isDriver(verb: Opener, name: string): boolean {
  return [...verb.engine.graph.drivers].some((type) => type.name === name);
}

function checkDriver(verb: Opener, name: string): void {
  if (!isDriver(verb, name)) throw new CommandError(`Unknown driver '${name}'`);
}

/** What has a file name and no driver, at any depth, is a file. */
function nameFiles(object: JsonObject): void {
  if (object["driver"] === undefined && typeof object["filename"] === "string") object["driver"] = "file";
  for (const value of Object.values(object)) if (isJsonObject(value)) nameFiles(value);
}

/** The driver of an object of options, and those of the objects in it. */
function checkDrivers(verb: Opener, object: JsonObject): void {
  const { driver } = object;
  if (typeof driver === "string") checkDriver(verb, driver);
  for (const value of Object.values(object)) if (isJsonObject(value)) checkDrivers(verb, value);
}

/** The file that `backing` means in the header of the image `file`: a relative name counts from the image's directory. */
export function backingPath(verb: Opener, file: string, backing: string): string {
  if (/^[^/\\]*:/.test(backing)) return backing;
  return verb.engine.graph.host.files.resolve(localFile(file), backing);
}

function probe(verb: Opener, file: NodeSpec, { forceShare }: SourceOptions): Promise<string> {
  return probeFormat(verb.engine.graph, forceShare ? { ...file, "force-share": true } : file);
}

/** The object behind `json:`; its keys may have dots, as `file.filename`. */
function jsonOptions(text: string): JsonObject {
  let parsed: unknown;
  try {
    parsed = parseJson(text);
  } catch (error) {
    throw new CommandError(`Could not parse the JSON options: ${messageOf(error)}`);
  }
  if (!isJsonObject(parsed)) throw new CommandError("Invalid JSON object given");
  return nestKeys(parsed);
}

function nestKeys(object: JsonObject): JsonObject {
  const nested = Object.create(null) as JsonObject;
  for (const [key, value] of Object.entries(object)) {
    const dot = key.indexOf(".");
    const inner = isJsonObject(value) ? nestKeys(value) : value;
    if (dot < 0) nested[key] = inner;
    else {
      const name = key.slice(0, dot);
      const before = nested[name];
      nested[name] = nestKeys({ ...(isJsonObject(before) ? before : {}), [key.slice(dot + 1)]: inner });
    }
  }
  return nested;
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
      value["format"] = "luks";
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
    given["driver"] ??= await probe(verb, { ...below } as unknown as NodeSpec, {});
  }
  const { driver } = given;
  if (typeof driver !== "string") throw new CommandError("Must specify either driver or file");
  checkDrivers(verb, given);
  const { kind } = verb.engine.graph.driver(driver);
  if (kind === "format" && below === undefined)
    throw new CommandError('A block device must be specified for "file"');
  const open = openFormats(given);
  try {
    const spec = (strings ? validateOptions : validate)("BlockdevOptions", given) as NodeSpec;
    for (const path of open) forgetFormat(spec, path);
    return spec;
  } catch (error) {
    const unknown = /^Parameter '([^.']+)' is unexpected$/.exec(messageOf(error))?.[1];
    if (unknown === undefined) throw error;
    throw new CommandError(`Block format '${driver}' does not support the option '${unknown}'`);
  }
}

/** Opens an image. Throws Refusal `Could not open 'x': …`. */
export async function openSource(verb: Opener, name: string, options: SourceOptions = {}): Promise<Node> {
  if (options.write && options.forceShare)
    throw new Refusal(`Could not open '${name}': force-share=on can only be used with read-only images`);
  try {
    const spec = withAio(await describeSource(verb, name, options), options.aio);
    const { cache, write, unmap, nodeName, forceShare, backing, metadataOnly = false } = options;
    const guessed = options.format === undefined && !options.imageOpts && !name.startsWith("json:");
    if (write && guessed && spec.driver === "raw") warnOfRaw(name);
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
    const { engine, signal } = verb;
    return await openNode(opened as unknown as OpenSpec, { engine, signal, metadataOnly });
  } catch (error) {
    if (error instanceof Refusal || verb.signal.aborted) throw error;
    throw new Refusal(`Could not open '${name}': ${lockHint(error, name)}`);
  }
}

/** Keeps writers away from an open image until the answer is closed: from before its first read, another target's opening included. */
export async function holdSource(source: Node): Promise<BlockBackend> {
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

/** Says on stderr that the format of a file that is to be written was guessed to be raw. */
export function warnOfRaw(name: string): void {
  process.stderr.write(
    `WARNING: Image format was not specified for '${name}' and probing guessed raw.\n` +
      "         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n" +
      "         Specify the 'raw' format explicitly to remove the restrictions.\n",
  );
}
