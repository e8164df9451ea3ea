// The Node entry: images in files, the shared engine, the gate, and making images without harming what is there.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  BlockError,
  createEngine,
  createImage,
  defaultEngine,
  fileGate,
  nodeHost,
  openNode,
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
      message: `Could not create '${at("precious")}': File exists`,
    });
    expect(readFileSync(at("precious"), "utf8")).toBe("precious");
    await createImage(spec, { overwrite: true });
    await using disk = await openNode({ driver: "qcow2", file: fileOf("precious") });
    expect(disk.length).toBe(MiB);
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
