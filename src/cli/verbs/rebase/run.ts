/**
 * The verb `rebase`: the library's rebase() in qemu-img's words. A format that the header lacks is refused before anything is
 * copied.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf, BlockError, ImageError } from "../../../base/errors.ts";
import { rebase as rebaseNode } from "../../../api/rebase.ts";
import type { Node, RebaseTarget } from "../../../node.ts";
import { isKnownFormat } from "../../options/rows.ts";
import { openBare, openImage } from "../../images.ts";
import { backingPath } from "../../names.ts";
import { cacheMode } from "../../options/engine.ts";
import { Refusal, told } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface RebaseFlags extends ImageVerbFlags {
  backing?: string;
  backingFormat?: string;
  cache?: string;
  sourceCache?: string;
  unsafe?: boolean;
}

/** Runs the verb; resolves with the exit status. */
export function rebase(files: readonly string[], flags: RebaseFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const { format, imageOpts, unsafe = false, backing, backingFormat } = flags;
    const [file] = files;
    if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
    if (!unsafe && backing === undefined)
      throw misuse("Must specify backing file (-b) or use unsafe mode (-u)");
    verb.progress.start();
    const cache = cacheMode(flags.cache ?? "writeback", "cache");
    const below = cacheMode(flags.sourceCache ?? "writeback", "source cache");
    await using node = await openImage(verb, file, {
      format,
      imageOpts,
      write: true,
      cache,
      backing: !unsafe,
    });
    if (backingFormat !== undefined && !isKnownFormat(verb.engine.graph, backingFormat))
      throw new Refusal(`Invalid format name: '${backingFormat}'`);
    const target = backing === undefined || backing === "" ? null : backing;
    if (target === null || unsafe) {
      await change(verb, node, { target: target === null ? null : link(target, flags), flags });
      return 0;
    }
    await using next = await openNew(verb, { file, target, format: backingFormat, cache: below });
    await change(verb, node, { target: { ...link(target, flags), node: next }, flags });
    return 0;
  });
}

function link(filename: string, { backingFormat }: RebaseFlags): RebaseTarget {
  return { filename, ...(backingFormat === undefined ? {} : { format: backingFormat }) };
}

async function openNew(
  verb: Run,
  {
    file,
    target,
    ...options
  }: { file: string; target: string; format: string | undefined; cache: ReturnType<typeof cacheMode> },
): Promise<Node> {
  const path = backingPath(verb, file, target);
  try {
    return await openBare(verb, path, options);
  } catch (error) {
    throw new Refusal(`Could not open new backing file '${target}': ${told(error)}`);
  }
}

async function change(
  verb: Run,
  node: Node,
  { target, flags }: { target: RebaseTarget | null; flags: RebaseFlags },
): Promise<void> {
  const refuse = (why: string): never => {
    throw new Refusal(`Could not change the backing file to '${flags.backing ?? "(null)"}': ${why}`);
  };
  if (target && target.format === undefined) refuse("backing format must be specified");
  try {
    await rebaseNode(node, target, {
      unsafe: flags.unsafe ?? false,
      onProgress: verb.progress.show,
      signal: verb.signal,
    });
  } catch (error) {
    if (verb.signal.aborted || !isLinkError(error)) throw error;
    const code = errnoOf(error);
    refuse(code === "ENOSPC" ? "No space left in the file header" : strerror(code));
  }
}

/** What is wrong with the link in the header, and not with the copying before it. */
function isLinkError(error: unknown): boolean {
  if (error instanceof ImageError) return error.structure === "header";
  return error instanceof BlockError && error.op === "rebase";
}
