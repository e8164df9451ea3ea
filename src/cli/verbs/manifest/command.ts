/**
 * `blockwright manifest FILE`: the hashes of a file's clusters, for a disk that is served over HTTP.
 */
import type { Command } from "commander";
import { gateFlag } from "../../options/flags.ts";
import { addProgressFlag, addQuietFlag } from "../../options/verb-flags.ts";
import type { ManifestFlags } from "./run.ts";

/** Adds the verb. */
export function addManifest(program: Command): void {
  const command = program
    .command("manifest")
    .description("write the hashes of a file's clusters, by which the http driver checks what it reads")
    .argument("<file>", "the file that is served, whatever its format")
    .option("-o, --output <file>", "where to write; default: FILE.manifest")
    .option("--cluster-size <bytes>", "bytes that share a hash, 512 … 2M (default: 64k)");
  addQuietFlag(addProgressFlag(command))
    .addOption(gateFlag())
    .action(async (file: string, flags: ManifestFlags) => {
      const { manifest } = await import("./run.ts");
      process.exitCode = await manifest(file, flags);
    });
}
