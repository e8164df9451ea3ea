// A node that is being opened: its name is taken, but it is no node yet; and one that is still being opened when its graph
// closes is closed, too.
import { expect, test } from "vitest";
import { nodeFilename } from "../../../src/block/model/filename.ts";
import type { Gate } from "../../../src/block/model/gate.ts";
import { type DriverType, type NodeSpec, Role } from "../../../src/block/model/contract.ts";
import { deferred } from "../../../src/base/signals.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { memory } from "../../../src/drivers/protocol/memory.ts";
import { TestGraph } from "../support/graph.ts";

/** A graph with a driver that opens when it is told to, and tells of its closing. */
function slowGraph() {
  const gate = deferred<void>();
  const closed: string[] = [];
  const slow: DriverType = {
    name: "slow",
    kind: "protocol",
    open: async (context) => {
      await gate.promise;
      const driver = await memory.open(context, { driver: "memory", size: 512 });
      driver.close = () => Promise.resolve(void closed.push(context.node.name));
      return driver;
    },
  };
  const { graph } = new TestGraph();
  graph.register(slow);
  return { graph, open: () => gate.resolve(), closed };
}

test("it is in no list and found by nobody, but its name is taken", async () => {
  const { graph, open } = slowGraph();
  const opening = graph.add({ driver: "slow", "node-name": "n" });
  expect([graph.nodes, graph.findNode("n")]).toEqual([[], undefined]);
  expect(() => graph.node("n")).toThrow("Failed to find node with node-name='n'");
  expect(() => graph.lookup("n")).toThrow("Cannot find device='n' nor node-name='n'");
  await expect(graph.add({ driver: "memory", "node-name": "n", size: 512 })).rejects.toThrow(
    "Duplicate nodes",
  );
  open();
  const node = await opening;
  expect(graph.node("n")).toBe(node);
  await graph.close();
});

test("it goes again where the graph was closed meanwhile", async () => {
  const { graph, open, closed } = slowGraph();
  const opening = graph.add({ driver: "slow", "node-name": "n" });
  await graph.close();
  open();
  await expect(opening).rejects.toMatchObject({ code: "ESHUTDOWN" });
  expect([closed, graph.nodes]).toEqual([["n"], []]);
});

/** Opens `depth` layers over each other, each named by the one above: the topmost, and how often one was asked for that name. */
async function chainOf(depth: number): Promise<{ top: BlockNode; asked: number }> {
  let asked = 0;
  const layer: DriverType = {
    name: "layer",
    kind: "format",
    supportsBacking: true,
    open: async (context, spec) => {
      const driver = await memory.open(context, { driver: "memory", size: 512 });
      const file = await context.openChild(spec["file"] as NodeSpec, "file", Role.data | Role.metadata);
      const below = Number(file.node.spec["filename"]) - 1;
      const filename = (): string | undefined => ((asked += 1), below < 0 ? undefined : `${below}`);
      return Object.assign(driver, { headerBacking: { filename, format: () => "layer" } });
    },
  };
  const named: DriverType = {
    name: "named",
    kind: "protocol",
    open: (context) => memory.open(context, { driver: "memory", size: 512 }),
  };
  const spec = (name: string): NodeSpec => ({
    driver: "layer",
    file: { driver: "named", filename: name },
  });
  const gate: Gate = ({ name }) => Promise.resolve({ allow: spec(name) });
  const { graph } = new TestGraph();
  graph.register(layer, named);
  const top = await graph.open(spec(`${depth - 1}`), { gate });
  return { top, asked };
}

test("each image of a long chain is asked for its backing file's name as often as in a short one", async () => {
  const short = await chainOf(10);
  const long = await chainOf(100);
  expect(long.asked / 100).toBeLessThanOrEqual(short.asked / 10 + 1);
  let layers = 0;
  for (let at: BlockNode | undefined = long.top; at; at = at.backing?.node) {
    layers += 1;
    if (at.backing) expect(at.openedByHeader?.name).toBe(nodeFilename(at.backing.node));
  }
  expect(layers).toBe(100);
});
