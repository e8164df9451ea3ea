// What is counted of nodes and of guests' disks, by stats(), query-blockstats and metrics(). Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Engine,
  GuestDevice,
  type Node,
  backup,
  createEngine,
  engineCommands,
  metrics,
  openNode,
  stats,
} from "../../../src/browser.ts";
import { KiB, MiB, pattern } from "../support/graph.ts";

const SIZE = 4 * MiB;
const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: "" };

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 16 * MiB });
});

afterEach(async () => {
  await engine.close();
});

function disk(name: string): Promise<Node> {
  return openNode({ driver: "memory", size: SIZE, discard: "unmap", "node-name": name }, { engine });
}

interface Row {
  device?: string;
  "node-name": string;
  stats: Record<string, unknown>;
}

async function blockstats(queryNodes = false): Promise<Row[]> {
  const commands = engineCommands({ version, onQuit: () => undefined });
  const args = { "query-nodes": queryNodes };
  return (await commands.run("query-blockstats", args, { engine, afterReply: () => undefined })) as Row[];
}

/** A disk whose requests of a kind fail once. */
function failing(iotype: string, errno: number): Promise<Node> {
  const rule = { event: "none", iotype, errno, once: true } as never;
  const image = { driver: "memory", size: SIZE } as const;
  return openNode({ driver: "blkdebug", image, "node-name": "bad", "inject-error": [rule] }, { engine });
}

describe("a node", () => {
  it("counts what its users ask of it, each kind by itself", async () => {
    const node = await disk("n");
    await node.write(0, pattern(MiB, 1));
    await node.write(2 * MiB, pattern(KiB, 1));
    await node.read(0, 512);
    await node.writeZeroes(MiB, 64 * KiB);
    await node.discard(0, 128 * KiB);
    await node.flush();
    expect(stats(node)).toMatchObject({
      read: { operations: 1, bytes: 512, failed: 0, invalid: 0 },
      write: { operations: 3, bytes: MiB + KiB + 64 * KiB },
      unmap: { operations: 1, bytes: 128 * KiB },
      flush: { operations: 1, bytes: 0 },
      highestWrite: 2 * MiB + KiB,
    });
    const [row] = await blockstats(true);
    expect(row).toMatchObject({
      "node-name": "n",
      stats: {
        rd_bytes: 512,
        wr_operations: 3,
        unmap_bytes: 128 * KiB,
        flush_operations: 1,
        account_invalid: false,
      },
    });
    expect(row!.stats).not.toHaveProperty("idle_time_ns");
  });

  it("counts jobs, too, and a failed request as failed alone", async () => {
    const [source, target] = [await disk("source"), await failing("write", 5)];
    await source.write(0, pattern(MiB, 1));
    await (
      await backup(source, target, { onTargetError: "ignore" })
    ).done;
    expect(stats(source).read.bytes).toBeGreaterThanOrEqual(MiB);
    const { write } = stats(target);
    expect(write.failed).toBe(1);
    expect(write.bytes).toBeGreaterThanOrEqual(MiB);
  });

  it("does not count a discard that it does not honour", async () => {
    const node = await openNode({ driver: "memory", size: SIZE }, { engine });
    await node.discard(0, MiB);
    expect(stats(node).unmap).toMatchObject({ operations: 0, bytes: 0 });
  });
});

