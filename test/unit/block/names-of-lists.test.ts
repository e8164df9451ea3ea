// Names of what has lists of children, or memory that a caller lends; and which copies of a set may take another's place.
import { expect, it } from "vitest";
import { mayReplace } from "../../../src/block/model/chain.ts";
import { nodeFilename } from "../../../src/block/model/filename.ts";
import { quorum } from "../../../src/drivers/filter/quorum.ts";
import { MiB, TestGraph } from "../support/graph.ts";

async function bench(): Promise<TestGraph> {
  const made = new TestGraph();
  const { graph } = made;
  graph.register(quorum);
  await made.disk("a", MiB);
  await graph.add({ driver: "memory", "node-name": "b", buffer: new Uint8Array(MiB) });
  await made.disk("c", MiB);
  await graph.add({ driver: "quorum", "node-name": "q", "vote-threshold": 1, children: ["a", "b"] });
  return made;
}

it("children of a list are described in it; what has no name is left out", async () => {
  const { graph } = await bench();
  const name = nodeFilename(graph.node("q"));
  expect(name.startsWith("json:{")).toBe(true);
  expect(JSON.parse(name.slice("json:".length))).toEqual({
    driver: "quorum",
    "vote-threshold": 1,
    children: [{ driver: "memory", size: MiB }, { driver: "memory" }],
  });
});

it("a set shows what each of its copies holds, while nobody else looks at that", async () => {
  const made = await bench();
  const { graph } = made;
  const [q, a, c] = ["q", "a", "c"].map((name) => graph.node(name)) as [
    ReturnType<typeof graph.node>,
    ReturnType<typeof graph.node>,
    ReturnType<typeof graph.node>,
  ];
  expect([mayReplace(q, q), mayReplace(q, a), mayReplace(q, c), mayReplace(a, q)]).toEqual([
    ...[true, true, false, false],
  ]);
  const filter = await graph.add({ driver: "blkdebug", "node-name": "f", image: "c" });
  expect([mayReplace(filter, c), mayReplace(filter, a)]).toEqual([true, false]);
});

it("a length is asked of what lies below", async () => {
  const { graph } = await bench();
  await graph.add({ driver: "raw", "node-name": "r", file: "c" });
  expect(await graph.node("r").refreshLength()).toBe(MiB);
});
