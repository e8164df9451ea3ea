// The transaction command: all or nothing, whatever the action that fails.
import { describe, expect, test } from "vitest";
import type { DriverType } from "../../../../../src/block/model/contract.ts";
import { findDirtyBitmap } from "../../../../../src/block/model/dirty-bitmap.ts";
import { Daemon } from "./daemon.ts";

const action = (type: string, data: Record<string, unknown> = {}): Record<string, unknown> => ({
  type,
  data,
});
const abort = action("abort");

async function bench(): Promise<Daemon> {
  const daemon = new Daemon();
  await daemon.image("n");
  await daemon.image("m");
  await daemon.run("block-dirty-bitmap-add", { node: "n", name: "old", granularity: 65536 });
  findDirtyBitmap(daemon.engine.graph.node("n"), "old")!.bitmap.set(0, 1);
  return daemon;
}

/** Everything that an action may change. */
function picture(daemon: Daemon): unknown {
  return daemon.engine.graph.nodes.map((node) => ({
    name: node.name,
    backing: node.backing?.node.name,
    parents: [...node.parents].map(
      (edge) => `${edge.parent.describe()} ${edge.name} ${edge.perm}/${edge.shared}`,
    ),
    bitmaps: node.dirtyBitmaps.map((bitmap) => [bitmap.name, bitmap.dirtyBytes, bitmap.enabled, bitmap.busy]),
    quiesced: node.quiesceCounter,
  }));
}

const bitmap = (name: string): Record<string, unknown> => ({ node: "n", name });

describe("an aborted transaction leaves nothing", () => {
  test.each([
    ["block-dirty-bitmap-add", bitmap("new")],
    ["block-dirty-bitmap-clear", bitmap("old")],
    ["block-dirty-bitmap-disable", bitmap("old")],
    ["block-dirty-bitmap-enable", bitmap("old")],
    ["block-dirty-bitmap-remove", bitmap("old")],
    ["block-dirty-bitmap-merge", { node: "n", target: "old", bitmaps: ["old"] }],
    ["blockdev-snapshot", { node: "n", overlay: "m" }],
    ["blockdev-backup", { "job-id": "j", device: "n", target: "m", sync: "full" }],
  ])("%s", async (type, data) => {
    const daemon = await bench();
    const guest = await daemon.guest("d0", "n");
    const before = picture(daemon);
    await expect(daemon.run("transaction", { actions: [action(type, data), abort] })).rejects.toThrow(
      "Transaction aborted using Abort action",
    );
    expect(picture(daemon)).toEqual(before);
    expect(await daemon.run("query-jobs")).toEqual([]);
    await guest.write(0, new Uint8Array(512));
  });

  test("actions are undone in reverse", async () => {
    const daemon = await bench();
    const before = picture(daemon);
    const actions = [
      action("block-dirty-bitmap-clear", bitmap("old")),
      action("block-dirty-bitmap-add", { ...bitmap("new"), granularity: 65536 }),
      action("block-dirty-bitmap-merge", { node: "n", target: "new", bitmaps: ["old"] }),
      action("block-dirty-bitmap-disable", bitmap("new")),
      action("block-dirty-bitmap-remove", bitmap("missing")),
    ];
    await expect(daemon.run("transaction", { actions })).rejects.toThrow("Dirty bitmap 'missing' not found");
    expect(picture(daemon)).toEqual(before);
  });
});

