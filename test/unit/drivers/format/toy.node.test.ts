// A format is told in one place: the toy of test/unit/support/toy-format is added to the registry by one line, and every verb, the
// library, QMP and the man pages have it, byte for byte right, with no other change.
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, beforeEach, expect, it, vi } from "vitest";
import type { NodeSpec } from "../../../../src/block/model/contract.ts";
import type * as Registry from "../../../../src/drivers/index.ts";
import type { CreateImageSpec, OpenSpec } from "../../../../src/node.ts";
import { addCheck } from "../../../../src/cli/verbs/check/command.ts";
import { addConvert } from "../../../../src/cli/verbs/convert/command.ts";
import { addCreate } from "../../../../src/cli/verbs/create/command.ts";
import { addInfo } from "../../../../src/cli/verbs/info/command.ts";
import { addMan } from "../../../../src/cli/verbs/completion/command.ts";
import { addMeasure } from "../../../../src/cli/verbs/measure/command.ts";
import { contentOf } from "../../../support/content.ts";
import { same } from "../../support/graph.ts";

// The one line.
vi.mock("../../../../src/drivers/index.ts", async (original) => {
  const registry = await original<typeof Registry>();
  const { toy } = await import("../../support/toy-format/index.ts");
  return { ...registry, portableDrivers: [...registry.portableDrivers, toy] };
});

const { createEngine, createImage, engineCommands, openNode } = await import("../../../../src/node.ts");
const MiB = 1024 * 1024;
const content = contentOf(MiB);
let directory = "";
let printed = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "blockwright-toy-"));
});

beforeEach(() => {
  printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  return () => vi.restoreAllMocks();
});

afterAll(() => rm(directory, { recursive: true }));

function path(name: string): string {
  return join(directory, name);
}

/** Runs the program with these arguments, in this process. */
async function blockwright(...words: readonly string[]): Promise<number> {
  printed = "";
  const program = new Command("blockwright");
  for (const add of [addCheck, addConvert, addCreate, addInfo, addMeasure]) add(program);
  addMan(program);
  await program.parseAsync(["node", "blockwright", ...words]);
  const status = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  return status;
}

async function filled(name: string): Promise<string> {
  const file = path(name);
  await blockwright("create", "-f", "toy", file, "1M");
  const spec = { driver: "toy", file: { driver: "file", filename: file } } as unknown as OpenSpec;
  await using engine = createEngine();
  await using node = await openNode(spec, { engine });
  await node.write(0, content.subarray(0, 300_000));
  return file;
}

it("makes images, and says what there is to choose", async () => {
  expect(await blockwright("create", "-f", "toy", "-o", "cluster_size=8k", path("a.toy"), "1M")).toBe(0);
  expect(printed).toBe(`Formatting '${path("a.toy")}', fmt=toy size=1048576 cluster_size=8192\n`);
  expect((await readFile(path("a.toy"))).subarray(0, 16).toString("hex")).toBe(
    "4257544f000020000000000000100000",
  );
  expect(await blockwright("create", "-f", "toy", "-o", "help")).toBe(0);
  expect(printed).toContain(
    "Supported toy options:\n  cluster_size=<size>    - toy cluster size\n  size=<size>            - Virtual disk size\n",
  );
  const wrong = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  expect(await blockwright("create", "-f", "toy", "-b", "x", path("b.toy"), "1M")).toBe(1);
  expect(String(wrong.mock.calls)).toContain("Backing file not supported for file format 'toy'");
});

it("describes, probes, checks and measures them", async () => {
  const file = await filled("c.toy");
  expect(await blockwright("info", "--output", "json", file)).toBe(0);
  expect(JSON.parse(printed)).toMatchObject({ format: "toy", "virtual-size": MiB, "cluster-size": 4096 });
  expect(await blockwright("check", file)).toBe(0);
  expect(printed).toContain("No errors were found on the image.\n74/256 = 28.91% allocated");
  const damaged = path("damaged.toy");
  await writeFile(damaged, await readFile(file));
  await truncate(damaged, (await stat(damaged)).size - 4096);
  expect(await blockwright("check", "-f", "toy", damaged)).toBe(1);
  expect(await blockwright("measure", "-O", "toy", "-o", "cluster_size=64k", "--size", "1M")).toBe(0);
  expect(printed).toBe("required size: 327680\nfully allocated size: 1376256\n");
});

it("converts into the format and out of it", async () => {
  const plain = path("plain.img");
  await writeFile(plain, content);
  expect(await blockwright("convert", "-O", "toy", plain, path("d.toy"))).toBe(0);
  expect(await blockwright("convert", "-O", "qcow2", path("d.toy"), path("d.qcow2"))).toBe(0);
  expect(await blockwright("convert", "-f", "qcow2", path("d.qcow2"), path("back.img"))).toBe(0);
  expect(same(await readFile(path("back.img")), content)).toBe(true);
});

it("is made, added and shown by QMP, whose schema has it", async () => {
  await using engine = createEngine();
  const registry = engineCommands({
    version: { qemu: { major: 7, minor: 2, micro: 0 }, package: "" },
    onQuit: () => undefined,
  });
  const run = (name: string, args: Record<string, unknown>): Promise<unknown> =>
    registry.run(name, args as never, { engine, afterReply: () => undefined });
  const file = { driver: "file", filename: path("e.toy") };
  await writeFile(file.filename, "");
  const options = { driver: "toy", file, size: MiB, "cluster-size": 4096 };
  await run("blockdev-create", { "job-id": "make", options });
  await expect.poll(() => run("query-jobs", {})).toMatchObject([{ id: "make", status: "concluded" }]);
  expect(await run("query-jobs", {})).not.toHaveProperty("[0].error");
  await expect(run("blockdev-create", { "job-id": "b", options: { ...options, odd: 1 } })).rejects.toThrow(
    "Parameter 'options.odd' is unexpected",
  );
  await run("blockdev-add", { driver: "toy", "node-name": "t", file });
  const nodes = (await run("query-named-block-nodes", { flat: true })) as NodeSpec[];
  expect(nodes.find((node) => node["node-name"] === "t")).toMatchObject({
    drv: "toy",
    image: { format: "toy", "virtual-size": MiB, "cluster-size": 4096 },
  });
  expect(JSON.stringify(await run("query-qmp-schema", {}))).toContain('"toy"');
});

it("stands in the man pages", async () => {
  expect(await blockwright("man", "create")).toBe(0);
  expect(printed).toContain('.SS "toy: new images"\n.TP\n.B "size=<size>"');
  expect(printed).toContain('.B "cluster_size=<size>"\ntoy cluster size.');
});

it("is made by the library in a new file, which does not outlive a failure", async () => {
  await using engine = createEngine();
  const file = { driver: "file", filename: path("f.toy") } as const;
  const spec = (more: object): CreateImageSpec =>
    ({ driver: "toy", file, size: MiB, ...more }) as unknown as CreateImageSpec;
  await expect(createImage(spec({ "cluster-size": 3 }), { engine })).rejects.toThrow(
    "Invalid cluster size 3",
  );
  await expect(stat(file.filename)).rejects.toThrow("ENOENT");
  await createImage(spec({}), { engine });
  await using node = await openNode({ driver: "toy", file } as unknown as OpenSpec, { engine });
  expect(node.length).toBe(MiB);
});
