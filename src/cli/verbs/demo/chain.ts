/**
 * The demo's images: a filesystem in three states, each written into one more qcow2 image of a chain through the library,
 * so that an image holds what changed.
 */
import { join } from "node:path";
import { overlayFormat, plainFormat } from "../../../drivers/format/defaults.ts";
import { type Engine, type Node, createImage, openNode } from "../../../node.ts";
import { DISK_BYTES, makeFilesystem } from "./filesystem.ts";

const STEP = 1024 * 1024;
const CLUSTER = 65536;

/** base ← mid ← top, and what they hold. */
export interface DemoChain {
  top: string;
  kind: string;
  /** Bytes written into each image, from the lowest. */
  written: number[];
}

/** Makes the chain in `directory`. */
export async function makeChain(engine: Engine, directory: string, signal: AbortSignal): Promise<DemoChain> {
  const filesystem = makeFilesystem(directory);
  const written: number[] = [];
  let backing: string | undefined;
  for (const [round, name] of ["base", "mid", "top"].entries()) {
    if (round > 0) filesystem.change(round);
    const filename = join(directory, `${name}.qcow2`);
    const below =
      backing === undefined ? {} : ({ "backing-file": backing, "backing-fmt": overlayFormat } as const);
    const file = { driver: "file", filename } as const;
    await createImage({ driver: overlayFormat, file, size: DISK_BYTES, ...below }, { engine, signal });
    await using image = await openNode({ driver: overlayFormat, file }, { engine, signal });
    await using disk = await openNode(
      { driver: plainFormat, "read-only": true, file: { driver: "file", filename: filesystem.path } },
      { engine, signal },
    );
    written.push(await bringUpToDate(image, disk));
    backing = filename;
  }
  return { top: backing ?? "", kind: filesystem.kind, written };
}

/** Writes the clusters in which `image` differs from `disk`; returns their bytes. */
async function bringUpToDate(image: Node, disk: Node): Promise<number> {
  const { kernels } = image.engine.graph;
  const runs = new Uint32Array((2 * STEP) / CLUSTER);
  let written = 0;
  for (let at = 0; at < disk.length; at += STEP) {
    const bytes = Math.min(STEP, disk.length - at);
    const [now, wanted] = [await image.read(at, bytes), await disk.read(at, bytes)];
    const count = kernels.differenceRuns(now, wanted, CLUSTER, runs);
    for (let run = 0; run < count; run++) {
      const [offset, length] = [runs[2 * run]!, runs[2 * run + 1]!];
      await image.write(at + offset, wanted.subarray(offset, offset + length));
      written += length;
    }
  }
  await image.flush();
  return written;
}
