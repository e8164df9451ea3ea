// A guest's disk under rerror and werror: the whole matrix, the fields of BLOCK_IO_ERROR, io-status, retries.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { strerror } from "../../../src/base/errno.ts";
import type { OnError } from "../../../src/job/core/error-policy.ts";
import { GuestDevice } from "../../../src/machine/device.ts";
import { addProbe } from "../support/probe.ts";
import { Guest, TestMachine } from "../support/guest.ts";

const errnos = [
  ["EIO", 5],
  ["ENOSPC", 28],
] as const;
const matrix = (["read", "write"] as const).flatMap((op) =>
  errnos.flatMap(([code, errno]) =>
    (op === "read"
      ? (["auto", "report", "ignore", "stop"] as const)
      : (["auto", "report", "ignore", "stop", "enospc"] as const)
    ).map((policy) => ({ op, code, errno, policy })),
  ),
);

function expected(op: "read" | "write", policy: OnError, code: string): "report" | "ignore" | "stop" {
  const effective = policy === "auto" ? (op === "read" ? "report" : "enospc") : policy;
  if (effective === "enospc") return code === "ENOSPC" ? "stop" : "report";
  return effective;
}

describe("policies", () => {
  test.each(matrix)("$op under $policy with $code", async ({ op, code, errno, policy }) => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0", {
      rerror: op === "read" ? policy : "report",
      werror: op === "write" ? policy : "report",
      faults: [{ event: "none", iotype: op, errno, once: true }],
    });
    const action = expected(op, policy, code);
    const enabled = guest.device.iostatusEnabled;
    const request = guest.issue({ op, value: 3 });
    await bench.idle();
    expect(request.result).toBe({ report: code, ignore: "ok", stop: "waits" }[action]);
    const error = {
      event: "BLOCK_IO_ERROR",
      data: {
        device: "d0",
        "node-name": "d0-disk",
        operation: op,
        action,
        ...(enabled ? { nospace: code === "ENOSPC" } : {}),
        reason: strerror(code),
      },
    };
    const stop = action === "stop" ? [{ event: "STOP", data: {} }] : [];
    expect(bench.events).toEqual([error, ...stop]);
    expect(bench.machine.query()).toEqual({
      status: action === "stop" ? "io-error" : "running",
      running: action !== "stop",
      singlestep: false,
    });
    const status = action === "stop" ? (code === "ENOSPC" ? "nospace" : "failed") : "ok";
    expect(guest.device.ioStatus).toBe(status);
    await bench.machine.cont();
    expect(await request.done).toBe(action === "report" ? code : "ok");
    expect(guest.device.ioStatus).toBe("ok");
  });

  test.each([
    [{ rerror: "enospc" }, "'enospc' invalid read error action"],
    [{ werror: "oops" as OnError }, "'oops' invalid write error action"],
  ] as const)("%o is refused and leaves no device behind", async (policy, message) => {
    const bench = new TestMachine();
    await expect(bench.guest("d0", policy)).rejects.toThrow(message);
    expect(bench.machine.devices.size).toBe(0);
    expect(bench.test.graph.backends.size).toBe(0);
    await bench.test.graph.remove("d0-disk");
  });

  test.each([
    ["report", "report", false],
    ["report", "ignore", false],
    ["report", "enospc", true],
    ["report", "stop", true],
    ["stop", "report", true],
  ] as const)("rerror=%s, werror=%s: nospace is told: %s", async (rerror, werror, told) => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0", {
      rerror,
      werror,
      faults: [{ event: "none", iotype: "write", errno: 5, once: true }],
    });
    guest.issue({ op: "write" });
    await bench.idle();
    expect("nospace" in bench.events[0]!.data).toBe(told);
    expect(guest.device.iostatusEnabled).toBe(told);
  });

  test("a device model without an io-status never tells nospace", async () => {
    const bench = new TestMachine();
    const faults = [{ event: "none", iotype: "write", errno: 28, once: true }];
    const guest = await bench.guest("d0", { werror: "stop", keepsIoStatus: false, faults });
    guest.issue({ op: "write" });
    await bench.idle();
    expect(bench.events[0]!.data).not.toHaveProperty("nospace");
    expect(guest.device.ioStatus).toBe("ok");
    expect(bench.machine.state).toBe("io-error");
  });

  test.each(["zero", "discard", "flush"] as const)("%s follows werror", async (op) => {
    const bench = new TestMachine();
    const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size: 4096, discard: "unmap" });
    const guest = await bench.guest("d0", { node: "p", rerror: "ignore", werror: "stop" });
    await guest.script([{ op: "write" }]);
    driver.before = () => {
      driver.before = undefined;
      throw blockError("EIO", op);
    };
    const request = guest.issue({ op });
    await bench.idle();
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR d0 write stop", "STOP"]);
    await bench.machine.cont();
    expect(await request.done).toBe("ok");
  });
});

