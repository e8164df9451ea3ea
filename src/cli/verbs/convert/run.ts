/**
 * The verb `convert`: options read in qemu-img's order, the target made, the library's convert() in between. A target that
 * this run made does not outlive its failure.
 */
import { closing } from "../../../base/lease.ts";
import { errnoOf } from "../../../base/errors.ts";
import { strerror } from "../../../base/errno.ts";
import { MiB, SECTOR_SIZE } from "../../../base/limits.ts";
import { type BlockBackend, stillPermissions } from "../../../block/graph/backend.ts";
import { allocatedBytes } from "../../../block/model/allocated.ts";
import { findDriver } from "../../../block/model/options.ts";
import { convert as convertNode, CopyError, CopyStatusError } from "../../../api/convert.ts";
import type { ConvertOptions, Node, UnreadRange } from "../../../node.ts";
import { measure } from "../../../api/measure.ts";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import { CreateOptions } from "../../options/create-options.ts";
import { asksForHelp, optionsHelp } from "../../options/rows.ts";
import { snapshotParameter, loadSnapshot } from "../../options/snapshot-param.ts";
import { describeImage, holdImage, openImage } from "../../images.ts";
import { type CacheMode, cacheMode } from "../../options/engine.ts";
import { freeLeaks, type KeptRun, keeping } from "../../checkpoint.ts";
import { Refusal } from "../../refusal.ts";
import { Run, type RunOptions } from "../../run.ts";
import { checkSourceBitmaps, checkTargetBitmaps, copyBitmaps } from "./bitmaps.ts";
import { findData } from "./data-progress.ts";
import { type ConvertNumbers, convertNumbers, type NumberFlags } from "./numbers.ts";
import { intoNewTarget } from "../create/new-target.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface ConvertFlags extends ImageVerbFlags, NumberFlags {
  targetFormat?: string;
  backing?: string;
  backingFormat?: string;
  /** False: -n. */
  create: boolean;
  targetIsZero?: boolean;
  targetImageOpts?: boolean;
  compress?: boolean;
  outOfOrder?: boolean;
  cache?: string;
  sourceCache?: string;
  snapshot?: string;
  salvage?: boolean;
  bitmaps?: boolean;
  skipBrokenBitmaps?: boolean;
  offload?: boolean;
  checkpoint?: string;
}

/** The options with the default of -O. */
type Flags = ConvertFlags & { targetFormat: string };

/** A name that leads to another machine, or may; descriptions of nodes and filters' names lead to files as a rule. */
const REMOTE = /^(?!(?:file|json|blk[a-z]+):)[a-z][a-z\d+.-]*:/;

/** While something is written, the next comes over the network. What can't be read is told in its order where nothing overtakes. */
function ioFor(sources: readonly string[], { salvage }: Flags): RunOptions {
  return !salvage && sources.some((name) => REMOTE.test(name)) ? { io: "pool" } : {};
}

/** Runs the verb; resolves with the exit status. */
export function convert(files: readonly string[], given: ConvertFlags): Promise<number> {
  const flags: Flags = { ...given, targetFormat: given.targetFormat ?? plainFormat };
  return new Run(flags, ioFor(files.slice(0, -1), flags)).carryOut(async (verb) => {
    const numbers = convertNumbers(flags);
    checkUse(flags, numbers);
    verb.progress.start();
    if (asksForHelp(numbers.lists)) {
      verb.print(optionsHelp(verb.engine.graph, flags.targetFormat, files.length > 0));
      return 0;
    }
    const target = files.at(-1);
    if (target === undefined || files.length < 2) throw new Refusal("Must specify image file name");
    const sources: Node[] = [];
    const held: BlockBackend[] = [];
    const work = async (): Promise<void> => {
      await openSources(verb, { files: files.slice(0, -1), sources, held, flags });
      if (isPlain(flags, numbers)) await expectCopies(verb, sources);
      await keeping(verb, { checkpoint: flags.checkpoint, kind: "convert" }, (kept) =>
        copyInto(verb, { sources, target, flags, numbers, openedFormat: openedFormat(given), kept }),
      );
    };
    const closeAll = async (): Promise<void> => {
      for (const hold of held) await hold.close();
      for (const source of sources) await source.close();
    };
    await closing(work, closeAll);
    return 0;
  });
}

/** The format by which the target is opened: options that name it have one of their own, but where -O says another. */
function openedFormat({ targetFormat, targetImageOpts }: ConvertFlags): string | undefined {
  return targetImageOpts ? targetFormat : (targetFormat ?? plainFormat);
}

function checkUse(flags: Flags, { lists, sparseBytes, compressionLevel }: ConvertNumbers): void {
  const refuse = (condition: boolean | undefined, words: string): void => {
    if (condition) throw new Refusal(words);
  };
  refuse(flags.skipBrokenBitmaps && !flags.bitmaps, "Use of --skip-broken-bitmaps requires --bitmaps");
  refuse(compressionLevel !== undefined && !flags.compress, "--compression-level requires use of -c flag");
  refuse(flags.offload && flags.compress, "Cannot enable copy offloading when -c is used");
  refuse(flags.offload && sparseBytes !== undefined, "Cannot enable copy offloading when -S is used");
  refuse(flags.offload && flags.salvage, "Cannot use copy offloading in salvaging mode");
  refuse(flags.create && flags.targetImageOpts, "--target-image-opts requires use of -n flag");
  refuse(!flags.create && lists.length > 0, "-o has no effect when skipping image creation");
  refuse(flags.create && flags.targetIsZero, "--target-is-zero requires use of -n flag");
}

