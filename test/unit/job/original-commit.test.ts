// The promises of the commit that everything grew from (QEMU's "block: introduce block job error", 2012): a test for each
// row of its table.
import { describe, expect, test } from "vitest";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { announceDevicePolicy } from "../../../src/job/core/device-policy.ts";
import type { DevicePolicy, OnError } from "../../../src/job/core/error-policy.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import { mirrorTop } from "../../../src/job/mirror/top.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { Chain } from "./chain.ts";

describe("report", () => {
  test("an I/O error ends the job at once with that error", async () => {
    const chain = await new Chain().open();
    chain.base.faults.push({ op: "read", code: "EIO", once: true });
    const job = await chain.stream({ "on-error": "report" });
    expect(await chain.run(job)).toMatchObject({ code: "EIO" });
    expect(job.offset).toBeLessThan(job.length);
  });
});

describe("ignore", () => {
  test("a stream goes on, ends with an error, and leaves the backing file in place", async () => {
    const chain = await new Chain().open();
    chain.base.faults.push({ op: "read", code: "EIO", once: true });
    const job = await chain.stream({ "on-error": "ignore" });
    expect(await chain.run(job)).toMatchObject({ code: "EIO" });
    expect(job.offset).toBe(job.length);
    expect(chain.top.clusters.has(9)).toBe(true);
    expect(chain.node("top").backing?.node.name).toBe("mid");
    expect(chain.top.header?.filename).toBe("mid");
  });

  test("a mirror marks the range dirty again and looks at it later", async () => {
    const bench = new TestGraph();
    bench.graph.register(mirrorTop);
    const once = [{ event: "none", iotype: "read", errno: 5, sector: 512, once: true }];
    const source = await bench.disk("src", MiB, once);
    await bench.fill("src", 0, MiB);
    await bench.disk("dst", MiB);
    const actions: unknown[] = [];
    let ready = false;
    bench.graph.events.subscribe(({ event, data }) => {
      if (event === "BLOCK_JOB_ERROR") actions.push(data["action"]);
      if (event === "BLOCK_JOB_READY") ready = true;
    });
    const args = { "job-id": "m", device: source.name, target: "dst", sync: "full" } as const;
    const job = await startMirror(bench.graph, { ...args, "on-source-error": "ignore" });
    while (!ready && (await bench.host.clock.step()));
    expect(actions).toEqual(["ignore"]);
    expect(job.offset).toBe(job.length);
    await job.complete();
    await bench.host.clock.settle(job.done);
    const [copied, original] = [await bench.content("dst"), await bench.content("src")];
    expect(copied.findIndex((byte, i) => byte !== original[i])).toBe(-1);
  });
});

describe("stop and enospc", () => {
  test.each([
    ["stop", "EIO", "failed"],
    ["stop", "ENOSPC", "nospace"],
    ["enospc", "ENOSPC", "nospace"],
  ] as const)(
    "%s on %s: paused, io-status %s, the guest goes on, resume retries",
    async (on, code, ioStatus) => {
      const chain = await new Chain().open();
      const guest = new BlockBackend(chain.test.graph, "disk0");
      await guest.attach(chain.node("top"), guestPermissions);
      chain.base.faults.push({ op: "read", code, once: true });
      const job = await chain.stream({ "on-error": on });
      await chain.idle();
      expect(job).toMatchObject({ status: "paused", ioStatus });
      const block = new Uint8Array(512).fill(0x77);
      await guest.pwrite(0, block);
      chain.seen.set(block, 0);
      job.resume();
      await chain.run(job);
      await chain.idle();
      expect(job.error).toBeUndefined();
      expect(await chain.firstDifference()).toBe(-1);
      await guest.close();
    },
  );

  test("enospc on another error: as report", async () => {
    const chain = await new Chain().open();
    chain.base.faults.push({ op: "read", code: "EIO", once: true });
    const job = await chain.stream({ "on-error": "enospc" });
    expect(await chain.run(job)).toMatchObject({ code: "EIO" });
    expect(job.ioStatus).toBe("ok");
  });
});

describe("always", () => {
  test.each(["report", "ignore", "stop", "enospc"] as const)(
    "BLOCK_JOB_ERROR is sent under %s",
    async (policy: OnError) => {
      const chain = await new Chain().open();
      chain.base.faults.push({ op: "read", code: "ENOSPC", once: true });
      const job = await chain.stream({ "on-error": policy });
      await chain.idle();
      expect(chain.log.filter((line) => line === "BLOCK_JOB_ERROR")).toHaveLength(1);
      if (job.status === "paused") await job.cancel();
      await chain.idle();
    },
  );

  test("the io-status can be cleared without going on", async () => {
    const chain = await new Chain().open();
    chain.base.faults.push({ op: "read", code: "EIO", once: true });
    const job = await chain.stream({ "on-error": "stop" });
    await chain.idle();
    job.resetIoStatus();
    expect(job).toMatchObject({ ioStatus: "ok", status: "paused" });
    await job.cancel();
    await chain.idle();
  });
});

describe("guard", () => {
  async function guarded(device: DevicePolicy | undefined): Promise<Chain> {
    const chain = await new Chain(undefined, { strictErrorPolicy: true }).open();
    const backend = new BlockBackend(chain.test.graph, "disk0");
    await backend.attach(chain.node("top"), guestPermissions);
    if (device) announceDevicePolicy(backend, device);
    return chain;
  }

  const stopping: DevicePolicy = { iostatusEnabled: true, rerror: "stop", werror: "enospc" };

  test.each(["stop", "enospc"] as const)("%s goes with a device that stops its guest", async (policy) => {
    const chain = await guarded(stopping);
    await chain.run(await chain.stream({ "on-error": policy }));
    await chain.idle();
    expect(chain.log.at(-1)).toBe("null");
  });

  test.each([
    ["no device", undefined],
    ["rerror=report", { ...stopping, rerror: "report" }],
    ["werror=report", { ...stopping, werror: "report" }],
    ["a device without an io-status", { ...stopping, iostatusEnabled: false }],
  ] as const)("stop is refused over %s, and nothing has changed", async (_what, device) => {
    const chain = await guarded(device);
    await expect(chain.stream({ "on-error": "stop" })).rejects.toThrow("Invalid parameter 'on-error'");
    await expect(chain.commit({ "on-error": "enospc" })).rejects.toThrow("Invalid parameter combination");
    expect(chain.log).toEqual([]);
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test("off by default, as in 7.2", async () => {
    const chain = await new Chain().open();
    await chain.run(await chain.stream({ "on-error": "stop" }));
    await chain.idle();
    expect(chain.log.at(-1)).toBe("null");
  });
});
