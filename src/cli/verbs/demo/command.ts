/**
 * `blockwright demo [SOURCE TARGET]`: a mirror that meets a full disk, shown on the terminal. Without arguments it makes
 * its own chain of images with a filesystem in a temporary directory; with them it copies the user's images.
 */
import type { Command } from "commander";
import { overlayFormat, plainFormat } from "../../../drivers/format/defaults.ts";
import { gateFlag, objectFlag } from "../../options/flags.ts";
import type { DemoFlags } from "./run.ts";

/** Adds the verb. */
export function addDemo(program: Command): void {
  program
    .command("demo")
    .description("mirror a chain of images through a full disk and back, with a map of the disk")
    .argument("[source]", "an image of yours; default: a chain made for the purpose")
    .argument("[target]", "its copy, made if it is missing")
    .option("-f, --source-format <format>", "format of the source; default: probed")
    .option(
      "-O, --target-format <format>",
      `format of a target that is made; default: ${plainFormat} for a name that ends in .${plainFormat} or .img, else ${overlayFormat}`,
    )
    .option("--force", "replace a target file that exists")
    .option("--inject", "let a write of your target fail once, as if the disk were full")
    .option("--keep", "keep the images that the demo made")
    .addOption(gateFlag())
    .addOption(objectFlag())
    .action(async (source: string | undefined, target: string | undefined, flags: DemoFlags) => {
      if ((source === undefined) !== (target === undefined)) program.error("error: SOURCE needs a TARGET");
      const { runDemo } = await import("./run.ts");
      const given = source === undefined || target === undefined ? undefined : { source, target };
      process.exitCode = await runDemo(given, flags);
    });
}