interface Opening {
  files: readonly string[];
  sources: Node[];
  /** What keeps writers away from the sources. */
  held: BlockBackend[];
  flags: Flags;
}

/** Opens the images that are copied; `sources` gets each as soon as it is open. */
async function openSources(verb: Run, { files, sources, held, flags }: Opening): Promise<void> {
  const { format, imageOpts, forceShare } = flags;
  const cache = cacheMode(flags.sourceCache ?? "writeback", "source cache");
  const which = flags.snapshot === undefined ? undefined : snapshotParameter(flags.snapshot);
  if (flags.bitmaps && files.length > 1)
    throw new Refusal("Copying bitmaps only possible with single source");
  for (const file of files) {
    const source = await openImage(verb, file, { format, imageOpts, forceShare, cache });
    sources.push(source);
    // Writers are kept away from before the first read, the opening of the target included.
    held.push(await holdImage(file, source, stillPermissions));
  }
  if (which === undefined) return;
  if (sources.length > 1) throw new Refusal("No support for concatenating multiple snapshot");
  await loadSnapshot(sources[0]!, which);
}

/** Whether nothing stands in the way of the host's own copying (see ConvertOptions). */
function isPlain(flags: Flags, { parallel, speedBytesPerSecond }: ConvertNumbers): boolean {
  const { compress, salvage, checkpoint, offload } = flags;
  return (
    !compress &&
    !salvage &&
    checkpoint === undefined &&
    !offload &&
    parallel !== 1 &&
    speedBytesPerSecond === 0
  );
}

/** While the target is made the host may begin what it needs to copy much. */
async function expectCopies({ engine }: Run, sources: readonly Node[]): Promise<void> {
  const { files } = engine.graph.host;
  const bytes = await Promise.all(
    sources.map(async (source) => (await allocatedBytes(source.blockNode)) ?? 0),
  );
  if (Math.max(...bytes) >= (files.copyLeastBytes ?? Infinity)) files.expectCopies?.();
}

interface Wanted {
  sources: readonly Node[];
  target: string;
  flags: Flags;
  numbers: ConvertNumbers;
  openedFormat: string | undefined;
  kept: KeptRun | undefined;
}

async function copyInto(verb: Run, wanted: Wanted): Promise<void> {
  const { sources, target, flags } = wanted;
  const options = flags.create ? targetOptions(verb, wanted) : undefined;
  const backing = options?.get("backing_file") ?? flags.backing;
  if (backing !== undefined) checkBacking(wanted, options);
  checkCompression(verb, flags, options);
  if (flags.bitmaps) checkSourceBitmaps(sources[0]!, { skipBroken: flags.skipBrokenBitmaps ?? false });
  const { kept } = wanted;
  // A checkpoint says what is durable.
  const cache = cacheMode(flags.cache ?? (kept ? "writeback" : "unsafe"), "cache");
  if (flags.targetIsZero && backing !== undefined)
    throw new Refusal("Cannot use --target-is-zero when the destination image has a backing file");
  const into = (name: string): Promise<void> =>
    fillTarget(verb, wanted, { name, options, cache, hasBacking: backing !== undefined });
  try {
    kept?.stays();
    if (kept?.hasTarget) {
      const how = { format: wanted.openedFormat, imageOpts: flags.targetImageOpts };
      await freeLeaks(verb, await describeImage(verb, target, how));
      await into(target);
    } else if (!options) await into(target);
    else
      await intoNewTarget(
        verb,
        {
          name: target,
          options,
          sources,
          doing: `converting ${options.format}`,
          isSource: `Failed to get "write" lock\nIs another process using the image [${target}]?`,
          durable: !cache["no-flush"],
          neededBytes: () => neededBytes(wanted, options),
          making: kept ? () => kept.begin() : undefined,
        },
        into,
      );
    await kept?.finish();
  } catch (error) {
    throw reason(error);
  }
}

interface Target {
  /** The target as it was named, or the file beside it that will take its place. */
  name: string;
  /** By which it was made; undefined: it was there. */
  options: CreateOptions | undefined;
  cache: CacheMode;
  hasBacking: boolean;
}

async function fillTarget(
  verb: Run,
  wanted: Wanted,
  { name, options, cache, hasBacking }: Target,
): Promise<void> {
  const { sources, flags, kept } = wanted;
  const node = await openImage(verb, name, {
    format: wanted.openedFormat,
    imageOpts: flags.targetImageOpts,
    write: true,
    unmap: true,
    cache,
    more: options?.secretOptions,
  });
  try {
    if (flags.bitmaps) checkTargetBitmaps(node);
    const progress = await shownProgress(verb, sources, hasBacking);
    const isNew = options !== undefined && !hasBacking;
    const fresh = isNew && (node.blockNode.driver.hasZeroInit?.() ?? false);
    await convertNode(sources, node, {
      ...copyOptions(verb, wanted),
      ...progress,
      checkpoint: kept?.ref,
      targetHasBacking: hasBacking,
      targetIsZero: (flags.targetIsZero ?? false) || fresh,
    });
    if (flags.bitmaps) copyBitmaps(verb, sources[0]!, node);
  } catch (error) {
    await node.close().catch(() => undefined);
    throw error;
  }
  await node.close();
}

