/**
 * The verb `convert`: options read in qemu-img's order, the target made, the library's convert() in between. A target that
 * this run made does not outlive its failure.
 */
import { errnoOf, messageOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import { convert as convertNode, CopyError, type Node } from "../../node.ts";
import type { ConvertFlags } from "../commands/convert.ts";
import { asksForHelp, CreateOptions, optionLists, optionsHelp } from "../create-options.ts";
import { sizeArgument } from "../sizes.ts";
import { cacheMode, localFile, openSource } from "../sources.ts";
import { lockHint, Refusal, Verb } from "../verb.ts";
import { makeImage } from "./create.ts";

const MAX_SPARSE = 16_777_216n;
const MAX_PARALLEL = 16;

/** Runs the verb; resolves with the exit status. */
export function convert(files: readonly string[], flags: ConvertFlags): Promise<number> {
  return new Verb(flags).run(async (verb) => {
    const lists = optionLists(flags.option);
    const sparseBytes = sparse(flags.sparse ?? "4k");
    const parallel = parallelism(flags.parallel);
    refuseLater(flags);
    if (!flags.create && lists.length > 0) throw new Refusal("-o has no effect when skipping image creation");
    if (flags.create && flags.targetImageOpts)
      throw new Refusal("--target-image-opts requires use of -n flag");
    if (flags.create && flags.targetIsZero) throw new Refusal("--target-is-zero requires use of -n flag");
    if (asksForHelp(lists)) {
      verb.print(optionsHelp(flags.targetFormat));
      return 0;
    }
    const target = files.at(-1);
    const [sourceName] = files;
    if (sourceName === undefined || target === undefined || files.length < 2)
      throw new Refusal("Must specify image file name");
    if (files.length > 2) throw new Refusal("Several sources are not supported yet");
    const { format, imageOpts, forceShare } = flags;
    const cache = cacheMode(flags.sourceCache ?? "writeback", "source cache");
    await using source = await openSource(verb, sourceName, { format, imageOpts, forceShare, cache });
    await copyInto(verb, source, { target, lists, flags, sparseBytes, parallel });
    return 0;
  });
}

interface Wanted {
  target: string;
  lists: readonly string[];
  flags: ConvertFlags;
  sparseBytes: number;
  parallel: number | undefined;
}

async function copyInto(verb: Verb, source: Node, wanted: Wanted): Promise<void> {
  const { target, flags, sparseBytes, parallel } = wanted;
  const options = flags.create ? targetOptions(source, wanted) : undefined;
  const backing = options?.get("backing_file") ?? flags.backing;
  checkCompression(verb, flags, options);
  const cache = cacheMode(flags.cache ?? "unsafe", "cache");
  if (options) await makeTarget(verb, options, target);
  const node = await openSource(verb, target, {
    format: flags.targetFormat,
    imageOpts: flags.targetImageOpts,
    write: true,
    unmap: true,
    cache,
  });
  try {
    await convertNode(source, node, {
      sparseBytes,
      ...(parallel === undefined ? {} : { parallel }),
      compress: flags.compress ?? false,
      targetHasBacking: backing !== undefined,
      targetIsZero: (flags.targetIsZero ?? false) || (options !== undefined && backing === undefined),
      onProgress: verb.progress,
      signal: verb.signal,
    });
  } catch (error) {
    await node.close().catch(() => undefined);
    throw reason(error);
  }
  await node.close();
}

/** The options of the image to make. Throws Refusal. */
function targetOptions(source: Node, { lists, flags }: Wanted): CreateOptions {
  const options = new CreateOptions(flags.targetFormat);
  for (const list of lists) options.parse(list);
  // A size of the user's own counts for nothing, as in qemu-img.
  options.set("size", String(Math.ceil(source.length / SECTOR_SIZE) * SECTOR_SIZE));
  for (const [name, value] of [
    ["backing_file", flags.backing],
    ["backing_fmt", flags.backingFormat],
  ] as const) {
    if (value === undefined) continue;
    const what = name === "backing_file" ? "file" : "format";
    if (!options.accepts(name))
      throw new Refusal(`Backing ${what} not supported for file format '${flags.targetFormat}'`);
    options.set(name, value);
  }
  if (options.get("backing_file") !== undefined && options.get("backing_fmt") === undefined)
    throw new Refusal("Use of backing file requires explicit backing format");
  return options;
}

function checkCompression(verb: Verb, flags: ConvertFlags, options: CreateOptions | undefined): void {
  if (!flags.compress) return;
  const type = [...verb.engine.graph.drivers].find(({ name }) => name === flags.targetFormat);
  if (!type?.compressedWrites) throw new Refusal("Compression not supported for this file format");
  const preallocation = options?.get("preallocation") ?? "off";
  if (preallocation !== "off")
    throw new Refusal("Compression and preallocation not supported at the same time");
}

async function makeTarget(verb: Verb, options: CreateOptions, target: string): Promise<void> {
  const { files } = verb.engine.graph.host;
  const filename = localFile(target);
  const existed = await files.info(filename).then(
    () => true,
    () => false,
  );
  try {
    await makeImage(verb, options, filename);
  } catch (error) {
    const message = lockHint(messageOf(error), target);
    throw new Refusal(`${target}: error while converting ${options.format}: ${message}`);
  }
  if (!existed) verb.onFailure(() => files.remove(filename).catch(() => undefined));
}

function sparse(text: string): number {
  const value = sizeArgument("buffer size for sparse output", text);
  if ("refusal" in value) throw new Refusal(value.refusal);
  if (value.bytes % 512n === 0n && value.bytes <= MAX_SPARSE) return Number(value.bytes);
  throw new Refusal(
    "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to " +
      `${MAX_SPARSE}. Select 0 to disable sparse detection (fully allocates output).`,
  );
}

function parallelism(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= MAX_PARALLEL) return count;
  throw new Refusal(
    `Invalid number of coroutines. Allowed number of coroutines is between 1 and ${MAX_PARALLEL}`,
  );
}

const later = ["snapshot", "rateLimit", "salvage", "bitmaps", "offload"] as const;
const shown = { snapshot: "-l", rateLimit: "-r", salvage: "--salvage", bitmaps: "--bitmaps", offload: "-C" };

function refuseLater(flags: ConvertFlags): void {
  for (const name of later)
    if (flags[name] !== undefined) throw new Refusal(`${shown[name]} is not supported yet`);
}

/** What failed, in qemu-img's words. */
function reason(error: unknown): unknown {
  if (!(error instanceof CopyError)) return error;
  const verb = error.operation === "read" ? "reading" : "writing";
  return new Refusal(`error while ${verb} at byte ${error.range?.offset ?? 0}: ${strerror(errnoOf(error))}`);
}
