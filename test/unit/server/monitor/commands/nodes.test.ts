// The commands that change nodes: add, delete, reopen, resize, snapshot, the backing link; and jobs' verbs by id.
import { describe, expect, test } from "vitest";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

describe("blockdev-reopen", () => {
  async function chain(): Promise<Daemon> {
    const daemon = new Daemon();
    await daemon.image("base");
    await daemon.image("other");
    await daemon.image("top", MiB, "base");
    return daemon;
  }
  const top = { driver: "qcow2", "node-name": "top", file: "top-file" };

  test("read-only, detect-zeroes and discard change, and only discard stays", async () => {
    const daemon = await chain();
    const options = [
      { ...top, backing: "base", "read-only": true, discard: "unmap", "detect-zeroes": "unmap" },
    ];
    await daemon.run("blockdev-reopen", { options });
    const node = daemon.engine.graph.node("top");
    expect(node.options).toMatchObject({ readOnly: true, discard: "unmap", detectZeroes: "unmap" });
    await daemon.run("blockdev-reopen", { options: [{ ...top, backing: "base" }] });
    expect(node.options).toMatchObject({ readOnly: false, discard: "unmap", detectZeroes: "off" });
    await (await daemon.guest("d0", "top")).write(0, new Uint8Array(512));
  });

  test.each([
    ["other", "other"],
    [null, undefined],
  ])("the backing file becomes %o", async (backing, name) => {
    const daemon = await chain();
    await daemon.run("blockdev-reopen", { options: [{ ...top, backing }] });
    expect(daemon.engine.graph.node("top").backing?.node.name).toBe(name);
  });

  test.each([
    [{ ...top }, "backing is missing for 'top'"],
    [{ ...top, backing: "nope" }, "Cannot find device='' nor node-name='nope'"],
    [{ ...top, backing: "" }, "Cannot find device='' nor node-name=''"],
    [{ ...top, backing: "top" }, "Making 'top' a backing child of 'top' would create a cycle"],
    [{ driver: "raw", "node-name": "top", file: "top-file" }, "backing is missing for 'top'"],
    [{ ...top, backing: "base", file: "base-file" }, "Permission conflict on node 'base-file'"],
    [{ ...top, backing: "base", "data-file": "base-file" }, "Cannot change the option 'data-file'"],
    [
      { ...top, backing: "base", "l2-cache-entry-size": 3 },
      "L2 cache entry size must be a power of two between 512 and the cluster size (65536)",
    ],
    [
      { ...top, backing: "base", "detect-zeroes": "unmap" },
      "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
    ],
    [{ driver: "qcow2", file: "top-file" }, "node-name not specified"],
  ])("%o is refused", async (options, message) => {
    const daemon = await chain();
    await expect(daemon.run("blockdev-reopen", { options: [options] })).rejects.toThrow(message);
    expect(daemon.engine.graph.node("top").backing?.node.name).toBe("base");
  });

  test("options of the driver change, and change back where another node refuses", async () => {
    const daemon = await chain();
    const lazy = { ...top, backing: "base", "lazy-refcounts": true, "overlap-check": "all" };
    await daemon.run("blockdev-reopen", { options: [lazy] });
    const node = daemon.engine.graph.node("top");
    const chosen = (): unknown[] => [node.spec["lazy-refcounts"], node.spec["overlap-check"]];
    expect(chosen()).toEqual([true, "all"]);
    const guest = await daemon.guest("d0", "top");
    await guest.write(0, new Uint8Array(512));
    await guest.flush();
    expect(node.driver.getInfo?.()?.isDirty).toBe(true);
    const options = [
      { ...top, backing: "base" },
      { driver: "qcow2", "node-name": "other", file: "other-file", "read-only": true },
    ];
    await daemon.guest("d1", "other");
    await expect(daemon.run("blockdev-reopen", { options })).rejects.toThrow(
      "Read-only block node 'other' cannot support read-write users",
    );
    expect(chosen()).toEqual([true, "all"]);
    await daemon.run("blockdev-reopen", { options: options.slice(0, 1) });
    expect(chosen()).toEqual([undefined, undefined]);
    // It is as before, and a crash from now on would find it clean.
    expect(node.driver.getInfo?.()?.isDirty).toBe(false);
  });

  test("an option of inline storage is named by itself", async () => {
    const daemon = await chain();
    const spec = (size: number): Record<string, unknown> => ({
      driver: "raw",
      "node-name": "inline",
      file: { driver: "null-co", size },
    });
    await daemon.run("blockdev-add", spec(512));
    await daemon.run("blockdev-reopen", { options: [spec(512)] });
    await expect(daemon.run("blockdev-reopen", { options: [spec(1024)] })).rejects.toThrow(
      "Cannot change the option 'size'",
    );
  });

  test("of several nodes all change, or none", async () => {
    const daemon = await chain();
    const { graph } = daemon.engine;
    await daemon.guest("d0", "other");
    const options = [
      { ...top, backing: "base", "read-only": true, discard: "unmap" },
      // A guest writes to it.
      { driver: "qcow2", "node-name": "other", file: "other-file", "read-only": true },
    ];
    await expect(daemon.run("blockdev-reopen", { options })).rejects.toThrow();
    expect(graph.node("top").options).toMatchObject({ readOnly: false, discard: "ignore" });
    expect(graph.node("other").readOnly).toBe(false);
    const moves = [{ ...top, backing: "other" }, options[1]];
    await expect(daemon.run("blockdev-reopen", { options: moves })).rejects.toThrow();
    expect(graph.node("top").backing?.node.name).toBe("base");
    expect(graph.node("base").references).toBe(0);
  });
});

