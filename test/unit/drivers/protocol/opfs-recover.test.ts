// A disk in the private file system after a failed flush: its writes fail until it is recovered, by what recovers all storage
// below a node; requests that come meanwhile wait, and what was accepted survives a power cut.
import { describe, expect, test } from "vitest";
import type { Host } from "../../../../src/base/host.ts";
import { BlockGraph } from "../../../../src/block/graph/graph.ts";
import { recoverStorage } from "../../../../src/block/graph/recover.ts";
import { opfs } from "../../../../src/drivers/protocol/opfs/index.ts";
import { loadKernels } from "../../../../src/kernels/load.ts";
import { KiB, MiB, same } from "../../support/graph.ts";
import { ModelStorage } from "../../support/private-directory.ts";
import { VirtualHost } from "../../support/virtual-host.ts";

const CLUSTER = 64 * KiB;

function graphOver(storage: ModelStorage): BlockGraph {
  const host: Host = Object.assign(new VirtualHost(), { privateStorage: storage });
  const graph = new BlockGraph({ host, kernels: loadKernels({ arenaBytes: MiB }) });
  graph.register(opfs);
  return graph;
}

describe.each(["strict", "interval"])("under durability %s", (durability) => {
  const spec = { driver: "opfs", "node-name": "disk", filename: "disk", durability };

  async function make(): Promise<{ storage: ModelStorage; graph: BlockGraph }> {
    const storage = new ModelStorage();
    const graph = graphOver(storage);
    await opfs.create!({ graph, host: graph.host }, { filename: "disk", size: MiB });
    await graph.add(spec);
    return { storage, graph };
  }

  test("all flushes fail until it is recovered, and nothing that was written is lost", async () => {
    const { storage, graph } = await make();
    const node = graph.node("disk");
    const { driver } = node;
    const write = async (at: number, value: number): Promise<void> => {
      await driver.pwrite!(at * CLUSTER, new Uint8Array(CLUSTER).fill(value), 0);
      await driver.flush!();
    };
    await write(0, 1);
    storage.failingFlush = "data";
    await expect(write(1, 2)).rejects.toMatchObject({ code: "EIO" });
    await expect(write(0, 3)).rejects.toMatchObject({ code: "EIO" });
    const recovered = recoverStorage(node);
    const read = new Uint8Array(CLUSTER);
    const [written, looked] = [write(2, 4), driver.pread(CLUSTER, read, 0)];
    const discarded = driver.pdiscard!(9 * CLUSTER, CLUSTER);
    expect(await recovered).toBe(true);
    await written;
    await looked;
    await discarded;
    expect(same(read, new Uint8Array(CLUSTER).fill(2))).toBe(true);
    expect(await recoverStorage(node)).toBe(false);

    const after = graphOver(storage.cut(() => false));
    await after.add(spec);
    for (const [at, value] of [
      [0, 3],
      [1, 2],
      [2, 4],
    ] as const) {
      await after.node("disk").driver.pread(at * CLUSTER, read, 0);
      expect(
        read.every((byte) => byte === value),
        `cluster ${at}`,
      ).toBe(true);
    }
  });

  test("what can't be recovered says why, and goes on failing", async () => {
    const { storage, graph } = await make();
    const { driver } = graph.node("disk");
    await driver.pwrite!(0, new Uint8Array(CLUSTER), 0);
    await driver.flush!();
    storage.failingFlush = "map";
    const change = async (): Promise<void> => {
      await driver.pwrite!(CLUSTER, new Uint8Array(CLUSTER), 0);
      await driver.flush!();
    };
    await expect(change()).rejects.toMatchObject({ code: "EIO" });
    storage.failingFlush = "data";
    await expect(driver.recover!()).rejects.toMatchObject({ code: "EIO", node: "disk" });
    await expect(change()).rejects.toMatchObject({ code: "EIO" });
    expect(await driver.recover!()).toBe(true);
    await change();
  });
});
