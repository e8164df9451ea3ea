// Permissions: conflicts in QEMU's words, read-only nodes, and changes that are undone when they are refused.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { attachChild } from "../../../src/block/graph/edges.ts";
import type { ChildParent } from "../../../src/block/model/node.ts";
import { Role, type SharedStorage } from "../../../src/block/model/contract.ts";
import { Perm, defaultPermissions, permissionNames } from "../../../src/block/model/permissions.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { TestGraph } from "../support/graph.ts";
import { addProbe } from "../support/probe.ts";

const user = (name: string): ChildParent => ({
  describe: () => name,
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
});

/** Every edge of a graph with its permissions, for "nothing has changed". */
function picture(test: TestGraph): string[] {
  return test.graph.nodes.flatMap((node) =>
    [...node.parents].map(
      (edge) => `${edge.parent.describe()} -${edge.name}-> ${node.name} ${edge.perm}/${edge.shared}`,
    ),
  );
}

async function two(): Promise<{ test: TestGraph; disk: BlockNode; format: BlockNode }> {
  const test = new TestGraph();
  const disk = await test.disk("disk", 4096);
  const format = await test.graph.add({ driver: "raw", "node-name": "format", file: "disk" });
  return { test, disk, format };
}

test.each([
  [0, "none"],
  [Perm.write, "write"],
  [Perm.consistentRead | Perm.resize, "consistent read, resize"],
  [Perm.all, "consistent read, write, write unchanged, resize"],
])("the names of %d", (perm, names) => {
  expect(permissionNames(perm)).toBe(names);
});

describe("rules by role", () => {
  const some = { perm: Perm.consistentRead | Perm.write, shared: Perm.consistentRead | Perm.writeUnchanged };

  test("a filter passes on what it is asked for", () => {
    expect(defaultPermissions(some, Role.filtered | Role.primary, true)).toEqual(some);
  });

  test("a backing file is only read; others may write it only if the parent's users allow it", () => {
    expect(defaultPermissions(some, Role.cow, true)).toEqual({
      perm: Perm.consistentRead,
      shared: Perm.consistentRead | Perm.writeUnchanged,
    });
    expect(defaultPermissions({ perm: Perm.write, shared: Perm.all }, Role.cow, true)).toEqual({
      perm: 0,
      shared: Perm.all,
    });
  });

  test("a writable format always writes its metadata, and lets nobody else", () => {
    const { perm, shared } = defaultPermissions({ perm: 0, shared: Perm.all }, Role.image, true);
    expect(perm).toBe(Perm.consistentRead | Perm.write | Perm.resize);
    expect(shared & (Perm.write | Perm.resize)).toBe(0);
  });

  test("a read-only one does not write", () => {
    expect(defaultPermissions({ perm: Perm.consistentRead, shared: Perm.all }, Role.image, false).perm).toBe(
      Perm.consistentRead,
    );
  });
});

describe("conflicts", () => {
  test("two writers who do not share: named with both sides, and nothing changes", async () => {
    const { test, format } = await two();
    await test.graph.attach(user("job 'a'"), format, {
      name: "main node",
      perm: Perm.write,
      shared: Perm.consistentRead,
    });
    const before = picture(test);
    const second = test.graph.attach(user("job 'b'"), format, {
      name: "target",
      perm: Perm.write,
      shared: Perm.all,
    });
    await expect(second).rejects.toMatchObject({
      code: "EPERM",
      message:
        "Permission conflict on node 'format': permissions 'write' are both required by job 'b' (uses node " +
        "'format' as 'target' child) and unshared by job 'a' (uses node 'format' as 'main node' child).",
    });
    expect(picture(test)).toEqual(before);
  });

  test("one that shows only further down is found too, and undone everywhere", async () => {
    const { test, disk, format } = await two();
    await test.graph.attach(user("the reader"), disk, {
      name: "root",
      perm: Perm.consistentRead,
      shared: Perm.consistentRead,
    });
    const before = picture(test);
    const writer = test.graph.attach(user("the writer"), format, {
      name: "root",
      perm: Perm.write,
      shared: Perm.all,
    });
    await expect(writer).rejects.toThrow(
      /^Permission conflict on node 'disk': permissions 'write(, resize)?' are both required by node 'format' \(uses node 'disk' as 'file' child\) and unshared by the reader \(uses node 'disk' as 'root' child\)\.$/,
    );
    expect(picture(test)).toEqual(before);
  });

  test("what a user takes can be changed, or not", async () => {
    const { test, format } = await two();
    const edge = await test.edge(format, Perm.consistentRead);
    await test.graph.attach(user("another"), format, {
      name: "root",
      perm: Perm.consistentRead,
      shared: Perm.consistentRead,
    });
    const before = picture(test);
    const more = test.graph.setPermissions(edge, { perm: Perm.write, shared: Perm.all });
    await expect(more).rejects.toMatchObject({ code: "EPERM" });
    expect(picture(test)).toEqual(before);
    await test.graph.setPermissions(edge, { perm: 0, shared: Perm.all });
    expect(edge.perm).toBe(0);
  });

  test("writing without the permission is a programmer's error", async () => {
    const { test, format } = await two();
    const edge = await test.edge(format, Perm.consistentRead);
    expect(() => edge.pwrite(0, new Uint8Array(1))).toThrow("the test writes to 'format' without permission");
    const writer = await test.edge(format, Perm.write);
    expect(() => writer.pwrite(4096, new Uint8Array(1))).toThrow("without resize permission");
    expect(() => writer.truncate(0, { exact: true, preallocation: "off" })).toThrow("no resize permission");
  });
});

