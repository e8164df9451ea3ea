/**
 * The verb `bitmap`: the library's bitmap functions, one after the other, in qemu-img's words. What was done before an action
 * that fails stays done.
 */
import { addBitmap, clearBitmap, enableBitmap, mergeBitmaps, removeBitmap } from "../../../api/bitmaps.ts";
import type { Node } from "../../../node.ts";
import { safeBytes, sizeArgument } from "../../options/sizes.ts";
import { openImage } from "../../images.ts";
import { Refusal, told } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** One change of the bitmap, in the order of the command line. */
export interface BitmapAction {
  kind: "add" | "remove" | "clear" | "enable" | "disable" | "merge";
  /** merge: the bitmap whose bits are taken. */
  source: string;
}

/** Options of the verb. */
export interface BitmapFlags extends ImageVerbFlags {
  granularity?: string;
  sourceFile?: string;
  sourceFormat?: string;
  actions: readonly BitmapAction[];
}

/** Runs the verb; resolves with the exit status. */
export function bitmap(words: readonly string[], flags: BitmapFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const { format, imageOpts, sourceFile } = flags;
    const granularity = checkUse(flags);
    const [file, name] = words;
    if (file === undefined || name === undefined || words.length > 2)
      throw misuse("Expecting filename and bitmap name");
    if (imageOpts && format !== undefined)
      throw new Refusal("--image-opts and --format are mutually exclusive");
    await using node = await openImage(verb, file, { format, imageOpts, write: true, backing: false });
    await using source =
      sourceFile === undefined
        ? undefined
        : await openImage(verb, sourceFile, { format: flags.sourceFormat, backing: false });
    for (const action of flags.actions) {
      try {
        act({ node, name, source, granularity }, action);
      } catch (error) {
        throw new Refusal(`Operation ${action.kind} on bitmap ${name} failed: ${told(error)}`);
      }
    }
    return 0;
  });
}

/** Refuses options that do not go together; gives the granularity, undefined for the default. */
function checkUse({ granularity, actions, sourceFile, sourceFormat }: BitmapFlags): number | undefined {
  const size = granularity === undefined ? undefined : sizeArgument("granularity", granularity);
  const has = (kind: BitmapAction["kind"]): boolean => actions.some((action) => action.kind === kind);
  if (actions.length === 0) {
    throw new Refusal("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
  }
  const bytes = size ? safeBytes(size) : undefined;
  if (bytes !== undefined && !has("add")) throw new Refusal("granularity only supported with --add");
  if (sourceFormat !== undefined && sourceFile === undefined) throw new Refusal("-F only supported with -b");
  if (sourceFile !== undefined && !has("merge"))
    throw new Refusal("Merge bitmap source file only supported with --merge");
  return bytes;
}

interface Target {
  node: Node;
  name: string;
  /** The image that has the bitmaps to merge, if it is another one. */
  source: Node | undefined;
  granularity: number | undefined;
}

function act({ node, name, source, granularity }: Target, action: BitmapAction): void {
  switch (action.kind) {
    case "add":
      return addBitmap(node, name, {
        persistent: true,
        ...(granularity === undefined ? {} : { granularity }),
      });
    case "remove":
      return removeBitmap(node, name);
    case "clear":
      return clearBitmap(node, name);
    case "enable":
    case "disable":
      return enableBitmap(node, name, action.kind === "enable");
    case "merge":
      return mergeBitmaps(node, name, [source ? { node: source, name: action.source } : action.source]);
  }
}