describe("block_resize", () => {
  test("by node name and by device; the guest sees it", async () => {
    const daemon = new Daemon();
    await daemon.image("n");
    const guest = await daemon.guest("d0", "n");
    await daemon.run("block_resize", { "node-name": "n", size: 2 * MiB });
    expect(guest.length).toBe(2 * MiB);
    await daemon.run("block_resize", { device: "d0", size: 3 * MiB });
    expect(guest.length).toBe(3 * MiB);
    // As in QEMU, a name that is no device's leaves the word to the other.
    await daemon.run("block_resize", { device: "n", "node-name": "n", size: 4 * MiB });
    expect(guest.length).toBe(4 * MiB);
  });

  test("below an open image, and below a window into it, the length is not for others to change", async () => {
    const daemon = new Daemon();
    await daemon.image("n");
    const file = daemon.engine.graph.node("n-file");
    const length = file.length;
    for (const size of [MiB / 2, 2 * MiB]) {
      await expect(daemon.run("block_resize", { "node-name": "n-file", size })).rejects.toThrow(
        "Permission conflict on node 'n-file': permissions 'resize' are both required by an unnamed block device " +
          "(uses node 'n-file' as 'root' child) and unshared by node 'n' (uses node 'n-file' as 'file' child).",
      );
    }
    expect(file.length).toBe(length);
    expect([...file.parents].map(({ parent }) => parent.describe())).toEqual(["node 'n'"]);
  });

  test("the source of a backup keeps its length until the job is over", async () => {
    const daemon = new Daemon();
    for (const name of ["n", "t"]) await daemon.image(name);
    const job = { "job-id": "j", device: "n", target: "t", sync: "none" };
    await daemon.run("blockdev-backup", job);
    await expect(daemon.run("block_resize", { "node-name": "n", size: 2 * MiB })).rejects.toThrow(
      /^Permission conflict on node 'n': permissions 'resize' .* unshared by node '#block\d+' \(uses node 'n' as 'file' child\)\.$/,
    );
    await daemon.run("block-job-cancel", { device: "j" });
    await daemon.engine.jobs.find("j")?.done.catch(() => undefined);
    await daemon.run("block_resize", { "node-name": "n", size: 2 * MiB });
    expect(daemon.engine.graph.node("n").length).toBe(2 * MiB);
  });

  test.each([
    ["raw", { driver: "raw", file: "m" }],
    ["a filter over raw", { driver: "blkdebug", image: { driver: "raw", file: "m" } }],
    ["raw over a filter", { driver: "raw", file: { driver: "copy-on-read", file: "m" } }],
  ])("%s is resized, both ways", async (_what, spec) => {
    const daemon = new Daemon();
    await daemon.disk("m", MiB);
    await daemon.run("blockdev-add", { ...spec, "node-name": "n" });
    for (const size of [2 * MiB, MiB / 2]) {
      await daemon.run("block_resize", { "node-name": "n", size });
      const { graph } = daemon.engine;
      expect([graph.node("n").length, graph.node("m").length]).toEqual([size, size]);
    }
  });

  test.each([
    [{ "node-name": "n", size: -1 }, "Parameter 'size' expects a >0 size"],
    [{ "node-name": "nope", size: 1 }, "Cannot find device='' nor node-name='nope'"],
    [{ device: "nope", size: 1 }, "Cannot find device='nope' nor node-name=''"],
  ])("%o is refused", async (args, message) => {
    const daemon = new Daemon();
    await daemon.image("n");
    await expect(daemon.run("block_resize", args)).rejects.toThrow(message);
  });

  test.each([2 ** 53, 2 ** 62])(
    "a size of %d is refused by the limit's name, and no node has one",
    async (size) => {
      const daemon = new Daemon();
      await daemon.image("n");
      const refused = { code: "EFBIG", message: expect.stringContaining("limits.maxImageBytes") as string };
      const resize = { "node-name": "n", size };
      await expect(daemon.run("block_resize", resize)).rejects.toMatchObject(refused);
      const node = { driver: "null-co", "node-name": "huge", size };
      await expect(daemon.run("blockdev-add", node)).rejects.toMatchObject(refused);
      expect(daemon.engine.graph.findNode("huge")).toBeUndefined();
    },
  );
});