describe("nodes that cannot be written", () => {
  test("a read-only node refuses a writer", async () => {
    const test = new TestGraph();
    await test.graph.add({ driver: "memory", "node-name": "m", size: 512, "read-only": true });
    await expect(test.edge("m")).rejects.toMatchObject({ code: "EPERM", message: "Block node is read-only" });
    await test.edge("m", Perm.consistentRead);
  });

  test("one whose last block is short refuses a writer that may not grow it", async () => {
    const test = new TestGraph();
    await test.graph.add({ driver: "memory", "node-name": "m", size: 1536 });
    await test.graph.add({ driver: "blkdebug", "node-name": "d", image: "m", align: 1024 });
    await expect(test.edge("d")).rejects.toThrow(
      "Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment",
    );
    await test.edge("d", Perm.write | Perm.resize);
  });
});

describe("drivers are told", () => {
  test("of each change, and of the old state when one after them refuses", async () => {
    const test = new TestGraph();
    const one = await addProbe(test.graph, { "node-name": "one", size: 4096 });
    const two = await addProbe(test.graph, { "node-name": "two", size: 4096 });
    const told: string[] = [];
    let refuse = false;
    for (const { node, driver } of [one, two]) {
      const sharedStorage: SharedStorage = {
        identity: node.name,
        refreshLength: () => Promise.resolve(),
        setPermissions({ perm }) {
          if (refuse && node.name === "two" && perm !== 0)
            return Promise.reject(blockError("EAGAIN", "lock"));
          told.push(`${node.name} ${perm}`);
          return Promise.resolve();
        },
      };
      Object.assign(driver, { sharedStorage });
    }
    const filter = await test.graph.add({ driver: "raw", "node-name": "top", file: "one" });
    await attachChild({
      name: "extra",
      role: Role.data,
      parent: filter,
      node: two.node,
      perm: 0,
      shared: Perm.all,
    });
    refuse = true;
    told.length = 0;
    await expect(test.edge(filter, Perm.consistentRead | Perm.write)).rejects.toMatchObject({
      code: "EAGAIN",
    });
    expect(told.filter((line) => line.startsWith("one")).at(-1)).toBe("one 0");
    expect(filter.parents.size).toBe(0);
  });
});

test("a new layer of a chain asks only the storage that it concerns", async () => {
  const { graph } = new TestGraph();
  const told: string[] = [];
  let below: string | undefined;
  for (let layer = 0; layer < 20; layer++) {
    const name = `disk${layer}`;
    const { driver } = await addProbe(graph, { "node-name": name, size: 4096 });
    const sharedStorage: SharedStorage = {
      identity: name,
      refreshLength: () => Promise.resolve(),
      setPermissions: () => {
        told.push(name);
        return Promise.resolve();
      },
    };
    Object.assign(driver, { sharedStorage });
    told.length = 0;
    const over = await graph.add({ driver: "raw", "node-name": `raw${layer}`, file: name });
    if (below !== undefined)
      await attachChild({
        name: "extra",
        role: Role.data,
        parent: over,
        node: graph.node(below),
        perm: 0,
        shared: Perm.all,
      });
    below = `raw${layer}`;
    // Its own, and that of the layer below it, which has a parent now.
    const concerned = layer === 0 ? [name] : [`disk${layer - 1}`, name];
    expect([...new Set(told)].toSorted()).toEqual(concerned.toSorted());
  }
});

test("a filter goes while another user of its node goes, and neither is refused", async () => {
  const { graph } = new TestGraph();
  await addProbe(graph, { "node-name": "disk", size: 4096 });
  const disk = graph.node("disk");
  const alone = { perm: Perm.write, shared: Perm.consistentRead };
  await graph.attach(user("guest"), disk, { name: "root", ...alone });
  const filter = await graph.insertFilter({ driver: "blkdebug", image: "disk" }, disk);
  const reader = { perm: Perm.consistentRead, shared: Perm.all };
  const edge = await graph.attach(user("reader"), disk, { name: "reader", ...reader });
  await Promise.all([filter.end(), graph.detach(edge)]);
  expect([...disk.parents].map(({ name, perm, shared }) => ({ name, perm, shared }))).toEqual([
    { name: "root", ...alone },
  ]);
});

test("a filter that is taken out while the one above it goes too is closed when that returns", async () => {
  const { graph } = new TestGraph();
  await addProbe(graph, { "node-name": "disk", size: 4096 });
  const lower = await graph.insertFilter({ driver: "blkdebug", image: "disk" }, graph.node("disk"));
  const upper = await graph.insertFilter({ driver: "blkdebug", image: lower.node.name }, lower.node);
  const above = upper.end();
  await lower.end();
  expect(lower.node.closed).toBe(true);
  await above;
});
