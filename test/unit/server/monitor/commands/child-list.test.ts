// x-blockdev-change: copies of a quorum that come and go, and what is refused.
import { describe, expect, test } from "vitest";
import { quorum } from "../../../../../src/drivers/filter/quorum.ts";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

async function copies(threshold = 1): Promise<Daemon> {
  const daemon = new Daemon({ instead: [quorum] });
  for (const name of ["a", "b", "c", "d"]) await daemon.disk(name);
  await daemon.run("blockdev-add", {
    ...{ driver: "quorum", "node-name": "q", "vote-threshold": threshold, children: ["a", "b"] },
  });
  return daemon;
}

function children(daemon: Daemon): string[] {
  return daemon.engine.graph.node("q").children.map(({ name, node }) => `${name} ${node.name}`);
}

test("copies are added under the next number, and the last number is given again", async () => {
  const daemon = await copies();
  await daemon.run("x-blockdev-change", { parent: "q", node: "c" });
  expect(children(daemon)).toEqual(["children.0 a", "children.1 b", "children.2 c"]);
  const guest = await daemon.guest("disk", "q");
  await guest.write(4096, new Uint8Array(512).fill(7));
  for (const name of ["a", "b", "c"]) {
    const bytes = new Uint8Array(512);
    await daemon.engine.graph.node(name).driver.pread(4096, bytes, 0);
    expect(bytes[0], name).toBe(7);
  }
  await daemon.run("x-blockdev-change", { parent: "q", child: "children.0" });
  await guest.write(4096, new Uint8Array(512).fill(8));
  const left = new Uint8Array(512);
  await daemon.engine.graph.node("a").driver.pread(4096, left, 0);
  expect(left[0]).toBe(7);
  await daemon.run("x-blockdev-change", { parent: "q", child: "children.2" });
  await daemon.run("x-blockdev-change", { parent: "q", node: "d" });
  expect(children(daemon)).toEqual(["children.1 b", "children.2 d"]);
});

describe("refused, and nothing has changed", () => {
  test.each([
    [{ parent: "q", child: "children.0", node: "c" }, "The parameters child and node are in conflict"],
    [{ parent: "q" }, "Either child or node must be specified"],
    [{ parent: "q", node: "nope" }, "Node 'nope' not found"],
    [{ parent: "q", child: "children.7" }, "Node 'q' does not have child 'children.7'"],
    [{ parent: "q", node: "a" }, "The node a already has a parent"],
    [{ parent: "c", node: "d" }, "The node c does not support adding a child"],
    [{ parent: "raw", child: "file" }, "The node raw does not support removing a child"],
    [{ parent: "q", node: "over" }, "Making 'over' a children.2 child of 'q' would create a cycle"],
    [
      { parent: "two", child: "children.0" },
      "The number of children cannot be lower than the vote threshold 2",
    ],
  ])("%j", async (args, message) => {
    const daemon = await copies();
    await daemon.run("blockdev-add", { driver: "raw", "node-name": "raw", file: "d" });
    await daemon.run("blockdev-add", { driver: "raw", "node-name": "over", file: "q" });
    for (const name of ["e", "f"]) await daemon.disk(name, MiB);
    await daemon.run("blockdev-add", {
      ...{ driver: "quorum", "node-name": "two", "vote-threshold": 2, children: ["e", "f"] },
    });
    await expect(daemon.run("x-blockdev-change", args)).rejects.toThrow(message);
    expect(children(daemon)).toEqual(["children.0 a", "children.1 b"]);
  });
});
