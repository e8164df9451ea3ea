/**
 * The verb `amend`: the library's amend() in qemu-img's words.
 */
import { amend as amendImage } from "../../../api/amend.ts";
import { amendChanges, amendHelp } from "../../options/amend-options.ts";
import { findDriver } from "../../../block/model/options.ts";
import { asksForHelp, optionLists } from "../../options/rows.ts";
import { openImage } from "../../images.ts";
import { cacheMode } from "../../options/engine.ts";
import { Refusal } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface AmendFlags extends ImageVerbFlags {
  option?: string[];
  cache?: string;
  force?: boolean;
}

/** Runs the verb; resolves with the exit status. */
export function amend(files: readonly string[], flags: AmendFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    if (flags.option === undefined) throw misuse("Must specify options (-o)");
    const lists = optionLists(flags.option);
    const { format, imageOpts } = flags;
    if (format !== undefined && asksForHelp(lists)) {
      const type = findDriver(verb.engine.graph, format);
      if (!type) throw new Refusal(`Unknown file format '${format}'`);
      verb.print(amendHelp(type));
      return 0;
    }
    const [file] = files;
    if (file === undefined || files.length > 1) throw new Refusal("Expecting one image file name");
    const cache = flags.cache === undefined ? undefined : cacheMode(flags.cache, "cache");
    await using node = await openImage(verb, file, { format, imageOpts, cache, write: true, unmap: true });
    const { type } = node.blockNode;
    if (asksForHelp(lists)) {
      verb.print(amendHelp(type));
      return 0;
    }
    const changes = amendChanges(type, lists);
    verb.progress.show(0, 1);
    await amendImage(node, changes, {
      force: flags.force ?? false,
      signal: verb.signal,
      onProgress: verb.progress.show,
    });
    return 0;
  });
}
