// A program that writes to an image whose bitmap records, while another bitmap comes and goes, until it is killed. It prints `R`
// when the image is open and `C` when it begins to close it. Run with: image path, seed.
import { addBitmap, clearBitmap, removeBitmap } from "../../../src/block/bitmap/commands.ts";
import { settleBitmaps } from "../../../src/block/bitmap/persistence.ts";
import { BlockBackend } from "../../../src/block/graph/backend.ts";
import { BlockGraph } from "../../../src/block/graph/graph.ts";
import { findDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import { file } from "../../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";
import { randomness } from "../../support/random.ts";

const SECTOR = 512;

async function main(path: string, seed: number): Promise<void> {
  const random = randomness(seed);
  const graph = new BlockGraph({ host: nodeHost(), kernels: loadKernels({ arenaBytes: 2 ** 20 }) });
  graph.register(file, qcow2);
  const node = await graph.add({
    driver: "qcow2",
    "node-name": "disk",
    file: { driver: "file", filename: path },
  });
  const disk = new BlockBackend(graph);
  await disk.attach(node, { perm: Perm.consistentRead | Perm.write, shared: Perm.all });
  process.stdout.write("R\n");
  const sectors = disk.length / SECTOR;
  const write = async (lane: number): Promise<void> => {
    const count = 1 + random(60);
    const first = Math.floor((lane * sectors) / 4) + random(Math.floor(sectors / 4) - count);
    await disk.pwrite(first * SECTOR, new Uint8Array(count * SECTOR).fill(1 + random(255)));
  };
  for (let rounds = 5 + random(40); rounds > 0; rounds--) {
    await Promise.all([...[0, 1, 2, 3].map(write), other(graph, random(6))]);
    if (random(4) === 0) await disk.flush();
  }
  process.stdout.write("C\n");
  await disk.close();
  await graph.close();
}

/** Now and then the other bitmap changes, which stores all of them. */
async function other(graph: BlockGraph, luck: number): Promise<void> {
  const of = { node: "disk", name: "other" };
  const isThere = findDirtyBitmap(graph.node("disk"), of.name) !== undefined;
  if (!isThere && luck === 0) addBitmap(graph, { ...of, persistent: true });
  else if (isThere && luck === 1) removeBitmap(graph, of);
  else if (isThere && luck === 2) clearBitmap(graph, of);
  await settleBitmaps(graph.nodes);
}

await main(process.argv[2]!, Number(process.argv[3]));
