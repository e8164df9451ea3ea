// blkdebug in a graph: rules, states, breakpoints and limits. What it answers was compared with qemu-io 7.2.
import { describe, expect, it } from "vitest";
import type { Child } from "../../../../src/block/model/node.ts";
import { Perm } from "../../../../src/block/model/permissions.ts";
import { BlkdebugDriver } from "../../../../src/drivers/filter/blkdebug.ts";
import { KiB, MiB, pattern, TestGraph } from "../../support/graph.ts";

type Options = Record<string, unknown>;

/** memory "disk" <- blkdebug "debug" <- raw "raw", and an edge on raw (or on debug with `direct`). */
async function stack(
  options: Options,
  direct = false,
): Promise<{ test: TestGraph; edge: Child; rules: BlkdebugDriver["rules"] }> {
  const test = new TestGraph(MiB);
  await test.disk("disk", MiB);
  const node = await test.graph.add({
    driver: "blkdebug",
    "node-name": "debug",
    image: "disk",
    discard: "unmap",
    ...options,
  });
  await test.graph.add({ driver: "raw", "node-name": "raw", file: "debug", discard: "unmap" });
  if (!(node.driver instanceof BlkdebugDriver)) throw new Error("no blkdebug");
  return { test, edge: await test.edge(direct ? "debug" : "raw", Perm.all), rules: node.driver.rules };
}

const inject = (...rules: Options[]): Options => ({ "inject-error": rules });
const block = (): Uint8Array => new Uint8Array(512);

/** The errno that a request ends with, or "ok". */
async function outcome(request: unknown): Promise<string> {
  return Promise.resolve(request).then(
    () => "ok",
    (error: unknown) => (error as { code: string }).code,
  );
}

