// rebase or commit over a chain of files, in a process that is made to be killed: `chain-verb.mjs STORY.json`. Writes how
// many changes of files it made when it ends by itself.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { commitOverlay } from "../../src/api/commit.ts";
import { openNodeIn } from "../../src/api/open.ts";
import { rebase } from "../../src/api/rebase.ts";
import { fileGate } from "../../src/block/gate.ts";
import { portableDrivers } from "../../src/drivers.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { Engine } from "../../src/machine/engine.ts";
import { type Death, killingHost } from "./support/killing-host.ts";

/** What this process is told to do. */
export interface ChainStory {
  directory: string;
  /** commit: into the backing file; commit-base: into the lowest image; rebase: over another chain; flatten: over none. */
  verb: "commit" | "commit-base" | "rebase" | "flatten";
  death?: Death;
}

const story = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as ChainStory;
const { host, changes } = killingHost(story.death);
const engine = new Engine({
  host,
  kernels: loadKernels(),
  drivers: [...portableDrivers, file],
  gate: fileGate("local", host),
});

function image(name: string, readOnly: boolean): ReturnType<typeof openNodeIn> {
  const filename = join(story.directory, name);
  const spec = { driver: "qcow2", file: { driver: "file", filename }, discard: "unmap" } as const;
  return openNodeIn(engine, { ...spec, "read-only": readOnly });
}

const top = await image("top.qcow2", false);
if (story.verb === "commit") await commitOverlay(top);
else if (story.verb === "commit-base")
  await commitOverlay(top, { base: join(story.directory, "base.qcow2") });
else if (story.verb === "flatten") await rebase(top, null);
else {
  const other = await image("target.qcow2", true);
  await rebase(top, { filename: "target.qcow2", format: "qcow2", node: other });
  await other.close();
}
await top.close();
await engine.close();
process.stdout.write(String(changes()));
