/**
 * Opening the images that verbs after qemu-img's pattern name: by file name, by `json:{…}`, or by `--image-opts`; read-only
 * unless asked, with the caching and sharing that the flags say. Messages as qemu-img's.
 */
import { CommandError } from "../base/errors.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import type { NodeSpec, Permissions } from "../block/model/contract.ts";
import { openNodeIn } from "../api/open.ts";
import type { Node, OpenSpec } from "../node.ts";
import { type JsonObject, parseKeyval } from "../wire/qapi/index.ts";
import { describe } from "./describe.ts";
import { type Opener, readName } from "./names.ts";
import { nodeSpec } from "./node-spec.ts";
import type { CacheMode } from "./options/engine.ts";
import { readOptionWords } from "./options/words.ts";
import { Refusal, notOpened } from "./refusal.ts";
import { printableMessage } from "./printable.ts";

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
  /** Words for options, beside the name. */
  options?: JsonObject | undefined;
  /** threads, native or io_uring. */
  aio?: string | undefined;
}

/** Describes an image; without a name the options say all. Throws Refusal, CommandError, BlockError. */
export async function describeImage(
  verb: Opener,
  name: string | undefined,
  how: ImageOptions,
): Promise<NodeSpec> {
  const { format, imageOpts, forceShare, options = {} } = how;
  if (imageOpts && format !== undefined)
    throw new Refusal("--image-opts and --format are mutually exclusive");
  const named = readImageName(name, imageOpts);
  if (imageOpts && forceShare && saysNotShared(named.options))
    throw new Refusal("--force-share/-U conflicts with image options");
  // A format of its own counts more than the driver in the object.
  const given = { ...named.options, ...options, ...(format === undefined ? {} : { driver: format }) };
  const all = await describe(verb, {
    name: named.name,
    options: readOptionWords(verb.engine.graph, given),
    forceShare,
  });
  const spec = nodeSpec(verb, all);
  const guessed = given["driver"] === undefined;
  if (guessed && (how.warn ?? how.write ?? false) && isUnclaimed(verb, spec.driver))
    warnOfGuess(named.name === undefined ? fileNameOf(spec) : (name ?? ""), spec.driver);
  return spec;
}

/** The name of the file at the bottom of what options describe. */
function fileNameOf({ file, filename }: Partial<NodeSpec> & { filename?: unknown }): string {
  if (typeof filename === "string") return filename;
  return typeof file === "object" && file !== null ? fileNameOf(file) : "";
}

/** Whether options say the contrary of -U. */
export function saysNotShared({ "force-share": own }: JsonObject): boolean {
  return own !== undefined && own !== "on";
}

function readImageName(
  name: string | undefined,
  imageOpts: boolean | undefined,
): { name?: string; options: JsonObject } {
  if (name === undefined) return { options: {} };
  return imageOpts ? { options: parseKeyval(name, "file") } : readName(name);
}

/** Opens an image. Throws Refusal `Could not open 'x': …`. */
export async function openImage(verb: Opener, name: string, options: ImageOptions = {}): Promise<Node> {
  try {
    return await openBare(verb, name, options);
  } catch (error) {
    if (verb.signal.aborted || error instanceof Refusal) throw error;
    throw new Refusal(notOpened(name, error));
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
  return openNodeIn(engine, spec as unknown as OpenSpec, { signal, metadataOnly });
}

/**
 * Holds an open image with these permissions until the answer is closed. Throws Refusal `Could not open 'x': …` where somebody else's
 * use of it forbids them: qemu-img asks for them when it opens.
 */
export async function holdImage(name: string, node: Node, permissions: Permissions): Promise<BlockBackend> {
  const backend = new BlockBackend(node.engine.graph);
  try {
    await backend.attach(node.blockNode, permissions);
  } catch (error) {
    throw new Refusal(notOpened(name, error));
  }
  return backend;
}

/** Hands the way of I/O to the file at the bottom. */
export function withAio(spec: NodeSpec, aio: string | undefined): NodeSpec {
  // What is the default anyway need not be said: it would have to be said again at each reopening.
  if (aio === undefined || aio === "threads") return spec;
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
    `WARNING: Image format was not specified for '${printableMessage(name)}' and probing guessed ${format}.\n` +
      `         Automatically detecting the format is dangerous for ${format} images, write operations on block 0 will be restricted.\n` +
      `         Specify the '${format}' format explicitly to remove the restrictions.\n`,
  );
}
