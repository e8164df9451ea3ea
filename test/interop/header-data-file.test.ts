// Data files that only an image's header names: those beside the image work; no file elsewhere, no link to one and none of the
// system's is opened, for writing or for reading; and who only looks at metadata opens none at all.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEngine, fileGate, measure, nodeHost, openNode, snapshots } from "../../src/node.ts";

const cli = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));
const MiB = 1 << 20;

let folder: string;
/** Where the image lies, with its backing file; the file that is not its business lies in `out`. */
let home: string;
let victim: string;
const precious = Buffer.from("precious\n".repeat(30_000));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-named-"));
  home = join(folder, "in");
  mkdirSync(home);
  mkdirSync(join(folder, "out"));
  victim = join(folder, "out", "victim");
  writeFileSync(victim, precious);
  writeFileSync(join(home, "backing.raw"), Buffer.alloc(MiB, 0xcc));
  symlinkSync("../out/victim", join(home, "link"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** An image with that name in its header, made where the name is harmless. */
function imageNaming(name: string): void {
  const harmless = "x".repeat(name.length);
  const options = `data_file=${harmless}`;
  const words = ["create", "-q", "-f", "qcow2", "-o", options, "-b", "backing.raw", "-F", "raw", "x.qcow2"];
  execFileSync("qemu-img", words, { cwd: home });
  const image = readFileSync(join(home, "x.qcow2"));
  image.write(name, image.indexOf(harmless));
  writeFileSync(join(home, "x.qcow2"), image);
}

function run(...words: string[]): { status: number | null; told: string } {
  const done = spawnSync(process.execPath, [cli, ...words], { cwd: home, encoding: "utf8" });
  return { status: done.status, told: done.stdout + done.stderr };
}

const writing = [
  ["rebase", "-b", "", "x.qcow2"],
  ["stream", "x.qcow2"],
  ["resize", "--shrink", "x.qcow2", "64k"],
  ["io", "-c", "write 0 64k", "x.qcow2"],
];
const reading = [["convert", "-O", "raw", "x.qcow2", "o.raw"]];

describe.each([...writing, ...reading])("%s", (...words) => {
  it.each(["/…/out/victim", "../out/victim", "link", "/proc/self/mem", "/dev/zero"])(
    "refuses a data file %s",
    (pattern) => {
      imageNaming(pattern.replace("/…", folder));
      const { status, told } = run(...words);
      expect(told).toContain("Could not open data file: data-file name ");
      expect(status).toBe(1);
      expect(readFileSync(victim).equals(precious)).toBe(true);
    },
  );

  it("works with one beside the image", () => {
    imageNaming("beside.raw");
    writeFileSync(join(home, "beside.raw"), Buffer.alloc(MiB));
    expect(run(...words)).toMatchObject({ status: 0 });
  });

  it("works with one elsewhere that the user names, or lets the image name", () => {
    const elsewhere = join(folder, "out", "data.raw");
    imageNaming(elsewhere);
    writeFileSync(elsewhere, Buffer.alloc(MiB));
    const [verb = "", ...rest] = words;
    const allowed = verb === "io" || verb === "stream" ? run(verb, "--gate", "all", ...rest) : undefined;
    expect(allowed ?? run(verb, ...rest, "--gate", "all")).toMatchObject({ status: 0 });
  });
});

it("info, measure and snapshot -l do without the data file, wherever it lies", () => {
  imageNaming("/proc/self/mem");
  for (const words of [
    ["info", "x.qcow2"],
    ["measure", "-O", "qcow2", "x.qcow2"],
    ["snapshot", "-l", "x.qcow2"],
  ]) {
    expect(run(...words), words[0]).toMatchObject({ status: 0 });
  }
  expect(run("info", "--output", "json", "x.qcow2").told).toContain('"data-file": "/proc/self/mem"');
});

it("the library describes an image without its data file, and says so to who wants to read it", async () => {
  imageNaming("nowhere.raw");
  const engine = createEngine({ gate: fileGate("local", nodeHost()) });
  const file = { driver: "file", filename: join(home, "x.qcow2") } as const;
  const node = await openNode({ driver: "qcow2", file, "read-only": true }, { engine, metadataOnly: true });
  expect((await node.info())["virtual-size"]).toBe(MiB);
  expect(snapshots(node)).toEqual([]);
  expect((await measure({ format: "qcow2", source: node })).requiredBytes).toBeGreaterThan(MiB);
  await node.close();
  await engine.close();
});

it("what was opened is the file that the gate looked at", async () => {
  imageNaming("beside.raw");
  writeFileSync(join(home, "beside.raw"), Buffer.alloc(MiB));
  const gate = fileGate("local", nodeHost());
  // As if the file had been exchanged for another between the look and the opening.
  const engine = createEngine({
    gate: async (request) => {
      const answer = await gate(request);
      return request.kind === "data-file" ? { ...answer, identity: "0:0" } : answer;
    },
  });
  const file = { driver: "file", filename: join(home, "x.qcow2") } as const;
  await expect(openNode({ driver: "qcow2", file }, { engine })).rejects.toThrow(
    "was exchanged while it was being opened",
  );
  expect(engine.graph.nodes).toEqual([]);
  await engine.close();
});

it("an image that becomes writable asks the gate again", async () => {
  imageNaming("beside.raw");
  writeFileSync(join(home, "beside.raw"), Buffer.alloc(MiB));
  const gate = fileGate("local", nodeHost());
  const asked: string[] = [];
  const engine = createEngine({
    gate: (request) => {
      asked.push(`${request.kind} ${request.access}`);
      const refused = request.access === "write";
      return refused ? Promise.resolve({ refuse: "not for writing" }) : gate(request);
    },
  });
  const file = { driver: "file", filename: join(home, "x.qcow2") } as const;
  const node = await openNode({ driver: "qcow2", file, "read-only": true }, { engine });
  await expect(engine.graph.setReadOnly(node.blockNode, false)).rejects.toThrow(
    "Could not open data file: not for writing",
  );
  expect(asked).toEqual(["data-file read", "backing read", "data-file write"]);
  expect(node.readOnly).toBe(true);
  await node.close();
  await engine.close();
});