describe("blockdev-snapshot", () => {
  test.each([
    [{ node: "nope", overlay: "o" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ node: "n", overlay: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ node: "based", overlay: "base" }, "Making 'based' a backing child of 'base' would create a cycle"],
    [{ node: "n", overlay: "plain" }, "The overlay does not support backing images"],
    [{ node: "n", overlay: "based" }, "The overlay already has a backing image"],
    [{ node: "n", overlay: "used" }, "The overlay is already in use"],
    [{ node: "base", overlay: "o" }, "Node 'base' is busy: node is used as backing hd of 'based'"],
  ])("%o is refused", async (args, message) => {
    const daemon = new Daemon();
    for (const name of ["n", "o", "base", "used"]) await daemon.image(name);
    await daemon.image("based", MiB, "base");
    await daemon.disk("plain");
    await daemon.guest("d9", "used");
    const before = daemon.nodes;
    await expect(daemon.run("blockdev-snapshot", args)).rejects.toThrow(message);
    expect(daemon.nodes).toEqual(before);
    expect(daemon.engine.graph.node("o").backing).toBeUndefined();
  });
});

describe("change-backing-file", () => {
  test("rewrites the header and leaves the graph", async () => {
    const daemon = new Daemon();
    await daemon.image("base");
    await daemon.image("top", MiB, "base");
    await daemon.run("change-backing-file", {
      device: "top",
      "image-node-name": "top",
      "backing-file": "elsewhere.qcow2",
    });
    const { driver, backing } = daemon.engine.graph.node("top");
    expect([driver.headerBacking?.filename(), driver.headerBacking?.format(), backing?.node.name]).toEqual([
      "elsewhere.qcow2",
      "qcow2",
      "base",
    ]);
  });

  test.each([
    [
      { device: "top", "image-node-name": "base" },
      "not allowing backing file change on an image without a backing file",
    ],
    [{ device: "base", "image-node-name": "top" }, "Need a root block node"],
    [{ device: "other", "image-node-name": "top" }, "'other' and image file are not in the same chain"],
    [{ device: "top", "image-node-name": "nope" }, "Cannot find device='' nor node-name='nope'"],
  ])("%o is refused", async (args, message) => {
    const daemon = new Daemon();
    for (const name of ["base", "other"]) await daemon.image(name);
    await daemon.image("top", MiB, "base");
    await expect(daemon.run("change-backing-file", { ...args, "backing-file": "x" })).rejects.toThrow(
      message,
    );
  });
});

