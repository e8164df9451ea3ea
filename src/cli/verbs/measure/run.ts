/**
 * The verb `measure`: the library's measure() in qemu-img's words.
 */
import { stringifyJson } from "../../../wire/qapi/index.ts";
import { messageOf } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import { measure as measureImage } from "../../../api/measure.ts";
import type { MeasureOptions, MeasureResult } from "../../../node.ts";
import { CreateOptions } from "../../options/create-options.ts";
import { asksForHelp, optionLists, optionsHelp } from "../../options/rows.ts";
import { sizeArgument } from "../../options/sizes.ts";
import { loadSnapshot, snapshotParameter } from "../../options/snapshot-param.ts";
import { openImage } from "../../images.ts";
import { checkOutput, Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface MeasureFlags extends ImageVerbFlags {
  output: string;
  targetFormat: string;
  option?: string[];
  size?: string;
  snapshot?: string;
}

/** Runs the verb; resolves with the exit status. */
export function measure(files: readonly string[], flags: MeasureFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const lists = optionLists(flags.option);
    const which = flags.snapshot === undefined ? undefined : snapshotParameter(flags.snapshot);
    checkOutput(flags.output);
    const size = flags.size === undefined ? undefined : sizeArgument("image size", flags.size);
    checkUse(files, flags);
    const [file] = files;
    const { format, imageOpts, forceShare } = flags;
    await using source =
      file === undefined
        ? undefined
        : await openImage(verb, file, { format, imageOpts, forceShare, metadataOnly: true });
    if (source && which !== undefined) await loadSnapshot(source, which);
    if (asksForHelp(lists)) {
      verb.print(optionsHelp(verb.engine.graph, flags.targetFormat, false));
      return 0;
    }
    const most = BigInt(limits.maxImageBytes);
    const bytes = size ?? 0n;
    const result = await measureImage({
      ...wanted(verb, flags, lists),
      // A format that has a limit of its own says so in its own words.
      ...(source ? { source } : { bytes: Number(bytes > most ? most : bytes) }),
      signal: verb.signal,
    });
    if (bytes > most) throw new Refusal(`Image size ${bytes} is above ${most} bytes (limits.maxImageBytes)`);
    verb.print(flags.output === "json" ? jsonResult(result) : humanResult(result));
    return 0;
  });
}

function checkUse(files: readonly string[], flags: MeasureFlags): void {
  if (files.length > 1) throw new Refusal("At most one filename argument is allowed.");
  if (files.length === 0 && (flags.imageOpts || flags.format !== undefined || flags.snapshot !== undefined))
    throw new Refusal("--image-opts, -f, and -l require a filename argument.");
  if (files.length === 0 && flags.size === undefined)
    throw new Refusal("Either --size N or one filename must be specified.");
  if (files.length === 1 && flags.size !== undefined)
    throw new Refusal("--size N cannot be used together with a filename.");
}

function wanted(verb: Run, { targetFormat: format }: MeasureFlags, lists: readonly string[]): MeasureOptions {
  const options = new CreateOptions(verb.engine.graph, format);
  try {
    for (const list of lists) options.parse(list);
  } catch (error) {
    throw new Refusal([messageOf(error), `Invalid options for file format '${format}'`]);
  }
  return { format, options: options.measured, engine: verb.engine };
}

function humanResult({ requiredBytes, fullyAllocatedBytes, bitmapsBytes }: MeasureResult): string {
  const bitmaps = bitmapsBytes === undefined ? "" : `bitmaps size: ${bitmapsBytes}\n`;
  return `required size: ${requiredBytes}\nfully allocated size: ${fullyAllocatedBytes}\n${bitmaps}`;
}

function jsonResult({ requiredBytes, fullyAllocatedBytes, bitmapsBytes }: MeasureResult): string {
  const object = {
    ...(bitmapsBytes === undefined ? {} : { bitmaps: bitmapsBytes }),
    required: requiredBytes,
    "fully-allocated": fullyAllocatedBytes,
  };
  return `${stringifyJson(object, 4)}\n`;
}