describe("a transaction that succeeds", () => {
  test("merges into a bitmap that it adds, and removes another", async () => {
    const daemon = await bench();
    await daemon.run("transaction", {
      actions: [
        action("block-dirty-bitmap-add", { ...bitmap("new"), granularity: 65536, disabled: true }),
        action("block-dirty-bitmap-merge", { node: "n", target: "new", bitmaps: ["old"] }),
        action("block-dirty-bitmap-remove", bitmap("old")),
      ],
    });
    const node = daemon.engine.graph.node("n");
    expect(node.dirtyBitmaps.map(({ name, dirtyBytes, enabled }) => [name, dirtyBytes, enabled])).toEqual([
      ["new", 65536, false],
    ]);
  });

  test("puts an overlay on top of what a guest uses", async () => {
    const daemon = await bench();
    const guest = await daemon.guest("d0", "n");
    await guest.write(0, new Uint8Array(512).fill(5));
    await daemon.run("transaction", { actions: [action("blockdev-snapshot", { node: "n", overlay: "m" })] });
    expect(guest.backend.node?.name).toBe("m");
    const buffer = new Uint8Array(512);
    await guest.read(0, buffer);
    expect(buffer[0]).toBe(5);
    await guest.write(0, buffer.fill(6));
    const below = new Uint8Array(1);
    await daemon.engine.graph.node("n").driver.pread(0, below, 0);
    expect(below[0]).toBe(5);
  });

  test("grouped backups end together: one that fails cancels the other", async () => {
    const daemon = await bench();
    await daemon.disk("to-m");
    const faults = [{ event: "none", iotype: "write", errno: 28 }];
    await daemon.disk("to-n-disk");
    await daemon.engine.graph.add({
      driver: "blkdebug",
      "node-name": "to-n",
      image: "to-n-disk",
      "inject-error": faults,
    });
    for (const name of ["n", "m"]) {
      const node = daemon.engine.graph.node(name);
      await node.driver.pwrite!(0, new Uint8Array(65536).fill(1), 0);
    }
    const backup = (name: string): Record<string, unknown> =>
      action("blockdev-backup", {
        "job-id": `j-${name}`,
        device: name,
        target: `to-${name}`,
        sync: "full",
        "auto-dismiss": false,
      });
    await daemon.run("transaction", {
      actions: [backup("n"), backup("m")],
      properties: { "completion-mode": "grouped" },
    });
    for (let i = 0; i < 20; i++) await daemon.host.clock.step();
    expect(await daemon.run("query-jobs")).toMatchObject([
      { id: "j-m", status: "concluded", error: "Operation canceled" },
      { id: "j-n", status: "concluded", error: "No space left on device" },
    ]);
  });

  test("of no actions at all", async () => {
    await (await bench()).run("transaction", { actions: [] });
  });
});

test("a guest that writes meanwhile loses nothing with what is undone", async () => {
  const daemon = await bench();
  const guest = await daemon.guest("d0", "n");
  await daemon.run("block-dirty-bitmap-clear", bitmap("old"));
  let failed = false;
  const actions = [
    action("block-dirty-bitmap-disable", bitmap("old")),
    action("blockdev-snapshot", { node: "d0", overlay: "m" }),
    action("abort"),
  ];
  const running = daemon.run("transaction", { actions }).catch(() => (failed = true));
  const writes: Promise<void>[] = [];
  for (let i = 0; i < 12; i++) {
    writes.push(Promise.resolve(guest.write(i * 65536, new Uint8Array(512).fill(i + 1))));
    await Promise.resolve();
  }
  await running;
  await Promise.all(writes);
  expect([failed, guest.backend.node?.name]).toEqual([true, "n"]);
  const buffer = new Uint8Array(512);
  for (let i = 0; i < 12; i++) {
    await guest.read(i * 65536, buffer);
    expect(buffer[0]).toBe(i + 1);
  }
  expect(findDirtyBitmap(daemon.engine.graph.node("n"), "old")!.dirtyBytes).toBe(12 * 65536);
});

test("a disk that does not answer, and that no action concerns, holds nothing up", async () => {
  const daemon = await bench();
  const type: DriverType = {
    name: "stuck",
    kind: "protocol",
    open: () =>
      Promise.resolve({
        length: () => 1 << 20,
        pread: () => new Promise<never>(() => undefined),
      }),
  };
  daemon.engine.graph.register(type);
  await daemon.engine.graph.add({ driver: "stuck", "node-name": "stuck" });
  const guest = await daemon.guest("d1", "stuck");
  void guest.read(0, new Uint8Array(512));
  const actions = [
    action("block-dirty-bitmap-clear", bitmap("old")),
    action("blockdev-snapshot", { node: "n", overlay: "m" }),
    action("blockdev-backup", { "job-id": "j", device: "m", target: "k", sync: "none" }),
  ];
  await daemon.image("k");
  expect(await daemon.run("transaction", { actions })).toEqual({});
  expect(daemon.engine.graph.node("m").backing?.node.name).toBe("n");
  expect(daemon.engine.graph.nodes.every(({ quiesceCounter }) => quiesceCounter === 0)).toBe(true);
});
