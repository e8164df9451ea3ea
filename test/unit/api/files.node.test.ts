// The Node entry: images in files, the shared engine, the gate, and making images without harming what is there.
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  BlockError,
  connectEngine,
  createEngine,
  createImage,
  defaultEngine,
  fileGate,
  nodeHost,
  openNode,
  serveEngine,
} from "../../../src/node.ts";
import { MiB, pattern, same } from "../support/graph.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-api-"));
});

afterEach(async () => {
  await defaultEngine().graph.close();
  rmSync(directory, { recursive: true, force: true });
});

const at = (name: string): string => join(directory, name);

function fileOf(name: string): { driver: "file"; filename: string } {
  return { driver: "file", filename: at(name) };
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("images in files", () => {
  it("are made, written, and still there after they were closed", async () => {
    await createImage({ driver: "qcow2", file: fileOf("a.qcow2"), size: 4 * MiB });
    {
      await using disk = await openNode({ driver: "qcow2", file: fileOf("a.qcow2") });
      expect(disk.engine).toBe(defaultEngine());
      await disk.write(MiB, pattern(100_000, 4));
    }
    await using disk = await openNode({ driver: "qcow2", file: fileOf("a.qcow2"), "read-only": true });
    expect(same(await disk.read(MiB, 100_000), pattern(100_000, 4))).toBe(true);
    expect(await rejection(disk.write(0, pattern(512, 1)))).toBeInstanceOf(BlockError);
  });

  it("raw ones are files of their size, and streams reach them", async () => {
    await createImage({ driver: "raw", file: fileOf("a.raw"), size: 3 * MiB });
    expect(statSync(at("a.raw")).size).toBe(3 * MiB);
    const data = pattern(3 * MiB, 6);
    await using disk = await openNode({ driver: "raw", file: fileOf("a.raw") });
    await new Blob([data.slice()]).stream().pipeTo(disk.writable());
    expect(same(new Uint8Array(readFileSync(at("a.raw"))), data)).toBe(true);
    expect(same(new Uint8Array(await new Response(disk.readable()).arrayBuffer()), data)).toBe(true);
  });

  it("are not made over a file that exists, unless that is asked for", async () => {
    writeFileSync(at("precious"), "precious");
    const spec = { driver: "qcow2", file: fileOf("precious"), size: MiB } as const;
    const error = await rejection(createImage(spec));
    expect(error).toMatchObject({
      code: "EEXIST",
      message: `Could not create '${at("precious")}': File exists (\`overwrite: true\` replaces it)`,
    });
    expect(readFileSync(at("precious"), "utf8")).toBe("precious");
    await createImage(spec, { overwrite: true });
    await using disk = await openNode({ driver: "qcow2", file: fileOf("precious") });
    expect(disk.length).toBe(MiB);
  });

  it("that can't be made by their options leave what was there", async () => {
    writeFileSync(at("precious"), "precious");
    const file = fileOf("precious");
    const wrong = [
      { driver: "qcow2", file, size: MiB, "cluster-size": 1000 },
      { driver: "qcow2", file, size: MiB, version: "v2", "extended-l2": true },
      { driver: "qcow2", file, size: MiB, "backing-file": "x".repeat(2000), "backing-fmt": "raw" },
      { driver: "luks", file, size: MiB, "key-secret": "none" },
    ] as const;
    for (const spec of wrong) {
      await expect(createImage(spec, { overwrite: true })).rejects.toThrow();
      expect(readFileSync(at("precious"), "utf8")).toBe("precious");
    }
  });

  it.each(["precious", "./precious", "sub/../precious", "soft", "hard"])(
    "are never their own data file or backing file, by the name %s",
    async (name) => {
      writeFileSync(at("precious"), "precious");
      mkdirSync(at("sub"));
      symlinkSync("precious", at("soft"));
      linkSync(at("precious"), at("hard"));
      const spec = { driver: "qcow2", file: fileOf("precious"), size: MiB } as const;
      for (const own of [
        { "data-file": { driver: "file", filename: `${directory}/${name}` } as const },
        { "backing-file": name, "backing-fmt": "raw" as const },
        { "backing-file": `${directory}/${name}`, "backing-fmt": "raw" as const },
      ]) {
        const error = await rejection(createImage({ ...spec, ...own }, { overwrite: true }));
        expect(error).toMatchObject({ code: "EINVAL" });
        expect(String(error)).toContain("can't be its own");
      }
      expect(readFileSync(at("precious"), "utf8")).toBe("precious");
      // Also where none of them is there yet.
      const fresh = { ...spec, file: fileOf("new"), "data-file": fileOf("sub/../new") };
      expect(await rejection(createImage(fresh))).toMatchObject({ code: "EINVAL" });
      expect(() => statSync(at("new"))).toThrow("ENOENT");
    },
  );

  it.each(["auto", "off"] as const)("have one maker, with native calls %s", async (native) => {
    const engines = [createEngine({ native }), createEngine({ native })];
    for (let round = 0; round < 40; round++) {
      const name = `${native}${round}`;
      const spec = { driver: round % 2 ? "qcow2" : "raw", file: fileOf(name), size: MiB } as const;
      const made = await Promise.allSettled(
        engines.map(async (engine, index) => {
          for (let turn = 0; turn < (index * (round >> 1)) % 8; turn++)
            await new Promise((resolve) => setImmediate(resolve));
          await createImage(spec, { engine, overwrite: true });
        }),
      );
      if (made.every(({ status }) => status === "rejected")) continue;
      await using disk = await openNode({ driver: spec.driver, file: fileOf(name) }, { engine: engines[0]! });
      expect(disk.length, name).toBe(MiB);
    }
    for (const engine of engines) await engine.close();
  });

  it("that could not be formatted leave no file", async () => {
    const spec = { driver: "qcow2", file: fileOf("bad"), size: MiB, "cluster-size": 1000 } as const;
    expect(await rejection(createImage(spec))).toMatchObject({ code: "EINVAL" });
    expect(() => statSync(at("bad"))).toThrow("ENOENT");
  });
});

describe("the gate", () => {
  it("denies by default, and is chosen for an engine or a node", async () => {
    await createImage({ driver: "raw", file: fileOf("base.raw"), size: MiB });
    const overlay = { driver: "qcow2", file: fileOf("top.qcow2"), size: MiB } as const;
    await createImage({ ...overlay, "backing-file": "base.raw", "backing-fmt": "raw" });
    const spec = { driver: "qcow2", file: fileOf("top.qcow2") } as const;
    expect(await rejection(openNode(spec))).toMatchObject({ code: "EPERM" });
    const gate = fileGate("same-dir", nodeHost());
    {
      await using disk = await openNode(spec, { gate });
      expect(disk.chain.map(({ driver }) => driver)).toEqual(["qcow2", "raw"]);
    }
    // The gate was given to that node alone.
    expect(await rejection(openNode(spec))).toMatchObject({ code: "EPERM" });
    await using engine = createEngine({ gate, arenaBytes: MiB, native: "off" });
    const disk = await openNode(spec, { engine });
    expect(disk.chain).toHaveLength(2);
  });
});

it("open by their names in an engine behind a port, and their format is found", async () => {
  await createImage({ driver: "qcow2", file: fileOf("disk.qcow2"), size: MiB });
  const { port1, port2 } = new MessageChannel();
  const served = serveEngine(port1, createEngine());
  const engine = await connectEngine(port2);
  for (const name of [at("disk.qcow2"), pathToFileURL(at("disk.qcow2"))]) {
    await using disk = await engine.open(name, { maxInFlight: 2 });
    expect([disk.length, disk.readOnly, (await disk.info()).format]).toEqual([MiB, false, "qcow2"]);
  }
  await expect(engine.open(at("nothing"))).rejects.toMatchObject({ code: "ENOENT" });
  await engine.close();
  await served;
});