describe("a guest's disk", () => {
  async function guest(node: Node, more: object = {}): Promise<GuestDevice> {
    return GuestDevice.plug({ machine: engine.machine, name: "hda", node: node.blockNode, ...more });
  }

  it("counts its guest's requests, by QEMU's words", async () => {
    const device = await guest(await disk("n"));
    expect((await blockstats())[0]!.stats).not.toHaveProperty("idle_time_ns");
    await device.write(0, pattern(MiB, 1));
    await device.read(0, new Uint8Array(512));
    await device.read(4096, new Uint8Array(1024));
    await device.discard(0, 64 * KiB);
    await device.flush();
    const [row] = await blockstats();
    expect(row).toMatchObject({
      device: "hda",
      "node-name": "n",
      stats: {
        rd_bytes: 1536,
        rd_operations: 2,
        wr_bytes: MiB,
        wr_operations: 1,
        unmap_bytes: 64 * KiB,
        unmap_operations: 1,
        flush_operations: 1,
        wr_highest_offset: MiB,
        account_invalid: true,
        account_failed: true,
        timed_stats: [],
      },
    });
    expect(row!.stats["idle_time_ns"]).toBeGreaterThanOrEqual(0);
    for (const kind of ["rd", "wr", "flush", "unmap"])
      expect(Number.isSafeInteger(row!.stats[`${kind}_total_time_ns`])).toBe(true);
    await device.unplug();
  });

  it("counts what is outside of it as invalid, and what was reported as failed", async () => {
    const device = await guest(await failing("read", 5));
    await expect((async () => device.read(SIZE, new Uint8Array(512)))()).rejects.toThrow();
    await expect((async () => device.write(-512, new Uint8Array(512)))()).rejects.toThrow();
    await expect((async () => device.read(0, new Uint8Array(512)))()).rejects.toMatchObject({ code: "EIO" });
    await device.read(0, new Uint8Array(512));
    expect((await blockstats())[0]!.stats).toMatchObject({
      invalid_rd_operations: 1,
      invalid_wr_operations: 1,
      failed_rd_operations: 1,
      rd_operations: 1,
      rd_bytes: 512,
    });
    await device.unplug();
  });

  it("counts one that stopped the machine once, when it has its answer", async () => {
    const device = await guest(await failing("write", 28), { werror: "stop" });
    const writing = device.write(0, pattern(KiB, 1));
    await engine.graph.changes.until(() => engine.machine.state === "io-error");
    expect((await blockstats())[0]!.stats).toMatchObject({ wr_operations: 0, failed_wr_operations: 0 });
    await engine.machine.cont();
    await writing;
    expect((await blockstats())[0]!.stats).toMatchObject({
      wr_operations: 1,
      wr_bytes: KiB,
      failed_wr_operations: 0,
    });
    await device.unplug();
  });
});

describe("metrics()", () => {
  it("is OpenMetrics text: each family once with its type, samples under it, and an end", async () => {
    const node = await disk("n");
    const name = 'odd "name"\\n';
    const device = await GuestDevice.plug({ machine: engine.machine, name, node: node.blockNode });
    await device.write(0, pattern(MiB, 1));
    const text = metrics(engine);
    const lines = text.split("\n");
    expect(lines.slice(-2)).toEqual(["# EOF", ""]);
    expect(lines).toContain(
      'blockwright_node_bytes_total{node="n",driver="memory",operation="write"} 1048576',
    );
    expect(lines).toContain(
      'blockwright_device_operations_total{device="odd \\"name\\"\\\\n",operation="write"} 1',
    );
    let family = "";
    const seen = new Set<string>();
    for (const line of lines.slice(0, -2)) {
      const type = /^# TYPE (\S+) (counter|gauge)$/.exec(line);
      if (type) {
        family = type[1]!;
        expect(seen.has(family)).toBe(false);
        seen.add(family);
      } else if (!line.startsWith("# HELP ")) {
        expect(line).toMatch(/^[a-z_]+\{[a-z]+="[^\n]*"\} \d+(\.\d+)?(e-\d+)?$/);
        expect(line.startsWith(family)).toBe(true);
      }
    }
    await device.unplug();
  });

  it("tells of the jobs that run", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    await source.write(0, pattern(SIZE, 1));
    await using job = await backup(source, target, { jobId: "nightly", speedBytesPerSecond: 64 * KiB });
    expect(metrics(engine)).toMatch(
      /^blockwright_job_length_bytes\{job="nightly",type="backup",status="[a-z]+"\} \d+$/m,
    );
    expect(job.id).toBe("nightly");
  });
});
