/**
 * The verb `amend`: the library's amend() in qemu-img's words.
 */
import { messageOf } from "../../../base/errors.ts";
import { amend as amendImage } from "../../../node.ts";
import { amendChanges, amendHelp } from "../../options/amend-options.ts";
import type { AmendFlags } from "./command.ts";
import { asksForHelp, optionLists } from "../../options/create-options.ts";
import { cacheMode, openSource } from "../../sources.ts";
import { Refusal, Verb } from "../../verb.ts";

/** Runs the verb; resolves with the exit status. */
export function amend(files: readonly string[], flags: AmendFlags): Promise<number> {
  return new Verb(flags).run(async (verb) => {
    if (flags.option === undefined) throw new Refusal("Must specify options (-o)");
    const lists = optionLists(flags.option);
    const { format, imageOpts } = flags;
    if (format !== undefined && asksForHelp(lists)) {
      if (![...verb.engine.graph.drivers].some(({ name }) => name === format))
        throw new Refusal(`Unknown file format '${format}'`);
      verb.print(amendHelp(format));
      return 0;
    }
    const [file] = files;
    if (file === undefined || files.length > 1) throw new Refusal("Expecting one image file name");
    const cache = flags.cache === undefined ? undefined : cacheMode(flags.cache, "cache");
    await using node = await openSource(verb, file, { format, imageOpts, cache, write: true, unmap: true });
    const driver = node.chain[0]!.driver;
    if (asksForHelp(lists)) {
      verb.print(amendHelp(driver));
      return 0;
    }
    const changes = amendChanges(driver, lists);
    verb.progress(0, 1);
    try {
      await amendImage(node, changes, {
        force: flags.force ?? false,
        signal: verb.signal,
        onProgress: verb.progress,
      });
    } catch (error) {
      if (messageOf(error) !== "Cannot amend the backing file") throw error;
      throw new Refusal("Cannot amend the backing file\nYou can use 'blockwright rebase' instead.");
    }
    return 0;
  });
}
