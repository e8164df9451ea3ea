// A program that writes a seeded story into a qcow2 image until it is killed. It prints `F n` when everything up to
// operation n has been flushed. Run with: image path, seed.
import { BlockBackend } from "../../../src/block/graph/backend.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { BlockGraph } from "../../../src/block/graph/graph.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import { file } from "../../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";
import { DISK_SECTORS, type Operation, SECTOR, story } from "./story.ts";

async function apply(disk: BlockBackend, operation: Operation, number: number): Promise<void> {
  const offset = operation.sector * SECTOR;
  const bytes = operation.count * SECTOR;
  if (operation.kind === "zero") return disk.pwriteZeroes(offset, bytes, Req.mayUnmap);
  if (operation.kind === "discard") return disk.pdiscard(offset, bytes);
  const data = new Uint8Array(bytes);
  new Uint32Array(data.buffer).fill(number);
  return disk.pwrite(offset, data);
}

async function main(path: string, seed: number): Promise<void> {
  const graph = new BlockGraph({ host: nodeHost(), kernels: loadKernels({ arenaBytes: 2 ** 20 }) });
  graph.register(file, qcow2);
  const spec = { driver: "qcow2", "node-name": "disk", discard: "unmap" as const, "cache-size": 2 ** 17 };
  const node = await graph.add({ ...spec, file: { driver: "file", filename: path } });
  const disk = new BlockBackend(graph);
  await disk.attach(node, { perm: Perm.consistentRead | Perm.write, shared: Perm.all });
  if (disk.length !== DISK_SECTORS * SECTOR) throw new Error("the disk has another size");
  process.stdout.write("F 0\n");
  let number = 1;
  for (const volley of story(seed)) {
    const first = number;
    number += volley.operations.length;
    await Promise.all(volley.operations.map((operation, index) => apply(disk, operation, first + index)));
    if (!volley.flush) continue;
    await disk.flush();
    process.stdout.write(`F ${number - 1}\n`);
  }
  await disk.close();
  await graph.close();
  process.stdout.write("closed\n");
}

await main(process.argv[2]!, Number(process.argv[3]));
