// LUKS in virtual time: deriving keys takes what the virtual host says, so that its measurement ends, and settle() waits for it.
import { expect, it } from "vitest";
import { luks } from "../../../src/drivers/format/luks/index.ts";
import { TestGraph } from "../support/graph.ts";
import { ROUNDS_PER_MS } from "../support/virtual-host.ts";

it("derives keys in virtual time, with as many rounds as go into half of iter-time", async () => {
  const { graph, host } = new TestGraph();
  graph.register(luks);
  graph.secrets.set("s0", new TextEncoder().encode("abc"));
  await graph.add({ driver: "memory", "node-name": "file", size: 0 });
  const options = { size: 0, file: "file", "key-secret": "s0", "iter-time": 30 };
  await host.clock.settle(luks.create!({ graph, host }, options));
  const took = host.clock.nowMs();
  const node = await host.clock.settle(
    graph.add({ driver: "luks", "node-name": "volume", file: "file", "key-secret": "s0" }),
  );
  const { slots } = node.driver.formatSpecific!()!.data as { slots: { active: boolean; iters?: number }[] };
  expect(slots[0]).toMatchObject({ active: true, iters: 15 * ROUNDS_PER_MS });
  // Opening derives the slot's key, and by the fewest rounds the digest of what it holds.
  expect(host.clock.nowMs() - took).toBeCloseTo(15 + 1000 / ROUNDS_PER_MS);
});
