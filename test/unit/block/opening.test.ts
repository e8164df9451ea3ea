// A node that is being opened: its name is taken, but it is no node yet; and one that is still being opened when its graph
// closes is closed, too.
import { expect, test } from "vitest";
import { deferred } from "../../../src/base/signals.ts";
import type { DriverType } from "../../../src/block/model/contract.ts";
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
