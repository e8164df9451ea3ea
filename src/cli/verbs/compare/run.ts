/**
 * The verb `compare`: the library's compare() in qemu-img's words. Exit status: 0 the same, 1 different (or a wrong command
 * line), 2 an image does not open, 3 block status fails, 4 reading fails.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf } from "../../../base/errors.ts";
import { CompareError, type CompareResult, compare as compareNodes } from "../../../api/compare.ts";
import type { Node } from "../../../node.ts";
import { openImage } from "../../images.ts";
import { cacheMode } from "../../options/engine.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface CompareFlags extends ImageVerbFlags {
  secondFormat?: string;
  cache?: string;
  strict?: boolean;
}

const OPEN_FAILED = 2;
const STATUS_FAILED = 3;
const READ_FAILED = 4;
const SIZES_DIFFER = "Warning: Image size mismatch!";

/** Runs the verb; resolves with the exit status. */
export function compare(files: readonly string[], flags: CompareFlags): Promise<number> {
  return new Run(flags).carryOut(
    async (verb) => {
      const [first, second] = files;
      if (first === undefined || second === undefined || files.length > 2)
        throw misuse("Expecting two image file names", 1);
      const { imageOpts, forceShare } = flags;
      const cache = flags.cache === undefined ? undefined : cacheMode(flags.cache, "source cache");
      const how = { imageOpts, forceShare, cache };
      verb.progress.reserve();
      await using a = await openImage(verb, first, { ...how, format: flags.format });
      await using b = await openImage(verb, second, { ...how, format: flags.secondFormat });
      verb.progress.start();
      return await compareFiles(verb, { a, b, names: [first, second] }, flags);
    },
    { failure: OPEN_FAILED },
  );
}

interface Compared {
  a: Node;
  b: Node;
  names: readonly [string, string];
}

async function compareFiles(verb: Run, { a, b, names }: Compared, flags: CompareFlags): Promise<number> {
  try {
    const result = await compareNodes(a, b, {
      strict: flags.strict ?? false,
      onProgress: verb.progress.show,
      signal: verb.signal,
    });
    return tell(verb, result, Math.min(a.length, b.length));
  } catch (error) {
    if (!(error instanceof CompareError)) throw error;
    verb.note(wordsOf(error, names));
    // What lies behind the shorter disk's end is looked at after the warning; in a pipe that comes later all the same.
    if (a.length !== b.length && error.offset >= Math.min(a.length, b.length)) verb.say(SIZES_DIFFER);
    return error.step === "status" ? STATUS_FAILED : READ_FAILED;
  }
}

function wordsOf({ step, disk, offset, cause }: CompareError, names: readonly [string, string]): string {
  if (step === "status") return `Sector allocation test failed for ${names[disk]}`;
  return `Error while reading offset ${offset} of ${names[disk]}: ${strerror(errnoOf(cause))}`;
}

function tell(verb: Run, result: CompareResult, common: number): number {
  const { identical, mismatch, offset = 0, sizesDiffer } = result;
  if (mismatch === "size") verb.say("Strict mode: Image size mismatch!");
  else if (sizesDiffer && (identical || offset >= common)) verb.say(SIZES_DIFFER);
  if (mismatch === "status") verb.say(`Strict mode: Offset ${offset} block status mismatch!`);
  if (mismatch === "content") verb.say(`Content mismatch at offset ${offset}!`);
  if (identical) verb.say("Images are identical.");
  return identical ? 0 : 1;
}