describe("io-status", () => {
  test("the first error sticks until cont", async () => {
    const bench = new TestMachine();
    const faults = [
      { event: "none", iotype: "write", sector: 0, errno: 5, once: true },
      { event: "none", iotype: "write", sector: 8, errno: 28, once: true },
    ];
    const guest = await bench.guest("d0", { werror: "stop", faults });
    guest.issue({ op: "write" });
    guest.issue({ op: "write", offset: 4096 });
    await bench.idle();
    expect(guest.device.ioStatus).toBe("failed");
    expect(bench.events.filter(({ event }) => event === "BLOCK_IO_ERROR")).toHaveLength(2);
    await bench.machine.cont();
    expect(guest.device.ioStatus).toBe("ok");
  });
});

describe("requests", () => {
  test("a guest sees its own writes", async () => {
    const guest = await new TestMachine().guest("d0");
    const results = await guest.script([
      { op: "write", offset: 512, bytes: 1024, value: 7 },
      { op: "zero", offset: 1024 },
      { op: "flush" },
    ]);
    expect(results).toEqual(["ok", "ok", "ok"]);
    const { data, done } = guest.issue({ op: "read", offset: 512, bytes: 1024 });
    await done;
    expect([data[0], data[511], data[512], data[1023]]).toEqual([7, 7, 0, 0]);
  });

  test("one outside of the disk is refused with EIO, whatever the policy, and stops nothing", async () => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0", { rerror: "stop", werror: "stop" });
    const steps = (["read", "write", "zero", "discard"] as const).map((op) => ({ op, offset: 1 << 20 }));
    expect(await guest.script(steps)).toEqual(["EIO", "EIO", "EIO", "EIO"]);
    expect(bench.take()).toEqual([]);
    expect(bench.machine.isRunning).toBe(true);
  });

  test("a read-only device does not write, and a second writer is refused", async () => {
    const bench = new TestMachine();
    await bench.guest("d0", { node: "shared" });
    await expect(bench.guest("d1", { node: "shared" })).rejects.toThrow(
      "Permission conflict on node 'shared': permissions 'write' are both required by block device 'd0' (uses node " +
        "'shared' as 'root' child) and unshared by block device 'd1' (uses node 'shared' as 'root' child).",
    );
    expect([...bench.machine.devices].map(({ name }) => name)).toEqual(["d0"]);
  });

  test("without a write cache each write is durable when it completes", async () => {
    const bench = new TestMachine();
    const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size: 4096 });
    const guest = await bench.guest("d0", { node: "p" });
    guest.device.backend.writeCache = false;
    await guest.script([{ op: "write" }]);
    expect(driver.take()).toEqual(["pwrite 0+512:16", "flush"]);
  });

  test("unplugging lets requests that wait for the machine go", async () => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0", {
      werror: "stop",
      faults: [{ event: "none", iotype: "write", errno: 5 }],
    });
    guest.issue({ op: "write" });
    await bench.idle();
    await guest.device.unplug();
    expect(bench.machine.devices.size).toBe(0);
    expect(bench.test.graph.backends.size).toBe(0);
    await bench.machine.cont();
    await bench.test.graph.remove("d0-disk");
  });

  test("devices without a name keep their own policies", async () => {
    const bench = new TestMachine();
    const { graph } = bench.test;
    const faults = [{ event: "none", iotype: "write", errno: 5, once: true }];
    const plug = async (node: string): Promise<Guest> => {
      const options = { machine: bench.machine, name: "", node: await bench.test.disk(node, 4096, faults) };
      return new Guest(await GuestDevice.plug({ ...options, werror: "stop" }));
    };
    const [first, second] = [await plug("a"), await plug("b")];
    expect([bench.machine.devices.size, graph.backends.size]).toEqual([2, 0]);
    for (const [guest, node] of [
      [first, "a"],
      [second, "b"],
    ] as const) {
      const request = guest.issue({ op: "write" });
      await bench.idle();
      expect([request.result, guest.device.ioStatus]).toEqual(["waits", "failed"]);
      const event = { device: "", "node-name": node, operation: "write", action: "stop" };
      expect(bench.events.splice(0)).toMatchObject([
        { event: "BLOCK_IO_ERROR", data: event },
        { event: "STOP" },
      ]);
      await bench.machine.cont();
      await bench.idle();
      expect(request.result).toBe("ok");
      bench.events.length = 0;
    }
    await first.device.unplug();
    expect([...bench.machine.devices]).toEqual([second.device]);
  });

  test("names are unique among devices and nodes", async () => {
    const bench = new TestMachine();
    const { device } = await bench.guest("d0");
    const { machine } = bench;
    const node = await bench.test.disk("n", 512);
    const plug = (name: string): Promise<GuestDevice> => GuestDevice.plug({ machine, name, node });
    await expect(plug("d0")).rejects.toThrow("Device with id 'd0' already exists");
    await expect(plug("n")).rejects.toThrow("Device name 'n' conflicts with an existing node name");
    await expect(bench.test.disk("d0", 512)).rejects.toThrow("node-name=d0 is conflicting with a device id");
    expect([machine.devices.get("d0"), machine.devices.get("")]).toEqual([device, undefined]);
  });
});