/** What the target takes, as far as that can be told: what is compressed, or joined, shows when it is written. */
async function neededBytes(
  { sources: [source, ...others], flags }: Wanted,
  options: CreateOptions,
): Promise<number | undefined> {
  if (!source || others.length > 0 || flags.compress) return undefined;
  const { format, measured } = options;
  const result = await measure({ format, source, options: measured }).catch(() => undefined);
  return result?.requiredBytes;
}

function copyOptions(verb: Run, { flags, numbers }: Wanted): ConvertOptions {
  const { sparseBytes, parallel, speedBytesPerSecond, compressionLevel } = numbers;
  return {
    ...(sparseBytes === undefined ? {} : { sparseBytes }),
    ...(parallel === undefined ? {} : { parallel }),
    ...(flags.salvage ? { salvage: (unread) => tellUnread(verb, flags, unread) } : {}),
    speedBytesPerSecond,
    inOrder: !(flags.outOfOrder ?? false),
    offload: flags.offload ?? false,
    compress: flags.compress ?? false,
    ...(compressionLevel === undefined ? {} : { compressionLevel }),
    signal: verb.signal,
  };
}

/** Shows how far it is, if somebody wants to see that. */
async function shownProgress(
  { progress, signal }: Run,
  sources: readonly Node[],
  ownLayer: boolean,
): Promise<Pick<ConvertOptions, "onProgress" | "stepBytes">> {
  if (!progress.isAskedFor) return { onProgress: progress.show };
  const data = await findData(sources, { ownLayer, signal });
  if (data.total === 0) return {};
  progress.tellEnd();
  // A step for each percent, but none that is smaller than is told apart.
  const stepBytes = Math.max(MiB, Math.floor(data.total / 100));
  return { onProgress: (done) => progress.show(data.before(done), data.total), stepBytes };
}

function tellUnread(verb: Run, { quiet }: Flags, { step, offset, error }: UnreadRange): void {
  if (quiet) return;
  const what = step === "read" ? "offset" : "block status at offset";
  verb.warn(`error while reading ${what} ${offset}: ${strerror(errnoOf(error))}`);
}

/** The options of the image to make. Throws Refusal. */
function targetOptions(verb: Run, { sources, flags, numbers }: Wanted): CreateOptions {
  const options = new CreateOptions(verb.engine.graph, flags.targetFormat);
  for (const list of numbers.lists) options.parse(list);
  if (options.noDisk !== undefined)
    throw new Refusal(`With '${options.noDisk}' no disk is made that could be written to`);
  const sectors = sources.reduce((sum, { length }) => sum + Math.ceil(length / SECTOR_SIZE), 0);
  // A size of the user's own counts for nothing, as in qemu-img.
  options.set("size", String(sectors * SECTOR_SIZE));
  for (const [name, value] of [
    ["backing_file", flags.backing],
    ["backing_fmt", flags.backingFormat],
  ] as const) {
    if (value === undefined) continue;
    const what = name === "backing_file" ? "file" : "file format";
    if (!options.accepts(name))
      throw new Refusal(`Backing ${what} not supported for file format '${flags.targetFormat}'`);
    options.set(name, value);
  }
  return options;
}

/** What a target over a backing file takes. Throws Refusal. */
function checkBacking({ sources }: Wanted, options: CreateOptions | undefined): void {
  if (sources.length > 1) {
    throw new Refusal(
      "Having a backing file for the target makes no sense when concatenating multiple input images",
    );
  }
  if (options && options.get("backing_fmt") === undefined)
    throw new Refusal("Use of backing file requires explicit backing format");
}

function checkCompression(verb: Run, flags: Flags, options: CreateOptions | undefined): void {
  if (!flags.compress) return;
  const type = findDriver(verb.engine.graph, flags.targetFormat);
  if (!type?.compressedWrites) throw new Refusal("Compression not supported for this file format");
  if (options?.encrypts) throw new Refusal("Compression and encryption not supported at the same time");
  const preallocation = options?.get("preallocation") ?? "off";
  if (preallocation !== "off")
    throw new Refusal("Compression and preallocation not supported at the same time");
}

/** What failed, in qemu-img's words. */
function reason(error: unknown): unknown {
  if (!(error instanceof CopyError)) return error;
  const { range, operation } = error;
  const offset = range?.offset ?? 0;
  const why = strerror(errnoOf(error));
  if (error instanceof CopyStatusError)
    return new Refusal(`error while reading block status at offset ${offset}: ${why}`);
  return new Refusal(`error while ${operation === "read" ? "reading" : "writing"} at byte ${offset}: ${why}`);
}
