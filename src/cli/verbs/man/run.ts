/**
 * The verb `man`: prints one page, or writes all of them.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { portableDrivers } from "../../../drivers/index.ts";
import { makeFolders } from "../../../platform/node/folders.ts";
import { version } from "../../../version.ts";
import { programPage, verbPage } from "./page.ts";
import { tableOf } from "../../options/table.ts";
import { reasonWithPath } from "../../reason.ts";

/** Runs the verb; resolves with the exit status. */
export async function man(program: Command, name?: string, directory?: string): Promise<number> {
  const table = tableOf(program);
  try {
    if (directory !== undefined) {
      makeFolders(directory);
      await writeFile(join(directory, "blockwright.1"), programPage(table, version));
      for (const verb of table.verbs)
        await writeFile(
          join(directory, `blockwright-${verb.name}.1`),
          verbPage(verb, version, portableDrivers),
        );
      return 0;
    }
    const verb = table.verbs.find((entry) => entry.name === name);
    if (name !== undefined && !verb) throw new Error(`There is no verb '${name}'`);
    process.stdout.write(verb ? verbPage(verb, version, portableDrivers) : programPage(table, version));
    return 0;
  } catch (error) {
    process.stderr.write(`blockwright: ${reasonWithPath(error)}\n`);
    return 1;
  }
}
