// Bad input to the library: a refused open leaves nothing open and nothing written, a corrupt image is an error of its own
// class, a denied file keeps its errno, a chain that a gate does not allow stays closed, and no promise is left over.
import { chmodSync, chownSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type Engine,
  createEngine,
  createImage,
  fileGate,
  mirror,
  nodeHost,
  openNode,
} from "../../src/node.ts";
import { must } from "../support/tools.ts";
import { badImages, contentOf, goodImage } from "./support/bad-images.ts";

let directory: string;
let engine: Engine;
const rejections: unknown[] = [];
const onRejection = (reason: unknown): void => void rejections.push(reason);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-badlib-"));
  engine = createEngine({ arenaBytes: 2 ** 22, gate: fileGate("local", nodeHost()) });
  process.on("unhandledRejection", onRejection);
});

afterEach(async () => {
  await engine.close();
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", onRejection);
  rmSync(directory, { recursive: true, force: true });
  expect(rejections.splice(0)).toEqual([]);
});

const path = (name: string): string => join(directory, name);

/** Files below the test's directory that this process has open. */
function openFiles(): string[] {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const name = readlinkSync(`/proc/self/fd/${fd}`);
      return name.startsWith(directory) ? [name] : [];
    } catch {
      return [];
    }
  });
}

function open(name: string, options: { engine?: Engine } = {}): Promise<unknown> {
  const file = { driver: "file" as const, filename: path(name) };
  return openNode({ driver: "qcow2", file }, { engine, ...options });
}

test.each(badImages.filter(({ opens }) => !opens).map((image) => [image.name, image] as const))(
  "%s is refused, and nothing stays open",
  async (_name, image) => {
    await image.make(path);
    const before = readdirSync(directory).map((file) => contentOf(path(file)));
    await expect(open("image")).rejects.toThrow(/\S/);
    expect(engine.graph.nodes).toEqual([]);
    expect(openFiles()).toEqual([]);
    expect(engine.graph.arena.inUse).toBe(0);
    const after = readdirSync(directory).map((file) => contentOf(path(file)));
    expect(after.every((content, index) => content === before[index])).toBe(true);
  },
);

test("without a gate no backing file is opened", async () => {
  await goodImage(path("base"));
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", path("top"));
  await using closed = createEngine({ arenaBytes: 2 ** 22 });
  await expect(open("top", { engine: closed })).rejects.toThrow(/no gate allows it/);
  expect(openFiles()).toEqual([]);
});

test.skipIf(process.getuid?.() !== 0 || process.seteuid === undefined)(
  "a file without permission is EACCES",
  async () => {
    await goodImage(path("secret"));
    chmodSync(path("secret"), 0o600);
    chownSync(path("secret"), 0, 0);
    chmodSync(directory, 0o755);
    process.seteuid!(65534);
    try {
      await expect(open("secret")).rejects.toMatchObject({
        code: "EACCES",
        message: `Could not open '${path("secret")}': Permission denied (\`readOnly: true\` opens it for reading only)`,
      });
    } finally {
      process.seteuid!(0);
    }
  },
);

test("an image that cannot be made leaves no file, and one that is there is left alone", async () => {
  const spec = (name: string, size: number) =>
    ({ driver: "qcow2", size, file: { driver: "file", filename: path(name) } }) as const;
  for (const size of [2 ** 62, -512, 1.5, Number.NaN]) {
    await expect(createImage(spec("huge", size), { engine })).rejects.toThrow(/Image size|exceeds maximum/);
    await expect(createImage({ ...spec("huge", size), driver: "raw" }, { engine })).rejects.toThrow(
      /Image size/,
    );
  }
  await expect(createImage(spec("no/where", 512), { engine })).rejects.toThrow(/No such file or directory/);
  expect(readdirSync(directory)).toEqual([]);
  await goodImage(path("there"));
  const before = contentOf(path("there"));
  await expect(createImage(spec("there", 2 ** 20), { engine })).rejects.toMatchObject({ code: "EEXIST" });
  expect(contentOf(path("there")) === before).toBe(true);
});

test("a mirror to a smaller disk fails and lets both go", async () => {
  const memory = (size: number) => ({ driver: "memory", size }) as const;
  await using source = await openNode(memory(2 ** 20), { engine });
  await using target = await openNode(memory(2 ** 19), { engine });
  const job = await mirror(source, target);
  await expect(job.done).rejects.toThrow("Source and target image have different sizes");
  expect(engine.jobs.jobs).toEqual([]);
  await target.write(0, new Uint8Array(512));
  await source.write(0, new Uint8Array(512));
});
