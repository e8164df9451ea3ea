/**
 * The verb `resize`: sizes absolute or relative, shrinking only where it was asked for, in qemu-img's words.
 */
import { limits, SECTOR_SIZE } from "../../../base/limits.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { resize as resizeNode } from "../../../api/resize.ts";
import type { Node } from "../../../node.ts";
import { notASize, parseSize, preallocationMode, safeBytes, tooLong } from "../../options/sizes.ts";
import { holdImage, openImage } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface ResizeFlags extends ImageVerbFlags {
  shrink?: boolean;
  preallocation?: string;
}

const INT64_MAX = 2n ** 63n - 1n;

/** Runs the verb; resolves with the exit status. */
export function resize(words: readonly string[], flags: ResizeFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    if (words.length < 2) throw misuse("Not enough arguments");
    const unknown = words.slice(0, -1).find((word) => word.startsWith("-"));
    if (unknown !== undefined) throw misuse(`unrecognized option '${unknown}'`);
    const size = words.at(-1)!;
    const preallocation = preallocationMode(flags.preallocation ?? "off");
    if (!preallocation) throw new Refusal(`Invalid preallocation mode '${flags.preallocation}'`);
    const [file] = words;
    if (file === undefined || words.length > 2) throw misuse("Expecting image file name and size");
    const change = readSize(size);
    const { format, imageOpts } = flags;
    await using node = await openImage(verb, file, { format, imageOpts, write: true });
    const held = await holdImage(file, node, { perm: Perm.write | Perm.resize, shared: Perm.all });
    try {
      await resizeNode(node, wantedBytes(node, change, { ...flags, preallocation }), { preallocation });
    } finally {
      await held.close();
    }
    verb.say("Image resized.");
    return 0;
  });
}

/** The new length, bytes. Throws Refusal in qemu-img's words. */
function wantedBytes(
  node: Node,
  { sign, bytes }: { sign: bigint; bytes: bigint },
  { shrink, preallocation }: { shrink?: boolean | undefined; preallocation: string },
): number {
  const current = BigInt(Math.ceil(node.length / SECTOR_SIZE) * SECTOR_SIZE);
  const wanted = sign === 0n ? bytes : current + sign * bytes;
  if (wanted <= 0n || wanted > INT64_MAX) throw new Refusal("New image size must be positive");
  if (wanted <= current && preallocation !== "off")
    throw new Refusal("Preallocation can only be used for growing images");
  if (wanted < current && !shrink) {
    throw new Refusal([
      "Use the --shrink option to perform a shrink operation.",
      "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an " +
        "operation, make sure there is no important data there.",
    ]);
  }
  if (wanted > BigInt(limits.maxImageBytes)) throw new Refusal(tooLong(node.blockNode));
  return safeBytes(wanted);
}

function readSize(text: string): { sign: bigint; bytes: bigint } {
  const sign = text.startsWith("+") ? 1n : text.startsWith("-") ? -1n : 0n;
  const bytes = parseSize(sign === 0n ? text : text.slice(1));
  if (typeof bytes === "bigint") return { sign, bytes };
  throw new Refusal(notASize("size"));
}
