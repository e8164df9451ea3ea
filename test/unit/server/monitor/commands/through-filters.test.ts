// Commits through filters between the images of a chain, and a filter of the job's that its user names.
import { expect, test } from "vitest";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

/** top → mid → cor (a filter) → base; mid has data. */
async function chain(): Promise<Daemon> {
  const daemon = new Daemon();
  await daemon.image("base");
  await daemon.run("blockdev-add", { driver: "copy-on-read", "node-name": "cor", file: "base" });
  await daemon.image("mid", MiB, "cor");
  await daemon.engine.graph.node("mid").driver.pwrite!(0, new Uint8Array(65_536).fill(7), 0);
  await daemon.image("top", MiB, "mid");
  return daemon;
}

async function commit(daemon: Daemon, more: Record<string, unknown>): Promise<void> {
  await daemon.run("block-commit", { "job-id": "j", device: "top", "top-node": "mid", ...more });
  await daemon.host.clock.settle(Promise.resolve(daemon.engine.jobs.find("j")?.done));
}

async function firstByte(daemon: Daemon, name: string): Promise<number> {
  const bytes = new Uint8Array(512);
  await daemon.engine.graph.node(name).driver.pread(0, bytes, 0);
  return bytes[0]!;
}

test("data go through the filter into the image below it, and the overlay is on that then", async () => {
  const daemon = await chain();
  await commit(daemon, { "base-node": "base", "filter-node-name": "mine" });
  const { graph } = daemon.engine;
  expect([await firstByte(daemon, "base"), await firstByte(daemon, "top")]).toEqual([7, 7]);
  expect(graph.node("top").backing?.node.name).toBe("base");
  expect(graph.findNode("mine")).toBeUndefined();
});

test("the base may be the filter itself, which stays", async () => {
  const daemon = await chain();
  await commit(daemon, { "base-node": "cor" });
  expect(await firstByte(daemon, "base")).toBe(7);
  expect(daemon.engine.graph.node("top").backing?.node.name).toBe("cor");
});
