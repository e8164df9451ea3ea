// The graph: names, opening and closing, moving edges under requests, freezes, and who may not be touched.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { freezeChain } from "../../../src/block/model/chain.ts";
import { type DriverType, Role } from "../../../src/block/model/contract.ts";
import { pwrite } from "../../../src/block/io/io.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import { mirrorTop } from "../../../src/job/mirror/top.ts";
import { clusterBytes, cow, makeImage } from "../job/cow-format.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { addProbe } from "../support/probe.ts";

const names = (test: TestGraph): string[] => test.graph.nodes.map((node) => node.name);

describe("names", () => {
  test.each([
    ["", "Invalid node-name: ''"],
    ["1a", "Invalid node-name: '1a'"],
    ["a/b", "Invalid node-name: 'a/b'"],
    ["#block000", "Invalid node-name: '#block000'"],
    ["x".repeat(32), "Node name too long"],
    ["taken", "Duplicate nodes with node-name='taken'"],
    ["dev", "node-name=dev is conflicting with a device id"],
  ])("'%s' is refused", async (name, message) => {
    const made = new TestGraph();
    await made.disk("taken", 512);
    new BlockBackend(made.graph, "dev");
    await expect(made.disk(name, 512)).rejects.toThrow(message);
    expect(names(made)).toEqual(["taken"]);
  });

  test("nodes without one get one; the monitor's must have one", async () => {
    const made = new TestGraph();
    const opened = await Promise.all(
      Array.from({ length: 50 }, () => made.graph.open({ driver: "memory", size: 1 })),
    );
    expect(new Set(opened.map((node) => node.name)).size).toBe(50);
    expect(opened.every((node) => /^#block\d{3,}$/.test(node.name))).toBe(true);
    await expect(made.graph.add({ driver: "memory" })).rejects.toThrow(
      "'node-name' must be specified for the root node",
    );
  });

  test("lookups", async () => {
    const made = new TestGraph();
    const disk = await made.disk("disk", 512);
    await new BlockBackend(made.graph, "dev").attach(disk, guestPermissions);
    expect(made.graph.lookup("dev")).toBe(disk);
    expect(made.graph.lookup("disk")).toBe(disk);
    expect(() => made.graph.lookup("x")).toThrow("Cannot find device='x' nor node-name='x'");
    expect(() => made.graph.node("x")).toThrow("Failed to find node with node-name='x'");
    expect(() => made.graph.driver("x")).toThrow("Unknown driver 'x'");
  });
});

describe("opening", () => {
  test.each([
    ["an unknown driver", { driver: "nope" }, "Unknown driver 'nope'"],
    ["an unknown child", { driver: "raw", file: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    ["no child", { driver: "raw" }, /file/],
    ["a bad option below", { driver: "raw", file: { driver: "memory", size: -1 } }, /size/],
    [
      "a bad option above",
      { driver: "raw", offset: 4096, file: { driver: "memory", size: 512 } },
      /offset|smaller|size/,
    ],
  ])("%s fails and leaves no node behind", async (_name, spec, message) => {
    const made = new TestGraph();
    await expect(made.graph.add({ ...spec, "node-name": "n" })).rejects.toThrow(message);
    expect(names(made)).toEqual([]);
    await made.disk("n", 512);
  });

  test("a driver that fails after it opened children closes those that it opened, and no others", async () => {
    const made = new TestGraph();
    const failing: DriverType = {
      name: "failing",
      kind: "format",
      async open(context, spec) {
        await context.openChild(spec["file"] as string, "file", Role.image);
        await context.openChild({ driver: "memory", "node-name": "inner", size: 1 }, "extra", Role.data);
        throw blockError("EINVAL", "open", "no such format");
      },
    };
    made.graph.register(failing);
    const disk = await made.disk("disk", 512);
    await expect(made.graph.add({ driver: "failing", "node-name": "f", file: "disk" })).rejects.toThrow(
      "no such format",
    );
    expect(names(made)).toEqual(["disk"]);
    expect(disk.parents.size).toBe(0);
  });

  test("a driver's name is taken once, and the same driver may come again", () => {
    const made = new TestGraph();
    const mine: DriverType = { name: "mine", kind: "format", open: () => Promise.reject(new Error("no")) };
    made.graph.register(mine);
    made.graph.register(mine);
    const others = ["mine", "raw"].map((name) => ({ ...mine, name }));
    for (const other of others)
      expect(() => made.graph.register(other)).toThrow(`Driver '${other.name}' is registered already`);
    expect(made.graph.driver("mine")).toBe(mine);
  });

  test("a node can't be its own child", async () => {
    const made = new TestGraph();
    await expect(made.graph.add({ driver: "raw", "node-name": "n", file: "n" })).rejects.toThrow(
      "Cannot find device='n' nor node-name='n'",
    );
    expect(names(made)).toEqual([]);
  });

  test("options pass from a format to the storage that it opens", async () => {
    const made = new TestGraph();
    const file = { driver: "memory", "node-name": "inner", size: 512 };
    await made.graph.add({
      driver: "raw",
      "node-name": "n",
      "read-only": true,
      cache: { direct: true },
      file,
    });
    expect(made.graph.node("inner").options).toMatchObject({
      readOnly: true,
      cacheDirect: true,
    });
  });

  test("backing: null and the empty name both mean none", async () => {
    const made = new TestGraph();
    made.graph.register(cow);
    for (const [name, backing] of [
      ["a", null],
      ["b", ""],
    ] as const) {
      makeImage(name, clusterBytes, "elsewhere");
      const node = await made.graph.add({ driver: "cow", "node-name": name, backing });
      expect(node.backing).toBeUndefined();
    }
  });

  test("a backing file that the header names is refused without a gate", async () => {
    const made = new TestGraph();
    made.graph.register(cow);
    makeImage("a", clusterBytes, "elsewhere");
    await expect(made.graph.add({ driver: "cow", "node-name": "a" })).rejects.toMatchObject({
      code: "EPERM",
      message:
        "Could not open backing file: the image's backing name 'elsewhere' was not opened: no gate allows it",
    });
    expect(names(made)).toEqual([]);
  });
});

describe("closing", () => {
  test("what only the node used goes with it, the rest stays", async () => {
    const made = new TestGraph();
    await made.disk("disk", 512);
    await made.graph.add({ driver: "raw", "node-name": "inner-raw", file: { driver: "memory", size: 512 } });
    await made.graph.add({ driver: "raw", "node-name": "outer", file: "disk" });
    await made.graph.remove("inner-raw");
    await made.graph.remove("outer");
    expect(names(made)).toEqual(["disk"]);
  });

  test("a failed flush is reported, and the node is gone all the same", async () => {
    const made = new TestGraph();
    const { node, driver } = await addProbe(made.graph, { "node-name": "n", size: 512 });
    await pwrite(node, 0, new Uint8Array(1));
    driver.before = ({ op }) => {
      if (op === "flush") throw blockError("EIO", op);
    };
    await expect(made.graph.remove("n")).rejects.toMatchObject({ code: "EIO" });
    expect(driver.take().at(-1)).toBe("close");
    expect(names(made)).toEqual([]);
  });

  test("a node is closed once, however many let it go", async () => {
    const made = new TestGraph();
    const { node, driver } = await addProbe(made.graph, { "node-name": "n", size: 512 });
    const edges = [await made.edge(node, Perm.consistentRead), await made.edge(node, Perm.consistentRead)];
    node.monitorOwned = false;
    let release = (): void => undefined;
    driver.before = () => new Promise<void>((resolve) => (release = resolve));
    const all = Promise.all([
      ...edges.map((edge) => made.graph.detach(edge)),
      made.graph.releaseIfUnused(node),
    ]);
    await made.host.clock.idle();
    release();
    await all;
    expect(driver.take()).toEqual(["close"]);
  });

  test("a node that is being closed is not taken up again", async () => {
    const made = new TestGraph();
    const { driver } = await addProbe(made.graph, { "node-name": "n", size: 512 });
    let release = (): void => undefined;
    driver.before = () => new Promise<void>((resolve) => (release = resolve));
    const removing = made.graph.remove("n");
    await made.host.clock.idle();
    await expect(made.graph.add({ driver: "raw", "node-name": "r", file: "n" })).rejects.toThrow("'n'");
    await expect(made.disk("n", 512)).rejects.toThrow("Duplicate nodes with node-name='n'");
    release();
    await removing;
    expect(names(made)).toEqual([]);
  });

  test("close() closes everything and reports the first error", async () => {
    const made = new TestGraph();
    const { node, driver } = await addProbe(made.graph, { "node-name": "n", size: 512 });
    await new BlockBackend(made.graph, "d0").attach(node, guestPermissions);
    await made.graph.add({ driver: "raw", "node-name": "other", file: { driver: "memory", size: 1 } });
    driver.before = ({ op }) => {
      if (op === "close") throw blockError("ENOSPC", op);
    };
    await expect(made.graph.close()).rejects.toMatchObject({ code: "ENOSPC" });
    expect([names(made), made.graph.backends.size]).toEqual([[], 0]);
  });
});

describe("blockdev-del refuses", () => {
  test("by reason", async () => {
    const made = new TestGraph();
    const disk = await made.disk("disk", 512);
    await made.graph.add({
      driver: "raw",
      "node-name": "top",
      file: { driver: "memory", "node-name": "in", size: 1 },
    });
    await expect(made.graph.remove("x")).rejects.toThrow("Failed to find node with node-name='x'");
    await expect(made.graph.remove("in")).rejects.toThrow("Node in is not owned by the monitor");
    const edge = await made.edge(disk);
    await expect(made.graph.remove("disk")).rejects.toThrow("Block device disk is in use");
    await made.graph.detach(edge);
    const backend = new BlockBackend(made.graph);
    await backend.attach(disk, guestPermissions);
    await expect(made.graph.remove("disk")).rejects.toThrow("Node disk is in use");
    await backend.close();
    await made.graph.remove("disk");
  });

  test("a job's nodes, in its words", async () => {
    const made = new TestGraph();
    made.graph.register(mirrorTop);
    await made.disk("src", MiB);
    await made.disk("dst", MiB);
    const job = await startMirror(made.graph, {
      "job-id": "j",
      device: "src",
      target: "dst",
      sync: "full",
      "filter-node-name": "flt",
    });
    const busy = "is busy: block device is in use by block job: mirror";
    await expect(made.graph.remove("flt")).rejects.toThrow(`Node 'flt' ${busy}`);
    await expect(made.graph.remove("src")).rejects.toThrow(`Node 'src' ${busy}`);
    await expect(made.graph.remove("dst")).rejects.toThrow("Node dst is in use");
    await job.cancel();
    await made.host.clock.settle(job.done.catch(() => undefined));
    await made.graph.remove("src");
    await made.graph.remove("dst");
    expect(names(made)).toEqual([]);
  });
});

describe("moving edges", () => {
  /** A backend that writes without a pause, until told to stop. */
  function writer(made: TestGraph, backend: BlockBackend): { stop: () => Promise<number> } {
    let on = true;
    let count = 0;
    const run = async (): Promise<number> => {
      while (on) {
        await backend.pwrite((count % 8) * 512, new Uint8Array(512).fill((count % 255) + 1));
        count += 1;
        if (count % 16 === 0) await made.host.clock.turn();
      }
      return count;
    };
    const running = run();
    return {
      stop: () => {
        on = false;
        return running;
      },
    };
  }

  test("filters come and go under requests, and no request is lost", async () => {
    const made = new TestGraph();
    const { node, driver } = await addProbe(made.graph, { "node-name": "n", size: MiB });
    driver.before = () => Promise.resolve();
    const backend = new BlockBackend(made.graph, "d0");
    await backend.attach(node, guestPermissions);
    const { stop } = writer(made, backend);
    for (let i = 0; i < 10; i++) {
      await made.host.clock.turn();
      const filter = await made.graph.insertFilter(
        { driver: "blkdebug", image: "n", "node-name": `f${i}` },
        node,
      );
      expect(backend.node).toBe(filter.node);
      await made.host.clock.turn();
      await filter.end();
      expect(backend.node).toBe(node);
    }
    const count = await stop();
    expect(count).toBeGreaterThan(20);
    expect(driver.take().filter((call) => call.startsWith("pwrite"))).toHaveLength(count);
    expect(names(made)).toEqual(["n"]);
    expect(node.parents.size).toBe(1);
  });

  test("a node takes another's place under requests", async () => {
    const made = new TestGraph();
    const one = await addProbe(made.graph, { "node-name": "one", size: MiB });
    const two = await addProbe(made.graph, { "node-name": "two", size: MiB });
    const backend = new BlockBackend(made.graph, "d0");
    await backend.attach(one.node, guestPermissions);
    const { stop } = writer(made, backend);
    await made.host.clock.turn();
    await made.graph.replace(one.node, two.node);
    const before = one.driver.calls.length;
    await made.host.clock.turn();
    await stop();
    expect(one.driver.calls.length).toBe(before);
    expect(two.driver.calls.length).toBeGreaterThan(0);
    expect(names(made)).toEqual(["two", "one"]);
  });

  test("a filter that is refused leaves everything as it was", async () => {
    const made = new TestGraph();
    const disk = await made.disk("disk", 512);
    const backend = new BlockBackend(made.graph, "d0");
    await backend.attach(disk, guestPermissions);
    const spec = { driver: "blkdebug", image: "disk", "node-name": "f", "unshare-child-perms": ["write"] };
    await made.edge(disk, Perm.write).catch(() => undefined);
    await expect(
      made.graph.insertFilter({ ...spec, "take-child-perms": ["write"] }, disk),
    ).rejects.toMatchObject({ code: "EPERM" });
    expect([names(made), backend.node, disk.quiesceCounter]).toEqual([["disk"], disk, 0]);
    await backend.pwrite(0, new Uint8Array(1));
  });

  test("replacing a node by one above it keeps that one's own edge", async () => {
    const made = new TestGraph();
    const disk = await made.disk("disk", 512);
    const edge = await made.edge(disk, Perm.consistentRead);
    const above = await made.graph.add({ driver: "raw", "node-name": "above", file: "disk" });
    await made.graph.replace(disk, above);
    expect([edge.node, above.file?.node]).toEqual([above, disk]);
  });

  test("a longer node makes its users longer", async () => {
    const made = new TestGraph();
    const short = await made.disk("short", 512);
    const long = await made.disk("long", 4096);
    const raw = await made.graph.add({ driver: "raw", "node-name": "raw", file: "short" });
    const edge = await made.edge(raw, Perm.consistentRead);
    await made.graph.replace(short, long);
    expect(edge.length).toBe(4096);
  });
});

describe("frozen links", () => {
  async function chain(): Promise<TestGraph> {
    const made = new TestGraph();
    made.graph.register(cow);
    for (const [name, backing] of [
      ["base", null],
      ["mid", "base"],
      ["top", "mid"],
    ] as const) {
      makeImage(name, clusterBytes);
      await made.graph.add({ driver: "cow", "node-name": name, backing });
    }
    return made;
  }

  test("may not be moved, removed or frozen again until they are given back", async () => {
    const { graph } = await chain();
    const top = graph.node("top");
    const mid = graph.node("mid");
    const base = graph.node("base");
    const frozen = freezeChain(top, base);
    expect(() => freezeChain(mid, base)).toThrow("Cannot change 'backing' link from 'mid' to 'base'");
    await expect(graph.setBacking(top, base, Role.cow)).rejects.toThrow(
      "Cannot change 'backing' link to 'mid'",
    );
    await expect(graph.setBacking(top, null, Role.cow)).rejects.toThrow();
    expect(top.backing?.node).toBe(mid);
    expect(top.quiesceCounter).toBe(0);
    await frozen.end();
    await graph.setBacking(top, base, Role.cow);
    expect(top.backing?.node).toBe(base);
    expect(mid.blockedBy("resize")).toBeUndefined();
  });

  test("a backing file is blocked for what would change it", async () => {
    const { graph } = await chain();
    const mid = graph.node("mid");
    expect(() => mid.checkBlocked("external-snapshot")).toThrow(
      "Node 'mid' is busy: node is used as backing hd of 'top'",
    );
    mid.checkBlocked("commit-target");
    mid.checkBlocked("stream");
  });
});

describe("read-only switches", () => {
  test("down to the storage that the node opened itself, and back", async () => {
    const made = new TestGraph();
    const inner = { driver: "memory", "node-name": "in", size: 512 };
    const node = await made.graph.add({ driver: "raw", "node-name": "n", file: inner });
    await made.graph.setReadOnly(node, true);
    expect([node.readOnly, made.graph.node("in").readOnly]).toEqual([true, true]);
    await expect(made.edge(node)).rejects.toThrow("Block node is read-only");
    await made.graph.setReadOnly(node, false);
    await made.edge(node);
    expect(made.graph.node("in").readOnly).toBe(false);
    await expect(made.graph.setReadOnly(node, true)).rejects.toMatchObject({ code: "EBUSY" });
    expect(node.readOnly).toBe(false);
  });

  test("what is written is flushed before", async () => {
    const made = new TestGraph();
    const { node, driver } = await addProbe(made.graph, { "node-name": "n", size: 512 });
    await pwrite(node, 0, new Uint8Array(1));
    await made.graph.setReadOnly(node, true);
    expect(driver.take()).toEqual(["pwrite 0+1", "flush"]);
  });

  test("a refusal below undoes the whole", async () => {
    const made = new TestGraph();
    const inner = { driver: "memory", "node-name": "in", size: 512 };
    const node = await made.graph.add({ driver: "raw", "node-name": "n", "read-only": true, file: inner });
    const driver = node.driver;
    driver.setReadOnly = (readOnly) =>
      readOnly ? Promise.resolve() : Promise.reject(blockError("EACCES", "open"));
    await expect(made.graph.setReadOnly(node, false)).rejects.toMatchObject({ code: "EACCES" });
    expect([node.readOnly, made.graph.node("in").readOnly]).toEqual([true, true]);
    await expect(made.edge(node)).rejects.toThrow("Block node is read-only");
  });
});
