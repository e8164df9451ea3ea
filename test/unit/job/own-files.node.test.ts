// Commands that make images never make one of a file that the engine uses itself: with image locks, and without them.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { createEngine, createImage, openNode } from "../../../src/node.ts";
import type { Engine } from "../../../src/machine/engine.ts";
import { engineCommands } from "../../../src/server/monitor/commands/index.ts";
import { parseJson } from "../../../src/wire/qapi/index.ts";

const MiB = 1 << 20;
const version = { qemu: { major: 7, minor: 2, micro: 22 }, package: "test" };
const directory = mkdtempSync(join(tmpdir(), "blockwright-own-"));
const at = (name: string): string => join(directory, name);
const file = (name: string) => ({ driver: "file", filename: at(name) }) as const;

afterEach(() => rmSync(directory, { recursive: true, force: true }));

function run(engine: Engine, name: string, args: Record<string, unknown>): Promise<unknown> {
  const commands = engineCommands({ version, onQuit: () => undefined });
  return commands.run(name, parseJson(JSON.stringify(args)), { engine, afterReply: () => undefined });
}

describe.each(["auto", "off"] as const)("with native calls %s", (native) => {
  /** A qcow2 image with data in it, over a raw one, open as `s`. */
  async function prepared(): Promise<{ engine: Engine; kept: Map<string, Buffer> }> {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory);
    writeFileSync(at("base.raw"), Buffer.alloc(MiB, 5));
    writeFileSync(at("data.raw"), Buffer.alloc(MiB, 6));
    const engine = createEngine({ native });
    const image = {
      driver: "qcow2",
      file: file("s.qcow2"),
      "data-file": file("data.raw"),
      size: MiB,
    } as const;
    await createImage({ ...image, "backing-file": "base.raw", "backing-fmt": "raw" }, { engine });
    const backing = { driver: "raw", file: file("base.raw") } as const;
    const spec = {
      driver: "qcow2",
      "node-name": "s",
      file: file("s.qcow2"),
      "data-file": file("data.raw"),
      backing,
    };
    await run(engine, "blockdev-add", spec);
    const names = ["base.raw", "data.raw", "s.qcow2"];
    return { engine, kept: new Map(names.map((name) => [name, readFileSync(at(name))])) };
  }

  test.each([
    [
      "blockdev-snapshot-sync",
      { "node-name": "s", "snapshot-node-name": "o", format: "qcow2" },
      "snapshot-file",
    ],
    ["drive-backup", { "job-id": "j", device: "s", sync: "full", format: "qcow2" }, "target"],
    ["drive-mirror", { "job-id": "j", device: "s", sync: "full", format: "raw" }, "target"],
  ])("%s onto the disk's own files", async (command, args, key) => {
    const { engine, kept } = await prepared();
    for (const [name, content] of kept) {
      await expect(run(engine, command, { ...args, [key]: at(name) }), name).rejects.toThrow();
      expect(readFileSync(at(name)).equals(content), name).toBe(true);
    }
    await engine.close();
  });

  test("blockdev-create and the library's createImage() of them", async () => {
    const { engine, kept } = await prepared();
    const ends: unknown[] = [];
    engine.graph.events.subscribe(({ event, data }) => {
      if (event === "JOB_STATUS_CHANGE" && data["status"] === "concluded") ends.push(data["id"]);
    });
    for (const [name, content] of kept) {
      const options = { driver: "file", filename: at(name), size: 0 };
      await run(engine, "blockdev-create", { "job-id": name.replace(".", "-"), options });
      await expect.poll(() => ends).toContain(name.replace(".", "-"));
      for (const driver of ["raw", "qcow2"] as const) {
        const made = createImage({ driver, file: file(name), size: MiB }, { engine, overwrite: true });
        await expect(made, name).rejects.toThrow();
      }
      // Another engine of this process knows them, too.
      const other = createEngine({ native });
      const made = createImage(
        { driver: "raw", file: file(name), size: 0 },
        { engine: other, overwrite: true },
      );
      await expect(made, name).rejects.toThrow();
      await other.close();
      expect(readFileSync(at(name)).equals(content), name).toBe(true);
    }
    await engine.close();
  });

  test("an image opened for writing excludes another writer in this process", async () => {
    const { engine } = await prepared();
    const other = createEngine({ native });
    const refused = openNode({ driver: "raw", file: file("s.qcow2"), "read-only": false }, { engine: other });
    await expect(refused.then((node) => node.write(0, new Uint8Array(512)))).rejects.toThrow(
      'Failed to get "write" lock',
    );
    await other.close();
    await engine.close();
  });
});

test.each([
  [
    "blockdev-snapshot-sync",
    { "node-name": "n", "snapshot-node-name": "o", format: "qcow2" },
    "snapshot-file",
  ],
  ["drive-backup", { "job-id": "j", device: "n", sync: "none", format: "qcow2" }, "target"],
  ["drive-mirror", { "job-id": "j", device: "n", sync: "none", format: "qcow2" }, "target"],
])(
  "a slice of a file goes into an overlay's header by a name that shows the slice: %s",
  async (command, args, key) => {
    mkdirSync(directory, { recursive: true });
    writeFileSync(at("f"), Buffer.concat([Buffer.alloc(65_536, "A"), Buffer.alloc(MiB, "B")]));
    const engine = createEngine();
    const slice = { driver: "raw", "node-name": "n", file: file("f"), offset: 65_536, size: MiB };
    await run(engine, "blockdev-add", slice);
    await run(engine, command, { ...args, [key]: at("ov.qcow2") });
    await engine.close();
    const header = readFileSync(at("ov.qcow2"));
    const start = header.readUInt32BE(12);
    const name = header.subarray(start, start + header.readUInt32BE(16)).toString();
    expect(name.startsWith("json:")).toBe(true);
    expect(JSON.parse(name.slice(5))).toEqual({
      driver: "raw",
      offset: 65_536,
      size: MiB,
      file: { driver: "file", filename: at("f") },
    });
  },
);