describe("blkdebug rules", () => {
  it("holds event none to the initial state, 1", async () => {
    const other = await stack(inject({ event: "none", state: 2 }));
    expect(await outcome(other.edge.pread(0, block()))).toBe("ok");
    const initial = await stack(inject({ event: "none", state: 1 }));
    expect(await outcome(initial.edge.pread(0, block()))).toBe("EIO");
  });

  it("replaces the active rules when an event has rules of its own, and keeps those", async () => {
    const { edge } = await stack(
      inject({ event: "none", iotype: "read" }, { event: "write_aio", iotype: "write", errno: 28 }),
    );
    expect(await outcome(edge.pread(0, block()))).toBe("EIO");
    expect(await outcome(edge.pwrite(0, block()))).toBe("ENOSPC");
    expect(await outcome(edge.pread(0, block()))).toBe("ok");
    expect(await outcome(edge.pwrite(0, block()))).toBe("ENOSPC");
  });

  it("fails every type of request but block-status when no type is chosen", async () => {
    const { edge } = await stack(inject({ event: "none" }));
    expect(await outcome(edge.pread(0, block()))).toBe("EIO");
    expect(await outcome(edge.pwrite(0, block()))).toBe("EIO");
    expect(await outcome(edge.pwriteZeroes(0, 512))).toBe("EIO");
    expect(await outcome(edge.pdiscard(0, 512))).toBe("EIO");
    expect(await outcome(edge.blockStatus(0, 512))).toBe("ok");
    const status = await stack(inject({ event: "none", iotype: "block-status" }));
    expect(await outcome(status.edge.blockStatus(0, 512))).toBe("EIO");
    expect(await outcome(status.edge.pread(0, block()))).toBe("ok");
  });

  it("fails a flush after a write", async () => {
    const { edge } = await stack(inject({ event: "none", iotype: "flush" }));
    await edge.pwrite(0, block());
    expect(await outcome(edge.flush())).toBe("EIO");
  });

  it("hits the requests that contain its sector", async () => {
    const { edge } = await stack(inject({ event: "none", sector: 8 }));
    expect(await outcome(edge.pread(0, new Uint8Array(4096)))).toBe("ok");
    expect(await outcome(edge.pread(4095, new Uint8Array(1)))).toBe("ok");
    expect(await outcome(edge.pread(4095, new Uint8Array(2)))).toBe("EIO");
    expect(await outcome(edge.pwrite(4096, block()))).toBe("EIO");
    expect(await outcome(edge.pread(4608, block()))).toBe("ok");
  });

  it("lets a once rule go after its hit, and the first rule given win", async () => {
    const { edge } = await stack(
      inject({ event: "none", errno: 28, once: true }, { event: "none", errno: 12, once: true }),
    );
    expect(await outcome(edge.pread(0, block()))).toBe("ENOSPC");
    expect(await outcome(edge.pread(0, block()))).toBe("ENOMEM");
    expect(await outcome(edge.pread(0, block()))).toBe("ok");
  });

  it("does not activate a once rule again after its hit", async () => {
    const { edge } = await stack(inject({ event: "read_aio", once: true }));
    expect(await outcome(edge.pread(0, block()))).toBe("EIO");
    expect(await outcome(edge.pread(0, block()))).toBe("ok");
    expect(await outcome(edge.pread(0, block()))).toBe("ok");
  });

  it("shadows later rules by one of errno 0", async () => {
    const { edge } = await stack(inject({ event: "none", errno: 0 }, { event: "none", errno: 12 }));
    expect(await outcome(edge.pread(0, block()))).toBe("ok");
  });

  it("moves through states; an event sees the state from before itself, and the first step given wins", async () => {
    const { edge, rules } = await stack({
      ...inject({ event: "write_aio", state: 2, errno: 28 }, { event: "write_aio", state: 3 }),
      "set-state": [
        { event: "read_aio", state: 1, new_state: 2 },
        { event: "read_aio", state: 1, new_state: 3 },
        { event: "write_aio", state: 2, new_state: 1 },
      ],
    });
    expect(await outcome(edge.pwrite(0, block()))).toBe("ok");
    expect(await outcome(edge.pread(0, block()))).toBe("ok");
    expect(rules.state).toBe(2);
    expect(await outcome(edge.pwrite(0, block()))).toBe("ENOSPC");
    expect(rules.state).toBe(1);
  });

  it("says where the error happened, and changes nothing below", async () => {
    const { test, edge } = await stack(inject({ event: "none", iotype: "write" }));
    await expect(edge.pwrite(1024, pattern(512, 1))).rejects.toMatchObject({
      code: "EIO",
      op: "pwrite",
      node: "debug",
      offset: 1024,
      bytes: 512,
      message: "Input/output error",
    });
    expect((await test.content("disk")).every((byte) => byte === 0)).toBe(true);
  });

  it("fails later unless immediately", async () => {
    for (const immediately of [false, true]) {
      const { test, rules } = await stack(inject({ event: "none", immediately }));
      expect(rules.state).toBe(1);
      let failed = false;
      const { driver } = test.graph.node("debug");
      const request = Promise.resolve(driver.pread(0, block(), 0)).catch(() => (failed = true));
      for (let i = 0; i < 10; i++) await Promise.resolve();
      expect(failed).toBe(immediately);
      await request;
      expect(failed).toBe(true);
    }
  });
});

describe("blkdebug breakpoints", () => {
  it("suspends one request until it is resumed", async () => {
    const { edge, rules, test } = await stack({});
    rules.breakpoint("write_aio", "A");
    const first = edge.pwrite(0, pattern(512, 1));
    await test.host.clock.idle();
    expect(rules.isSuspended("A")).toBe(true);
    await edge.pwrite(512, pattern(512, 2));
    expect((await test.content("disk", 0, 512)).every((byte) => byte === 0)).toBe(true);
    expect(rules.resume("A")).toBe(true);
    await first;
    expect(rules.isSuspended("A")).toBe(false);
    expect(rules.resume("A")).toBe(false);
    expect(await test.content("disk", 0, 512)).toEqual(pattern(512, 1));
  });

  it("forgets breakpoints that are removed, and resumes their requests", async () => {
    const { edge, rules, test } = await stack({});
    rules.breakpoint("read_aio", "A");
    const request = edge.pread(0, block());
    await test.host.clock.idle();
    rules.breakpoint("write_aio", "A");
    expect(rules.removeBreakpoint("A")).toBe(true);
    await request;
    await edge.pwrite(0, block());
    expect(rules.removeBreakpoint("A")).toBe(false);
  });
});

