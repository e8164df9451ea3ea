/**
 * The verb `manifest`: the library's makeManifest() over the bytes of a file as they lie.
 */
import { writeFile } from "node:fs/promises";
import { file } from "../../../api/builders.ts";
import { type ManifestOptions, makeManifest } from "../../../api/manifest.ts";
import { isSameFile } from "../../../api/own-files.ts";
import { openNodeIn } from "../../../api/open.ts";
import { bytesArgument } from "../../options/sizes.ts";
import { Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import type { VerbFlags } from "../../options/flags.ts";
import { reasonOf } from "../../reason.ts";

/** Options of the verb. */
export interface ManifestFlags extends VerbFlags {
  output?: string;
  clusterSize?: string;
}

/** Runs the verb; resolves with the exit status. */
export function manifest(filename: string, flags: ManifestFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const options: ManifestOptions = { signal: verb.signal, onProgress: verb.progress.show };
    if (flags.clusterSize !== undefined) options.clusterBytes = clusterBytes(flags.clusterSize);
    await using node = await openNodeIn(verb.engine, file(filename, { "read-only": true }));
    const output = flags.output ?? `${filename}.manifest`;
    if (await isSameFile(verb.engine.graph.host.files, output, filename))
      throw new Refusal(`'${output}' is the disk itself`);
    verb.progress.start();
    const bytes = await makeManifest(node, options);
    verb.progress.end(true);
    await writeFile(output, bytes).catch((error: unknown) => {
      throw new Refusal(`Could not write '${output}': ${reasonOf(error)}`);
    });
    verb.say(`${output}: ${bytes.byteLength} bytes for a disk of ${node.length}`);
    return 0;
  });
}

function clusterBytes(text: string): number {
  return bytesArgument("cluster size", text);
}
