// Nodes, their users and their bitmaps in `blockwright machine`, held beside the real qemu-system-x86_64: the same commands to both,
// and the same answers.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Daemon, withDaemon } from "../support/daemon.ts";
import { program } from "./support/twins.ts";

const words = ["-nodefaults", "-display", "none", "-S", "-machine", "pc"];
const programs = {
  ours: [process.execPath, program, "--run-as=qemu-system-x86_64", ...words],
  theirs: ["qemu-system-x86_64", ...words],
};

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-graph-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Prepare = (run: (tool: string, ...words: string[]) => string) => void;

interface Named {
  readonly "node-name": string;
}

interface Scene {
  readonly prepare: Prepare;
  readonly args?: readonly string[];
  /** What is compared. */
  readonly body: (machine: Daemon) => Promise<unknown>;
  /** What is read of the images when the machine has ended. */
  readonly after?: (run: (tool: string, ...words: string[]) => string) => unknown;
}

const made = (text: string): string => text.replaceAll(/#block\d+/g, "#block").replaceAll(folder, "");

/** Plays a scene with each program in a folder of its own, and compares what both say. */
async function compare({ prepare, args = [], body, after }: Scene): Promise<unknown> {
  const told: unknown[] = [];
  for (const [name, command] of Object.entries(programs)) {
    const cwd = join(folder, name);
    mkdirSync(cwd);
    const run = (tool: string, ...rest: string[]): string =>
      execFileSync(tool, rest, { cwd, encoding: "utf8", stdio: "pipe" });
    prepare(run);
    const found = await withDaemon({ program: command, args, monitor: ["-qmp", "stdio"], cwd }, body);
    told.push(JSON.parse(made(JSON.stringify({ found, after: after?.(run) }))) as unknown);
  }
  expect(told[0]).toEqual(told[1]);
  return told[1];
}

const io = (machine: Daemon, backend: string, line: string): Promise<unknown> =>
  machine.execute("human-monitor-command", { "command-line": `qemu-io ${backend} "${line}"` });
const file = (name: string, more: object = {}): object => ({ driver: "file", filename: name, ...more });
const qcow2 = (name: string, more: object = {}): Record<string, unknown> => ({
  driver: "qcow2",
  "node-name": name,
  file: file(`${name}.qcow2`, { "node-name": `${name}-file` }),
  ...more,
});
const images =
  (...names: string[]): Prepare =>
  (run) => {
    for (const name of names) run("qemu-img", "create", "-q", "-f", "qcow2", `${name}.qcow2`, "1M");
  };
const bitmapsOf = async (machine: Daemon): Promise<unknown> => {
  const rows = (await machine.execute("query-named-block-nodes", { flat: true })) as Record<
    string,
    unknown
  >[];
  return rows.flatMap((row) => (row["dirty-bitmaps"] ? [[row["node-name"], row["dirty-bitmaps"]]] : []));
};

describe("the graph", () => {
  it("is numbered and told in the same order", () =>
    compare({
      prepare: images("base", "mid", "top"),
      args: ["-drive", "if=none,id=d,file=base.qcow2,format=qcow2,node-name=drive"],
      body: async (machine) => {
        await machine.execute("blockdev-add", qcow2("mid", { backing: null }));
        await machine.execute("blockdev-add", qcow2("top", { backing: "mid" }));
        const nodes = (await machine.execute("query-named-block-nodes", { flat: true })) as Named[];
        return [await machine.execute("x-debug-query-block-graph"), nodes.map((node) => node["node-name"])];
      },
    }));

  it("lets another device use the node of a drive that none has", () =>
    compare({
      prepare: images("d"),
      args: ["-drive", "if=none,id=d0,file=d.qcow2,format=qcow2,node-name=n", "-device", "ide-hd,drive=n"],
      body: async (machine) => [await io(machine, "d0", "read 0 4k")],
    }));

  it("binds what guests of two iothreads use to neither", () =>
    compare({
      prepare: images("a", "b"),
      body: async (machine) => {
        for (const name of ["a", "b"]) {
          await machine.execute("blockdev-add", qcow2(name));
          await machine.execute("object-add", { "qom-type": "iothread", id: `io-${name}` });
          await machine.execute("device_add", {
            driver: "virtio-scsi",
            id: `s${name}`,
            iothread: `io-${name}`,
          });
          const disk = { driver: "scsi-hd", drive: name, "share-rw": true, bus: `s${name}.0` };
          await machine.execute("device_add", disk);
        }
        const reopen = (backing: string | null): Promise<string | undefined> =>
          machine.refusal("blockdev-reopen", { options: [qcow2("a", { backing })] });
        return [await reopen("b"), await reopen(null)];
      },
    }));

  it("has a view of the moment at which a filter began", () =>
    compare({
      prepare: images("src", "dst"),
      body: async (machine) => {
        await machine.execute("blockdev-add", qcow2("src"));
        await machine.execute("blockdev-add", qcow2("dst"));
        const filter = { driver: "copy-before-write", "node-name": "cbw", file: "src", target: "dst" };
        await machine.execute("blockdev-add", filter);
        await machine.execute("blockdev-add", { driver: "snapshot-access", "node-name": "old", file: "cbw" });
        const done = [
          await io(machine, "cbw", "write -P 5 0 64k"),
          await io(machine, "old", "read -P 0 0 64k"),
        ];
        return [done, await machine.execute("x-debug-query-block-graph").then(() => "told")];
      },
    }));

  it("honours what a user's own node is asked to unmap", () =>
    compare({
      prepare: (run) => {
        images("z")(run);
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 256k", "z.qcow2");
      },
      body: async (machine) => {
        await machine.execute("blockdev-add", { driver: "raw", "node-name": "r", file: qcow2("z") });
        await io(machine, "r", "write -z -u 0 128k");
        return io(machine, "z", "write -z -u 128k 64k");
      },
      after: (run) => JSON.parse(run("qemu-img", "map", "--output=json", "z.qcow2")) as unknown,
    }));
});

describe("bitmaps", () => {
  it("of jobs and filters are shown while they work", () =>
    compare({
      prepare: (run) => {
        images("src", "dst", "third")(run);
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 512k", "src.qcow2");
      },
      body: async (machine) => {
        for (const name of ["src", "dst", "third"]) await machine.execute("blockdev-add", qcow2(name));
        await machine.execute("block-dirty-bitmap-add", { node: "src", name: "b" });
        await io(machine, "src", "write -P 2 64k 128k");
        const job = { "job-id": "j", device: "src", target: "dst", "auto-finalize": false };
        const by = { sync: "bitmap", bitmap: "b", "bitmap-mode": "on-success", "filter-node-name": "top" };
        await machine.execute("blockdev-backup", { ...job, ...by });
        await machine.event("BLOCK_JOB_PENDING");
        await io(machine, "top", "write -P 3 256k 64k");
        const during = await bitmapsOf(machine);
        await machine.execute("job-finalize", { id: "j" });
        await machine.event("BLOCK_JOB_COMPLETED");
        const after = await bitmapsOf(machine);
        await machine.execute("blockdev-mirror", {
          "job-id": "m",
          device: "src",
          target: "third",
          sync: "full",
        });
        await machine.event("BLOCK_JOB_READY");
        const mirror = await bitmapsOf(machine);
        await machine.execute("block-job-cancel", { device: "m" });
        await machine.event("BLOCK_JOB_COMPLETED");
        return [during, after, mirror];
      },
    }));

  it("say nothing of what a disk never had", () =>
    compare({
      prepare: images("d"),
      body: async (machine) => {
        await machine.execute("blockdev-add", qcow2("d"));
        await machine.execute("block-dirty-bitmap-add", { node: "d", name: "b", persistent: true });
        await machine.execute("block_resize", { "node-name": "d", size: 4 * 1024 * 1024 });
        return bitmapsOf(machine);
      },
    }));

  it("that move to an overlay within a transaction are not left in the image below", () =>
    compare({
      prepare: (run) => {
        images("base", "top")(run);
        run("qemu-img", "bitmap", "--add", "base.qcow2", "b");
      },
      body: async (machine) => {
        await machine.execute("blockdev-add", qcow2("base"));
        await machine.execute("blockdev-add", qcow2("top", { backing: null }));
        const actions = [
          { type: "blockdev-snapshot", data: { node: "base", overlay: "top" } },
          { type: "block-dirty-bitmap-add", data: { node: "top", name: "b", persistent: true } },
          {
            type: "block-dirty-bitmap-merge",
            data: { node: "top", target: "b", bitmaps: [{ node: "base", name: "b" }] },
          },
          { type: "block-dirty-bitmap-remove", data: { node: "base", name: "b" } },
        ];
        return machine.refusal("transaction", { actions });
      },
      after: (run) =>
        ["base", "top"].map((name) => {
          const info = JSON.parse(run("qemu-img", "info", "--output=json", `${name}.qcow2`)) as {
            "format-specific": { data: { bitmaps?: unknown } };
          };
          return info["format-specific"].data.bitmaps;
        }),
    }));
});

describe("mirrors", () => {
  const copies: Prepare = (run) => {
    images("a", "b", "c", "fresh")(run);
    for (const name of ["a", "b", "c"])
      run("qemu-io", "-f", "qcow2", "-c", `write -q -P ${name === "b" ? 9 : 1} 0 256k`, `${name}.qcow2`);
  };
  const quorum = async (machine: Daemon): Promise<void> => {
    for (const name of ["a", "b", "c", "fresh"]) await machine.execute("blockdev-add", qcow2(name));
    const set = { driver: "quorum", "node-name": "q", "vote-threshold": 2, children: ["a", "b", "c"] };
    await machine.execute("blockdev-add", set);
  };
  const repair = { "job-id": "j", device: "q", target: "fresh", sync: "full", replaces: "b" };

  it("put a good copy in the place of a bad one", () =>
    compare({
      prepare: copies,
      body: async (machine) => {
        await quorum(machine);
        await machine.execute("blockdev-mirror", repair);
        await machine.event("BLOCK_JOB_READY");
        await machine.execute("job-complete", { id: "j" });
        const { data } = await machine.event("BLOCK_JOB_COMPLETED");
        const { nodes, edges } = (await machine.execute("x-debug-query-block-graph")) as {
          nodes: { id: number; name: string }[];
          edges: { name: string; child: number }[];
        };
        const at = edges.find(({ name }) => name === "children.1");
        return [data, nodes.find(({ id }) => id === at?.child)?.name];
      },
      after: (run) => run("qemu-img", "compare", "a.qcow2", "fresh.qcow2"),
    }));

  it("do not where somebody else looks at that copy, then or later", () => {
    let last: Daemon | undefined;
    return compare({
      prepare: copies,
      body: async (machine) => {
        last = machine;
        await quorum(machine);
        await machine.execute("blockdev-add", {
          driver: "raw",
          "node-name": "r",
          file: "b",
          "read-only": true,
        });
        const refused = await machine.refusal("blockdev-mirror", repair);
        await machine.execute("blockdev-del", { "node-name": "r" });
        await machine.execute("blockdev-mirror", repair);
        await machine.event("BLOCK_JOB_READY");
        await machine.execute("blockdev-add", {
          driver: "raw",
          "node-name": "r",
          file: "b",
          "read-only": true,
        });
        await machine.execute("job-complete", { id: "j" });
        const { data } = await machine.event("BLOCK_JOB_COMPLETED");
        return [refused, data];
      },
      after: () => last?.errors.replace(/^[^:]+: /, ""),
    });
  });

  it("fill the rest of clusters that are larger than theirs from the target's own backing file", () =>
    compare({
      prepare: (run) => {
        run("qemu-img", "create", "-q", "-f", "raw", "base.raw", "4M");
        run("qemu-io", "-f", "raw", "-c", "write -q -P 7 0 4M", "base.raw");
        const over = (name: string, cluster: string): void => {
          const size = ["-o", `cluster_size=${cluster}`, "-b", "base.raw", "-F", "raw"];
          run("qemu-img", "create", "-q", "-f", "qcow2", ...size, name);
        };
        over("src.qcow2", "64k");
        over("dst.qcow2", "512k");
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 1216k 512", "src.qcow2");
      },
      args: ["-drive", "if=none,id=d,file=src.qcow2,format=qcow2"],
      body: async (machine) => {
        const job = { "job-id": "j", device: "d", target: "dst.qcow2", format: "qcow2" };
        await machine.execute("drive-mirror", { ...job, sync: "top", mode: "existing" });
        await machine.event("BLOCK_JOB_READY");
        await machine.execute("job-complete", { id: "j" });
        return (await machine.event("BLOCK_JOB_COMPLETED")).data?.["error"];
      },
      after: (run) => run("qemu-img", "compare", "src.qcow2", "dst.qcow2"),
    }));

  it("keep to their speed where a target does not tell zeroes from data", () =>
    compare({
      prepare: () => undefined,
      body: async (machine) => {
        for (const name of ["s", "t"])
          await machine.execute("blockdev-add", { driver: "null-co", "node-name": name, size: 1024 * 1024 });
        const speed = { speed: 65_536, "buf-size": 65_536 };
        await machine.execute("blockdev-mirror", {
          "job-id": "j",
          device: "s",
          target: "t",
          sync: "full",
          ...speed,
        });
        await machine.execute("block-job-cancel", { device: "j", force: true });
        return (await machine.event("BLOCK_JOB_CANCELLED")).data;
      },
    }));
});

it("names what nested options of lists and of blkverify describe", () =>
  compare({
    prepare: (run) => {
      images("t")(run);
      writeFileSync(join(folder, "unused"), "");
      run("qemu-img", "create", "-q", "-f", "raw", "copy.raw", "1M");
    },
    args: [
      "-drive",
      "if=none,id=v,file.driver=blkverify,file.raw.filename=copy.raw,file.test.file.filename=t.qcow2",
    ],
    body: async (machine) => {
      const rows = (await machine.execute("query-block")) as { inserted: { file: string } }[];
      return rows.map(({ inserted }) => inserted.file);
    },
  }));
