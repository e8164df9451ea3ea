// Overlays that are put on a node by name, and formats and nodes that can be none.
import { expect, test } from "vitest";
import { Daemon } from "./daemon.ts";

test("a filter is no overlay", async () => {
  const daemon = new Daemon();
  await daemon.image("n");
  await daemon.image("o");
  await daemon.run("blockdev-add", { driver: "copy-on-read", "node-name": "cor", file: "o" });
  const overlay = daemon.run("blockdev-snapshot", { node: "n", overlay: "cor" });
  await expect(overlay).rejects.toThrow("Filters cannot be used as overlays");
});

test.each([
  [{ format: "frob" }, "Unknown file format 'frob'"],
  [{ format: "raw" }, "Backing file not supported for file format 'raw'"],
  [{ "snapshot-node-name": "n" }, "New overlay node-name already in use"],
  [{ "snapshot-node-name": undefined }, "New overlay node-name missing"],
  [{ "snapshot-file": "frob:x" }, "Unknown protocol 'frob'"],
])("%j is refused", async (args, message) => {
  const daemon = new Daemon();
  await daemon.image("n");
  const whole = { "node-name": "n", "snapshot-node-name": "s", "snapshot-file": "s.qcow2", ...args };
  await expect(daemon.run("blockdev-snapshot-sync", whole)).rejects.toThrow(message);
  expect(daemon.engine.graph.node("n").parents.size).toBe(0);
});

test("over an image that is read-only nothing of it is flushed, and it stays so", async () => {
  const daemon = new Daemon();
  await daemon.image("n");
  await daemon.image("o");
  await daemon.run("blockdev-reopen", {
    options: [{ driver: "qcow2", "node-name": "n", file: "n-file", "read-only": true }],
  });
  await daemon.run("blockdev-snapshot", { node: "n", overlay: "o" });
  const { graph } = daemon.engine;
  expect([graph.node("o").backing?.node.name, graph.node("n").readOnly]).toEqual(["n", true]);
});