describe("the write threshold", () => {
  test("of no node", async () => {
    const args = { "node-name": "nope", "write-threshold": 1 };
    await expect(new Daemon().run("block-set-write-threshold", args)).rejects.toThrow(
      "Device 'nope' not found",
    );
  });

  test("fires the event once", async () => {
    const daemon = new Daemon();
    await daemon.image("n");
    await daemon.run("block-set-write-threshold", { "node-name": "n", "write-threshold": 4096 });
    const guest = await daemon.guest("d0", "n");
    await guest.write(8192, new Uint8Array(512));
    await guest.write(8192, new Uint8Array(512));
    expect(daemon.events.filter(({ event }) => event === "BLOCK_WRITE_THRESHOLD")).toEqual([
      {
        event: "BLOCK_WRITE_THRESHOLD",
        data: { "node-name": "n", "amount-exceeded": 4608, "write-threshold": 4096 },
      },
    ]);
  });
});

describe("bitmaps", () => {
  test("add, disable, enable, clear, merge, hash, remove", async () => {
    const daemon = new Daemon();
    await daemon.disk("n");
    const b = { node: "n", name: "b" };
    for (const [name, args] of [
      ["block-dirty-bitmap-add", { ...b, granularity: 512 }],
      ["block-dirty-bitmap-disable", b],
      ["block-dirty-bitmap-enable", b],
      ["block-dirty-bitmap-clear", b],
      ["block-dirty-bitmap-add", { node: "n", name: "c" }],
      ["block-dirty-bitmap-merge", { node: "n", target: "c", bitmaps: ["b", b] }],
      ["block-dirty-bitmap-remove", b],
    ] as const)
      expect(await daemon.run(name, args)).toEqual({});
    await expect(daemon.run("block-dirty-bitmap-clear", b)).rejects.toThrow("Dirty bitmap 'b' not found");
    expect(await daemon.run("x-debug-block-dirty-bitmap-sha256", { node: "n", name: "c" })).toEqual({
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    });
  });
});

describe("job verbs", () => {
  test.each([
    ["job-pause", { id: "x" }, "Job not found", "GenericError"],
    ["job-cancel", { id: "x" }, "Job not found", "GenericError"],
    ["block-job-pause", { device: "x" }, "Block job 'x' not found", "DeviceNotActive"],
    ["block-job-set-speed", { device: "x", speed: 1 }, "Block job 'x' not found", "DeviceNotActive"],
  ])("%s of no job", async (name, args, message, qmpClass) => {
    await expect(new Daemon().run(name, args)).rejects.toMatchObject({ message, qmpClass });
  });
});

describe("while a job starts or ends", () => {
  test.each([
    ["blockdev-snapshot", { node: "n", overlay: "o" }],
    [
      "blockdev-reopen",
      { options: [{ driver: "qcow2", "node-name": "n", file: "n-file", "read-only": true }] },
    ],
    ["block_resize", { "node-name": "n", size: 2 * MiB }],
    ["change-backing-file", { device: "n", "image-node-name": "n", "backing-file": "elsewhere" }],
  ] as const)("%s waits", async (command, args) => {
    const daemon = new Daemon();
    for (const name of ["n", "o"]) await daemon.image(name);
    const order: string[] = [];
    let end!: () => void;
    const ending = daemon.engine.jobs.exclusively(() => new Promise<void>((resolve) => (end = resolve)));
    const done = daemon.run(command, args).then(
      () => order.push("command"),
      () => order.push("command"),
    );
    for (let turn = 0; turn < 20; turn++) await daemon.engine.graph.host.clock.turn();
    order.push("job");
    end();
    await Promise.all([ending, done]);
    expect(order).toEqual(["job", "command"]);
  });
});
