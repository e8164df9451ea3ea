// blockdev-snapshot-internal-sync and -delete-internal-sync, alone and in a transaction. The refusals are what
// qemu-storage-daemon 7.2 answered.
import { expect, test } from "vitest";
import { Daemon } from "./daemon.ts";

async function daemonWithImage(): Promise<Daemon> {
  const daemon = new Daemon();
  await daemon.image("q");
  await daemon.disk("n");
  return daemon;
}

async function names(daemon: Daemon): Promise<string[]> {
  const nodes = (await daemon.run("query-named-block-nodes", { flat: true })) as {
    "node-name": string;
    image: { snapshots?: { name: string }[] };
  }[];
  const node = nodes.find((one) => one["node-name"] === "q")!;
  return (node.image.snapshots ?? []).map(({ name }) => name);
}

test("a snapshot is made, shown and deleted by id or name", async () => {
  const daemon = await daemonWithImage();
  for (const name of ["one", "two"]) {
    expect(await daemon.run("blockdev-snapshot-internal-sync", { device: "q", name })).toEqual({});
  }
  expect(await names(daemon)).toEqual(["one", "two"]);
  const gone = await daemon.run("blockdev-snapshot-delete-internal-sync", { device: "q", id: "1" });
  expect(gone).toMatchObject({ id: "1", name: "one", "vm-state-size": 0, "vm-clock-sec": 0 });
  await daemon.run("blockdev-snapshot-delete-internal-sync", { device: "q", name: "two" });
  expect(await names(daemon)).toEqual([]);
});

test("a transaction that fails takes its snapshot back", async () => {
  const daemon = await daemonWithImage();
  const action = { type: "blockdev-snapshot-internal-sync", data: { device: "q", name: "one" } };
  const failing = daemon.run("transaction", { actions: [action, { type: "abort", data: {} }] });
  await expect(failing).rejects.toThrow("Transaction aborted using Abort action");
  expect(await names(daemon)).toEqual([]);
  await daemon.run("transaction", { actions: [action] });
  expect(await names(daemon)).toEqual(["one"]);
});

const CREATE = "blockdev-snapshot-internal-sync";
const DELETE = "blockdev-snapshot-delete-internal-sync";

test.each([
  [CREATE, { device: "q", name: "one" }, "Snapshot with name 'one' already exists on device 'q'"],
  [CREATE, { device: "q", name: "" }, "Name is empty"],
  [
    CREATE,
    { device: "n", name: "x" },
    "Block format 'memory' used by device 'n' does not support internal snapshots",
  ],
  [CREATE, { device: "zz", name: "x" }, "Cannot find device='zz' nor node-name='zz'"],
  [
    CREATE,
    { device: "q", name: "x".repeat(300) },
    `Failed to create snapshot '${"x".repeat(300)}' on device 'q': Invalid argument`,
  ],
  [
    DELETE,
    { device: "q", name: "nope" },
    "Snapshot with id 'null' and name 'nope' does not exist on device 'q'",
  ],
  [
    DELETE,
    { device: "q", id: "9", name: "one" },
    "Snapshot with id '9' and name 'one' does not exist on device 'q'",
  ],
  [DELETE, { device: "q" }, "Name or id must be provided"],
  [DELETE, { device: "n", name: "x" }, "Failed to get a snapshot list: Operation not supported"],
  [DELETE, { device: "zz", name: "x" }, "Cannot find device='zz' nor node-name='zz'"],
])("%s %o is refused", async (command, args, words) => {
  const daemon = await daemonWithImage();
  await daemon.run(CREATE, { device: "q", name: "one" });
  await expect(daemon.run(command, args)).rejects.toThrow(words);
  expect(await names(daemon)).toEqual(["one"]);
});

test("a read-only node takes no snapshot", async () => {
  const daemon = await daemonWithImage();
  await daemon.run("blockdev-reopen", {
    options: [{ driver: "qcow2", "node-name": "q", file: "q-file", backing: null, "read-only": true }],
  });
  await expect(daemon.run(CREATE, { device: "q", name: "x" })).rejects.toThrow("Device 'q' is read only");
});