describe("blkdebug limits", () => {
  it("lets the layer pad requests to align", async () => {
    const { test, edge } = await stack({ align: 4096 }, true);
    await test.fill("disk", 0, 8192, 1);
    const before = await test.content("disk", 0, 8192);
    await edge.pwrite(4000, new Uint8Array(200).fill(0xff));
    before.fill(0xff, 4000, 4200);
    expect(await test.content("disk", 0, 8192)).toEqual(before);
    const read = new Uint8Array(3);
    await edge.pread(4198, read);
    expect(read).toEqual(before.slice(4198, 4201));
  });

  it("sees padded requests: a rule on a neighbour's sector hits", async () => {
    const { edge } = await stack(
      { align: 4096, ...inject({ event: "none", iotype: "read", sector: 1 }) },
      true,
    );
    expect(await outcome(edge.pread(0, block()))).toBe("EIO");
    expect(await outcome(edge.pread(4096, block()))).toBe("ok");
  });

  it("passes a status on that is finer than align", async () => {
    const test = new TestGraph(MiB);
    await test.disk("disk", MiB);
    await test.fill("disk", 64 * KiB, 64 * KiB);
    await test.graph.add({ driver: "raw", "node-name": "shifted", file: "disk", offset: 512 });
    await test.graph.add({ driver: "blkdebug", "node-name": "coarse", image: "shifted", align: 4096 });
    const status = await (await test.edge("coarse", 1)).blockStatus(64 * KiB - 256, 4096);
    expect(status).toMatchObject({ bytes: 4096, data: true });
    const before = await (await test.edge("coarse", 1)).blockStatus(64 * KiB - 768, 4096);
    expect(before).toMatchObject({ bytes: 256, data: false, zero: true });
  });

  it("splits by max-transfer", async () => {
    const { edge } = await stack(
      { "max-transfer": 4096, ...inject({ event: "none", sector: 8, once: true }) },
      true,
    );
    const buffer = new Uint8Array(16 * KiB);
    await expect(edge.pread(0, buffer)).rejects.toMatchObject({ offset: 4096, bytes: 4096 });
  });

  it("leaves zeroes smaller than opt-write-zero to ordinary writes", async () => {
    const { edge } = await stack(
      { "opt-write-zero": 64 * KiB, ...inject({ event: "none", iotype: "write-zeroes" }) },
      true,
    );
    expect(await outcome(edge.pwriteZeroes(0, 4096))).toBe("ok");
    expect(await outcome(edge.pwriteZeroes(0, 64 * KiB))).toBe("EIO");
  });

  it("passes discards smaller than opt-discard on all the same", async () => {
    const { edge } = await stack(
      { "opt-discard": 64 * KiB, ...inject({ event: "none", iotype: "discard" }) },
      true,
    );
    expect(await outcome(edge.pdiscard(0, 4096))).toBe("EIO");
    expect(await outcome(edge.pdiscard(0, 64 * KiB))).toBe("EIO");
  });

  it.each([
    [{ align: 3 }, "align 3"],
    [{ align: 2 ** 31 }, "align 2147483648"],
    [{ align: 4096, "max-transfer": 512 }, "max-transfer 512"],
    [{ align: 4096, "opt-write-zero": 512 }, "opt-write-zero 512"],
    [{ "opt-write-zero": 8192, "max-write-zero": 4096 }, "max-write-zero 4096"],
    [{ align: 4096, "max-write-zero": 4608 }, "max-write-zero 4608"],
    [{ align: 4096, "opt-discard": 512 }, "opt-discard 512"],
    [{ "opt-discard": 8192, "max-discard": 4096 }, "max-discard 4096"],
  ])("refuses %j in QEMU's words", async (options, what) => {
    const test = new TestGraph(MiB);
    await test.disk("disk", MiB);
    const opened = test.graph.add({ driver: "blkdebug", "node-name": "debug", image: "disk", ...options });
    await expect(opened).rejects.toThrow(new RegExp(`^Cannot meet constraints with ${what}$`));
    expect(test.graph.nodes.map((node) => node.name)).toEqual(["disk"]);
  });

  it("takes and unshares permissions on its image", async () => {
    const test = new TestGraph(MiB);
    await test.disk("disk", MiB);
    const spec = { driver: "blkdebug", image: "disk" };
    await test.graph.add({ ...spec, "node-name": "a", "take-child-perms": ["write"] });
    await expect(
      test.graph.add({ ...spec, "node-name": "b", "unshare-child-perms": ["write"] }),
    ).rejects.toThrow(
      "Permission conflict on node 'disk': permissions 'write' are both required by node 'a' " +
        "(uses node 'disk' as 'image' child) and unshared by node 'b' (uses node 'disk' as 'image' child).",
    );
  });
});
