// blockdev-reopen: other files below nodes, links that jobs hold, options that can't change, and children that were opened with their parent.
import { describe, expect, test } from "vitest";
import { blkverify } from "../../../../../src/drivers/filter/blkverify.ts";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

async function daemonWith(...names: string[]): Promise<Daemon> {
  const daemon = new Daemon();
  for (const name of names) await daemon.disk(name);
  return daemon;
}

function reopen(daemon: Daemon, ...options: Record<string, unknown>[]): Promise<unknown> {
  return daemon.run("blockdev-reopen", { options });
}

/** Something that a job takes long to copy. */
async function fill(daemon: Daemon, name: string): Promise<void> {
  const node = daemon.engine.graph.node(name);
  await node.driver.pwrite!(0, new Uint8Array(node.length).fill(7), 0);
}

const below = (daemon: Daemon, name: string): string | undefined =>
  daemon.engine.graph.node(name).file?.node.name;

describe("another file", () => {
  test("lies below from then on, as long as it is, also of a node that is read-only", async () => {
    const daemon = await daemonWith("m1");
    await daemon.disk("m2", 2 * MiB);
    const spec = { driver: "raw", "node-name": "r", file: "m1" };
    await daemon.run("blockdev-add", spec);
    await reopen(daemon, { ...spec, file: "m2" });
    expect([below(daemon, "r"), daemon.engine.graph.node("r").length]).toEqual(["m2", 2 * MiB]);
    await reopen(daemon, { ...spec, file: "m2", "read-only": true });
    await reopen(daemon, { ...spec, "read-only": true });
    expect([below(daemon, "r"), daemon.engine.graph.node("r").length]).toEqual(["m1", MiB]);
  });

  test("of two nodes at once: they change theirs", async () => {
    const daemon = await daemonWith("m1", "m2");
    const spec = (name: string, file: string) => ({ driver: "raw", "node-name": name, file });
    await daemon.run("blockdev-add", spec("one", "m1"));
    await daemon.run("blockdev-add", spec("two", "m2"));
    await reopen(daemon, spec("one", "m2"), spec("two", "m1"));
    expect([below(daemon, "one"), below(daemon, "two")]).toEqual(["m2", "m1"]);
  });

  test("takes the place of one that was opened with its parent", async () => {
    const daemon = await daemonWith("m2");
    const inline = { driver: "null-co", "node-name": "own", size: MiB };
    await daemon.run("blockdev-add", { driver: "raw", "node-name": "r", file: inline });
    await reopen(daemon, { driver: "raw", "node-name": "r", file: "own" });
    expect(below(daemon, "r")).toBe("own");
    await reopen(daemon, { driver: "raw", "node-name": "r", file: "m2" });
    expect(below(daemon, "r")).toBe("m2");
    expect(daemon.nodes).not.toContain("own");
  });
});

describe("refused", () => {
  test.each([
    [{ driver: "null-co", "node-name": "n" }, "Option 'size' cannot be reset to its default value"],
    [{ driver: "null-aio", "node-name": "n", size: MiB }, "Cannot change the option 'driver'"],
    [
      { driver: "raw", "node-name": "r", file: { driver: "null-co", size: MiB } },
      "Cannot change the option 'file.driver'",
    ],
    [
      { driver: "raw", "node-name": "r", file: "over" },
      "Making 'over' a file child of 'r' would create a cycle",
    ],
  ])("%j", async (options, message) => {
    const daemon = await daemonWith("m1");
    await daemon.run("blockdev-add", { driver: "null-co", "node-name": "n", size: MiB });
    await daemon.run("blockdev-add", { driver: "raw", "node-name": "r", file: "m1" });
    await daemon.run("blockdev-add", { driver: "raw", "node-name": "over", file: "r" });
    await expect(reopen(daemon, options)).rejects.toThrow(message);
    expect([below(daemon, "r"), below(daemon, "over")]).toEqual(["m1", "r"]);
  });

  test("a driver whose files stay as they were opened", async () => {
    const daemon = new Daemon({ instead: [blkverify] });
    for (const name of ["m1", "m2"]) await daemon.disk(name);
    const spec = { driver: "blkverify", "node-name": "v", test: "m1", raw: "m2" };
    await daemon.run("blockdev-add", spec);
    await expect(reopen(daemon, spec)).rejects.toThrow(
      "Block format 'blkverify' used by node 'v' does not support reopening files",
    );
  });

  test("a link that a job holds", async () => {
    const daemon = new Daemon();
    await daemon.image("base");
    await daemon.image("other");
    await daemon.image("top", MiB, "base");
    await fill(daemon, "base");
    await daemon.run("block-stream", { "job-id": "j", device: "top", speed: 1 });
    const top = { driver: "qcow2", "node-name": "top", file: "top-file" };
    await expect(reopen(daemon, { ...top, backing: "other" })).rejects.toThrow(
      "Cannot change frozen 'backing' link from 'top' to 'base'",
    );
  });

  test("a filter that a job put there", async () => {
    const daemon = new Daemon();
    for (const name of ["base", "other"]) await daemon.image(name);
    await daemon.image("mid", MiB, "base");
    await daemon.image("top", MiB, "mid");
    await fill(daemon, "mid");
    await daemon.run("block-commit", { "job-id": "j", device: "top", "top-node": "mid", speed: 1 });
    const top = { driver: "qcow2", "node-name": "top", file: "top-file" };
    await expect(reopen(daemon, { ...top, backing: "other" })).rejects.toThrow(
      "Cannot replace implicit backing child of top",
    );
    await reopen(daemon, { ...top, backing: "mid" });
  });
});
