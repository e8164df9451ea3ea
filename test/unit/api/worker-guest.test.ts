// A guest's disk across a port: v86's interface on this side, policies, deadline and run state on the other. Runs in Node and
// in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Engine,
  type RemoteEngine,
  connectEngine,
  createEngine,
  serveEngine,
} from "../../../src/browser.ts";
import { toV86Disk } from "../../../src/v86.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;
let remote: RemoteEngine;
let served: Promise<void>;
const faults: unknown[] = [];

beforeEach(async () => {
  engine = createEngine({ arenaBytes: 16 * MiB });
  const { port1, port2 } = new MessageChannel();
  served = serveEngine(port2, engine, { onFault: (error) => faults.push(error) });
  remote = await connectEngine(port1);
});

afterEach(async () => {
  await remote.close().catch(() => undefined);
  await served;
  expect(engine.graph.nodes.length).toBe(0);
  expect(faults.splice(0)).toEqual([]);
});

async function add(name: string, rule?: { iotype: "read" | "write"; errno: number }): Promise<void> {
  const memory = { driver: "memory", size: MiB } as const;
  const errors = rule ? [{ event: "none", once: true, ...rule } as const] : [];
  await remote.qmp.execute("blockdev-add", {
    driver: "blkdebug",
    image: memory,
    "inject-error": errors,
    "node-name": name,
  });
}

/** The emulator as far as the adapter uses it. */
class FakeEmulator {
  readonly calls: string[] = [];
  run(): void {
    this.calls.push("run");
  }
  stop(): void {
    this.calls.push("stop");
  }
  add_listener(): void {}
  remove_listener(): void {}
}

describe("a guest's disk in a worker", () => {
  it("serves v86's reads and writes in their order", async () => {
    await add("d");
    const guest = await remote.guestDisk("d", { device: "hda" });
    expect([guest.length, guest.readOnly]).toEqual([MiB, false]);
    const disk = await toV86Disk(guest, { identity: "d" });
    disk.attach(new FakeEmulator());
    const data = pattern(8 * KiB, 3);
    const kept = data.slice();
    disk.set(512, data, () => undefined);
    data.fill(0);
    const read = new Promise<Uint8Array>((resolve) => disk.get(512, 8 * KiB, resolve));
    expect(same(await read, kept)).toBe(true);
    await disk.sync();
    expect((await remote.qmp.execute("query-block")).map(({ device }) => device)).toEqual(["hda"]);
    await expect(guest.read(0, 8 * MiB)).rejects.toMatchObject({ code: "EINVAL" });
    await disk.close();
    expect(await remote.qmp.execute("query-block")).toEqual([]);
    await expect(guest.read(0, 512)).rejects.toMatchObject({ code: "ENOMEDIUM" });
  });

  it("stops the emulator on an error, and lets it run with the answer after cont", async () => {
    await add("d", { iotype: "read", errno: 5 });
    const disk = await toV86Disk(await remote.guestDisk("d"), { identity: "d" });
    const emulator = new FakeEmulator();
    disk.attach(emulator);
    const told = new Promise((resolve) => remote.qmp.on("BLOCK_IO_ERROR", ({ data }) => resolve(data)));
    const stopped = new Promise<void>((resolve) => remote.qmp.on("STOP", () => resolve()));
    const read = new Promise<Uint8Array>((resolve) => disk.get(0, 512, resolve));
    expect(await told).toMatchObject({ device: "hda", operation: "read", action: "stop", nospace: false });
    await stopped;
    expect(emulator.calls).toEqual(["stop"]);
    expect((await remote.qmp.execute("query-status")).status).toBe("io-error");
    await remote.qmp.execute("cont");
    expect(same(await read, new Uint8Array(512))).toBe(true);
    await remote.qmp.execute("query-status");
    expect(emulator.calls).toEqual(["stop", "run"]);
    await disk.close();
  });

  it("refuses bad policies, unknown nodes and names that are taken", async () => {
    await add("d");
    await expect(remote.guestDisk("none")).rejects.toMatchObject({ name: "CommandError" });
    await expect(remote.guestDisk("d", { rerror: "enospc" })).rejects.toMatchObject({ name: "CommandError" });
    const guest = await remote.guestDisk("d");
    await expect(remote.guestDisk("d")).rejects.toThrow("hda");
    await guest.close();
    await (await remote.guestDisk("d")).close();
  });

  it("ends with its page, also while a request waits for a machine that is stopped", async () => {
    await add("d", { iotype: "write", errno: 28 });
    const guest = await remote.guestDisk("d", { werror: "enospc" });
    const stopped = new Promise<void>((resolve) => remote.qmp.on("STOP", () => resolve()));
    const write = guest.write(0, pattern(512, 1)).catch((error: unknown) => error);
    await stopped;
    remote.fail(new Error("the page was left"));
    expect(await write).toMatchObject({ message: "the page was left" });
    await served;
  });

  it("goes on by itself when a probe succeeds, and so does a job", async () => {
    await add("d", { iotype: "read", errno: 5 });
    const guest = await remote.guestDisk("d");
    const over = new AbortController();
    const watching = remote.autoResume({ probeMs: 10, signal: over.signal });
    expect(same(await guest.read(0, 512), new Uint8Array(512))).toBe(true);
    over.abort();
    await watching;
    await guest.close();

    await add("base", { iotype: "read", errno: 5 });
    await remote.qmp.execute("blockdev-add", { driver: "memory", size: 0, "node-name": "store" });
    await remote.createImage({ driver: "qcow2", file: "store", size: MiB });
    const overlay = { driver: "qcow2", file: "store", backing: "base", "node-name": "top" } as const;
    await remote.qmp.execute("blockdev-add", overlay);
    const paused = new Promise((resolve) =>
      remote.qmp.on("JOB_STATUS_CHANGE", ({ data }) => data.status === "paused" && resolve(data.id)),
    );
    const names = { device: "top", "job-id": "fill", "on-error": "stop" } as const;
    await remote.qmp.execute("block-stream", names);
    expect(await paused).toBe("fill");
    await remote.autoResume({ job: "fill", probeMs: 10 });
    expect(await remote.qmp.execute("query-block-jobs")).toEqual([]);
    // As QMP tells of a job that is over: whoever watches jobs takes it so.
    const gone = { message: "Block job 'fill' not found", qmpClass: "DeviceNotActive" };
    await expect(remote.autoResume({ job: "fill" })).rejects.toMatchObject(gone);
    await expect(remote.autoResume({ probeMs: 0 })).rejects.toMatchObject({ code: "EINVAL" });
  });
});
