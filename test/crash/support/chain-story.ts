// rebase and commit over a chain of image files, as the tests of kills and of power cuts run them.
import { join } from "node:path";
import { commitOverlay } from "../../../src/api/commit.ts";
import { openNodeIn } from "../../../src/api/open.ts";
import { rebase } from "../../../src/api/rebase.ts";
import { fileGate } from "../../../src/block/model/gate.ts";
import type { Host } from "../../../src/base/host.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { file } from "../../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { Engine } from "../../../src/machine/engine.ts";

/** commit: into the backing file; commit-base: into the lowest image; rebase: over another chain; flatten: over none. */
export const chainVerbs = ["commit", "commit-base", "rebase", "flatten"] as const;

/** What is done to the chain in a directory. */
export interface ChainStory {
  directory: string;
  verb: (typeof chainVerbs)[number];
}

/** The images of each directory: a chain of three, and another backing file. */
export const chainImages = ["base.qcow2", "mid.qcow2", "top.qcow2", "target.qcow2"] as const;

/** Carries a story out on files of `host`. */
export async function carryOut({ directory, verb }: ChainStory, host: Host): Promise<void> {
  await using engine = new Engine({
    host,
    kernels: loadKernels({ arenaBytes: 2 ** 24 }),
    drivers: [...portableDrivers, file],
    gate: fileGate("local", host),
  });
  const image = (name: string, readOnly: boolean): ReturnType<typeof openNodeIn> => {
    const filename = join(directory, name);
    const spec = { driver: "qcow2", file: { driver: "file", filename }, discard: "unmap" } as const;
    return openNodeIn(engine, { ...spec, "read-only": readOnly });
  };
  const top = await image("top.qcow2", false);
  if (verb === "commit") await commitOverlay(top);
  else if (verb === "commit-base") await commitOverlay(top, { base: join(directory, "base.qcow2") });
  else if (verb === "flatten") await rebase(top, null);
  else {
    const other = await image("target.qcow2", true);
    await rebase(top, { filename: "target.qcow2", format: "qcow2", node: other });
    await other.close();
  }
  await top.close();
}
