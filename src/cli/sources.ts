/**
 * Opening the images that verbs after qemu-img's pattern name: by file name, by `json:{…}`, or by `--image-opts`; read-only
 * unless asked, with the caching and sharing that the flags say. Messages as qemu-img's.
 */
import { CommandError, messageOf } from "../base/errors.ts";
import type { NodeSpec } from "../block/driver.ts";
import { probeFormat } from "../block/open.ts";
import type { Node } from "../node.ts";
import { isJsonObject, parseKeyval, parseOption, validateOptions } from "../wire/qapi/index.ts";
import { openImage } from "./images.ts";
import { lockHint, Refusal, type Verb } from "./verb.ts";

/** How an image is opened. */
export interface SourceOptions {
  format?: string | undefined;
  imageOpts?: boolean | undefined;
  forceShare?: boolean | undefined;
  write?: boolean;
  /** False: the backing file is left out. */
  backing?: boolean;
  cache?: CacheMode | undefined;
  /** Frees what is discarded. */
  unmap?: boolean;
  nodeName?: string;
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
export async function describeSource(verb: Verb, name: string, options: SourceOptions): Promise<NodeSpec> {
  if (options.imageOpts) return describeOptions(verb, name);
  const { format } = options;
  if (name.startsWith("json:")) {
    const spec = parseOption("BlockdevOptions", name.slice("json:".length), "driver") as NodeSpec;
    return format === undefined ? spec : { driver: format, file: spec };
  }
  const file: NodeSpec = { driver: "file", filename: localFile(name) };
  if (format === undefined) return { driver: await probe(verb, file, options), file };
  const known = [...verb.engine.graph.drivers].some((type) => type.name === format);
  if (!known) throw new CommandError(`Unknown driver '${format}'`);
  return format === "file" ? file : { driver: format, file };
}

function probe(verb: Verb, file: NodeSpec, { forceShare }: SourceOptions): Promise<string> {
  return probeFormat(verb.engine.graph, forceShare ? { ...file, "force-share": true } : file);
}

/** `driver=qcow2,file.filename=x`: without a driver the file's name tells it, or its first bytes. */
async function describeOptions(verb: Verb, text: string): Promise<NodeSpec> {
  const given = parseKeyval(text);
  const below = isJsonObject(given["file"]) ? given["file"] : undefined;
  if (below && below["driver"] === undefined && typeof below["filename"] === "string")
    below["driver"] = "file";
  if (given["driver"] === undefined && below)
    given["driver"] = await probe(verb, { ...below } as unknown as NodeSpec, {});
  if (given["driver"] === undefined && typeof given["filename"] === "string") given["driver"] = "file";
  return validateOptions("BlockdevOptions", given) as NodeSpec;
}

/** Opens an image. Throws Refusal `Could not open 'x': …`. */
export async function openSource(verb: Verb, name: string, options: SourceOptions = {}): Promise<Node> {
  if (options.write && options.forceShare)
    throw new Refusal(`Could not open '${name}': force-share=on can only be used with read-only images`);
  try {
    const spec = await describeSource(verb, name, options);
    const { cache, write, unmap, nodeName, forceShare, backing } = options;
    const guessed = options.format === undefined && !options.imageOpts && !name.startsWith("json:");
    if (write && guessed && spec.driver === "raw") warnOfRaw(name);
    const supportsBacking = verb.engine.graph.driver(spec.driver).supportsBacking ?? false;
    return await openImage(
      verb.engine,
      {
        ...spec,
        "read-only": !write,
        ...(cache ? { cache: { ...cache } } : {}),
        ...(forceShare ? { "force-share": true } : {}),
        ...(unmap ? { discard: "unmap" as const } : {}),
        ...(nodeName === undefined ? {} : { "node-name": nodeName }),
        ...(backing === false && supportsBacking ? { backing: null } : {}),
      },
      verb.signal,
    );
  } catch (error) {
    if (error instanceof Refusal || verb.signal.aborted) throw error;
    throw new Refusal(`Could not open '${name}': ${lockHint(messageOf(error), name)}`);
  }
}

function warnOfRaw(name: string): void {
  process.stderr.write(
    `WARNING: Image format was not specified for '${name}' and probing guessed raw.\n` +
      "         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n" +
      "         Specify the 'raw' format explicitly to remove the restrictions.\n",
  );
}
