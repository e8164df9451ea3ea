// x-blockdev-amend: what it refuses, the life of its job, and what reaches the driver.
import { describe, expect, test } from "vitest";
import { CommandError } from "../../../../../src/base/errors.ts";
import type {
  AmendContext,
  AmendOptions,
  BlockDriver,
  DriverType,
} from "../../../../../src/block/model/contract.ts";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

interface Call {
  options: AmendOptions;
  context: AmendContext;
}

/** A daemon whose driver qcow2 amends by `amend`, over a disk of the name `node`. */
async function amendable(amend: (call: Call) => Promise<void>, readOnly = false): Promise<Daemon> {
  const driver: BlockDriver = {
    length: () => MiB,
    pread: (_offset, buffer) => Promise.resolve(void buffer.fill(0)),
    pwrite: () => Promise.resolve(),
    amend: (options, context) => amend({ options, context }),
  };
  const type: DriverType = { name: "qcow2", kind: "format", open: () => Promise.resolve(driver) };
  const daemon = new Daemon({ instead: [type] });
  await daemon.engine.graph.add({ driver: "qcow2", "node-name": "node", "read-only": readOnly });
  return daemon;
}

async function row(daemon: Daemon): Promise<unknown> {
  await daemon.host.clock.idle();
  return daemon.run("query-jobs");
}

const encrypt = { format: "luks", state: "inactive", keyslot: 3 };
const args = { "job-id": "amend", "node-name": "node", options: { driver: "qcow2", encrypt } };

describe("x-blockdev-amend", () => {
  test("hands the options and force to the driver, and waits to be dismissed", async () => {
    const calls: Call[] = [];
    const daemon = await amendable(async (call) => void calls.push(call));
    await daemon.run("x-blockdev-amend", { ...args, force: true });
    expect(await row(daemon)).toEqual([
      { id: "amend", type: "amend", status: "concluded", "current-progress": 1, "total-progress": 1 },
    ]);
    expect(calls).toHaveLength(1);
    expect(calls[0]).toMatchObject({ options: { encrypt }, context: { force: true } });
    expect(Object.keys(calls[0]?.options ?? {})).toEqual(["encrypt"]);
    await daemon.run("blockdev-del", { "node-name": "node" });
    await daemon.run("job-dismiss", { id: "amend" });
    expect(daemon.nodes).toEqual([]);
    await daemon.engine.close();
  });

  test("keeps the node while it runs, and ends with the driver's words", async () => {
    let fail: (error: Error) => void = () => undefined;
    const daemon = await amendable(() => new Promise((_resolve, reject) => void (fail = reject)));
    await daemon.run("x-blockdev-amend", args);
    const gone = daemon.run("blockdev-del", { "node-name": "node" });
    await expect(gone).rejects.toThrow("Block device node is in use");
    fail(new CommandError("no room"));
    expect(await row(daemon)).toMatchObject([{ status: "concluded", error: "no room" }]);
    await daemon.run("blockdev-del", { "node-name": "node" });
    expect(daemon.nodes).toEqual([]);
    await daemon.engine.close();
  });

  test("a read-only node is refused", async () => {
    const daemon = await amendable(() => Promise.resolve(), true);
    await expect(daemon.run("x-blockdev-amend", args)).rejects.toThrow("Block node is read-only");
    expect(await daemon.run("query-jobs")).toEqual([]);
    await daemon.engine.close();
  });

  test.each([
    [{ ...args, "node-name": "nope" }, "Cannot find device='' nor node-name='nope'"],
    [{ ...args, options: { driver: "raw" } }, "x-blockdev-amend doesn't support changing the block driver"],
    [{ ...args, options: { driver: "vmdk9" } }, "Parameter 'driver' does not accept value 'vmdk9'"],
    [
      { ...args, "node-name": "disk", options: { driver: "null-co" } },
      "Driver does not support x-blockdev-amend",
    ],
    [{ ...args, "job-id": "" }, "Invalid job ID ''"],
  ])("%o is refused", async (bad, message) => {
    const daemon = await amendable(() => Promise.resolve());
    await daemon.engine.graph.add({ driver: "null-co", "node-name": "disk" });
    await expect(daemon.run("x-blockdev-amend", bad)).rejects.toThrow(message);
    expect(await daemon.run("query-jobs")).toEqual([]);
    await daemon.engine.close();
  });
});
