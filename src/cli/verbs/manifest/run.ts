/**
 * The verb `manifest`: the library's makeManifest() over the bytes of a file as they lie.
 */
import { writeFile } from "node:fs/promises";
import { messageOf } from "../../../base/errors.ts";
import { type ManifestOptions, makeManifest, openNode } from "../../../node.ts";
import type { ManifestFlags } from "./command.ts";
import { safeBytes, sizeArgument } from "../../options/sizes.ts";
import { Refusal, Verb } from "../../verb.ts";

/** Runs the verb; resolves with the exit status. */
export function manifest(filename: string, flags: ManifestFlags): Promise<number> {
  return new Verb(flags).run(async (verb) => {
    const options: ManifestOptions = { signal: verb.signal, onProgress: verb.progress };
    if (flags.clusterSize !== undefined) options.clusterBytes = clusterBytes(flags.clusterSize);
    await using node = await openNode(
      { driver: "file", filename, "read-only": true },
      { engine: verb.engine },
    );
    verb.beginProgress();
    const bytes = await makeManifest(node, options);
    verb.endProgress(true);
    const output = flags.output ?? `${filename}.manifest`;
    await writeFile(output, bytes).catch((error: unknown) => {
      throw new Refusal(`Could not write '${output}': ${messageOf(error)}`);
    });
    verb.say(`${output}: ${bytes.byteLength} bytes for a disk of ${node.length}`);
    return 0;
  });
}

function clusterBytes(text: string): number {
  const value = sizeArgument("cluster size", text);
  if ("refusal" in value) throw new Refusal(value.refusal);
  return safeBytes(value.bytes);
}
