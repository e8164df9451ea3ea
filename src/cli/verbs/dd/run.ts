/**
 * The verb `dd`: operands read as qemu-img reads them, the output made, blocks copied as they are. As in qemu-img 7.2 `count`
 * is where the input ends, so that blocks that `skip` leaves out count too. An output that this run made does not outlive its
 * failure.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf } from "../../../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import { measure } from "../../../api/measure.ts";
import type { Node } from "../../../node.ts";
import { findDriver } from "../../../block/model/options.ts";
import { CreateOptions } from "../../options/create-options.ts";
import { sizeArgument } from "../../options/sizes.ts";
import { openImage } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import { intoNewTarget } from "../create/new-target.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface DdFlags extends ImageVerbFlags {
  targetFormat: string;
}

const DEFAULT_BLOCK = 512n;
const MAX_BLOCK = 2n ** 31n - 1n;
/** Bytes read and written at once. */
const PIECE_BYTES = MiB;

interface Operands {
  input: string | undefined;
  output: string | undefined;
  blockBytes: bigint;
  count: bigint | undefined;
  skip: bigint;
}

/** Runs the verb; resolves with the exit status. */
export function dd(words: readonly string[], flags: DdFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const { format, imageOpts, forceShare, targetFormat } = flags;
    const operands = readOperands(words);
    const { input, output } = operands;
    if (input === undefined || output === undefined)
      throw new Refusal("Must specify both input and output files");
    await using source = await openImage(verb, input, { format, imageOpts, forceShare });
    if (!findDriver(verb.engine.graph, targetFormat)?.createOptions) throw new Refusal("Unknown file format");
    const range = copied(source, operands);
    if (range.skipsAll) verb.note(`${input}: cannot skip to specified offset`);
    const options = new CreateOptions(verb.engine.graph, targetFormat);
    options.set("size", String(range.end - range.start));
    const fill = async (name: string): Promise<void> => {
      await using target = await openImage(verb, name, { format: targetFormat, write: true });
      await copy(verb, { source, target, ...range });
      await flushed(target);
    };
    await intoNewTarget(
      verb,
      {
        name: output,
        options,
        sources: [source],
        doing: "creating output image",
        // qemu-img 7.2 empties its own input.
        isSource: `'${output}' belongs to the input`,
        // All is written, zeroes too.
        neededBytes: async () => {
          const { format, measured } = options;
          const bytes = range.end - range.start;
          const result = await measure({ format, bytes, options: measured, engine: verb.engine });
          return result.fullyAllocatedBytes;
        },
      },
      fill,
    );
    return 0;
  });
}

function readOperands(words: readonly string[]): Operands {
  const operands: Operands = {
    input: undefined,
    output: undefined,
    blockBytes: DEFAULT_BLOCK,
    count: undefined,
    skip: 0n,
  };
  for (const word of words) {
    const at = word.indexOf("=");
    const name = at < 0 ? word : word.slice(0, at);
    const value = at < 0 ? "" : word.slice(at + 1);
    if (at < 0) throw new Refusal(`unrecognized operand ${word}`);
    else if (name === "if") operands.input = value;
    else if (name === "of") operands.output = value;
    else if (name === "bs") operands.blockBytes = blockSize(value);
    else if (name === "count") operands.count = sizeArgument(name, value);
    else if (name === "skip") operands.skip = sizeArgument(name, value);
    else throw new Refusal(`unrecognized operand ${name}`);
  }
  return operands;
}

function blockSize(text: string): bigint {
  const bytes = sizeArgument("bs", text);
  if (bytes >= 1n && bytes <= MAX_BLOCK) return bytes;
  throw new Refusal(`Invalid bs specified. Must be between 1 and ${MAX_BLOCK}.`);
}

/** The bytes of the input that are copied. */
function copied(
  source: Node,
  { blockBytes, count, skip }: Operands,
): { start: number; end: number; skipsAll: boolean } {
  const length = BigInt(alignUp(source.length, SECTOR_SIZE));
  const wanted = count === undefined ? length : count * blockBytes;
  const end = wanted < length ? wanted : length;
  const start = skip * blockBytes;
  if (start > end) return { start: 0, end: 0, skipsAll: true };
  return { start: Number(start), end: Number(end), skipsAll: false };
}

async function copy(
  verb: Run,
  { source, target, start, end }: { source: Node; target: Node; start: number; end: number },
): Promise<void> {
  const { signal } = verb;
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - start));
  for (let at = start; at < end; at += buffer.byteLength) {
    const piece = buffer.subarray(0, Math.min(buffer.byteLength, end - at));
    // The last sector of an input that is no multiple of sectors ends in zeroes.
    const there = Math.max(Math.min(piece.byteLength, source.length - at), 0);
    piece.fill(0, there);
    await attempt("reading from input", () => source.read(at, piece.subarray(0, there), { signal }));
    await attempt("writing to output", () => target.write(at - start, piece, { signal }));
  }
}

async function attempt(what: string, body: () => Promise<unknown>): Promise<void> {
  try {
    await body();
  } catch (error) {
    const code = errnoOf(error);
    throw new Refusal(`error while ${what} image file: ${strerror(code)}`, undefined, code);
  }
}

async function flushed(target: Node): Promise<void> {
  await attempt("writing to output", () => target.flush());
}
