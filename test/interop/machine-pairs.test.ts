// What QEMU's own tests of machines look at beside their subject, program by program against QEMU's own: names in headers, caching that
// is shared with what lies above, how a running guest keeps others away, what reserved space is, and how failures at the end are told.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { program } from "./support/twins.ts";

type Whose = "ours" | "theirs";
type Name = "qemu-img" | "qemu-io" | "qemu-system-x86_64";

const folders = { ours: "", theirs: "" };

beforeAll(() => {
  for (const whose of ["ours", "theirs"] as const)
    folders[whose] = mkdtempSync(join(tmpdir(), "blockwright-machine-pairs-"));
  prepare("qemu-img", "create -q -f qcow2 base.qcow2 15M");
  prepare("qemu-img", "create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2");
  prepare("qemu-img", "create -q -f qcow2 data.qcow2 64M");
  for (const range of ["0 1M", "2M 1M", "4M 1M", "32M 1M"])
    prepareWords("qemu-io", ["-c", `write ${range}`, "data.qcow2"]);
  prepare("qemu-img", "convert -O raw data.qcow2 data.raw");
  prepare("qemu-img", "create -q -f qcow2 empty.qcow2 64M");
});

afterAll(() => {
  for (const folder of Object.values(folders)) rmSync(folder, { recursive: true, force: true });
});

function prepare(tool: string, line: string): void {
  prepareWords(tool, line.split(" "));
}

function prepareWords(tool: string, words: readonly string[]): void {
  for (const folder of Object.values(folders)) execFileSync(tool, words, { cwd: folder });
}

/** How a program is called: the machine without its default devices, and without a guest that runs. */
function callOf(whose: Whose, name: Name, words: readonly string[]): [string, string[]] {
  const quiet = name === "qemu-system-x86_64" ? ["-nodefaults", "-display", "none", "-S"] : [];
  const ours = [program, `--run-as=${name}`, ...quiet, ...words];
  return whose === "ours" ? [process.execPath, ours] : [name, [...quiet, ...words]];
}

interface Said {
  status: number | null;
  stdout: string;
  stderr: string;
}

function say(whose: Whose, name: Name, words: readonly string[], input = ""): Said {
  const [command, args] = callOf(whose, name, words);
  const cwd = folders[whose];
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8", input });
  const plain = (text: string): string => text.replaceAll(cwd, "DIR");
  return { status, stdout: plain(stdout), stderr: plain(stderr) };
}

function both(name: Name, words: readonly string[], input = ""): Record<Whose, Said> {
  return { ours: say("ours", name, words, input), theirs: say("theirs", name, words, input) };
}

/** What a human monitor says of caches, to `lines`; the real one may end before all it has said has left, and is asked again. */
function cachesOf(whose: Whose, args: readonly string[], lines: readonly string[]): string[] {
  const asked = lines.filter((line) => line.startsWith("info block")).length;
  const input = `${lines.join("\n")}\nquit\n`;
  for (let tries = 1; ; tries++) {
    for (const name of ["by.qcow2", "by2.qcow2"]) rmSync(join(folders[whose], name), { force: true });
    const { stdout } = say(whose, "qemu-system-x86_64", ["-monitor", "stdio", ...args], input);
    const told = stdout.split(/\r?\n/).filter((line) => line.includes("Cache mode"));
    if (told.length >= asked || tries === 50) return told;
  }
}

const chain =
  "if=none,file=top.qcow2,backing.file.filename=base.qcow2,node-name=image,backing.node-name=backing,backing.file.node-name=backing-file,file.node-name=file";
const nodes = ["image", "file", "backing", "backing-file"].map((name) => `info block ${name}`);

describe("caching is shared with what lies above as in QEMU", () => {
  it.each<[string, string, string[]]>([
    ["by a live snapshot", "cache.direct=on", ["snapshot_blkdev none0 by.qcow2 qcow2", "info block none0"]],
    [
      "by a live snapshot",
      "cache.no-flush=on",
      ["snapshot_blkdev none0 by2.qcow2 qcow2", "info block none0"],
    ],
    [
      "by what has none of its own",
      "cache.direct=off",
      [
        'qemu-io none0 "reopen -o file.cache.direct=off,file.cache.no-flush=off"',
        'qemu-io none0 "reopen -o backing.file.cache.direct=off,backing.file.cache.no-flush=on"',
        'qemu-io none0 "reopen -c none"',
        ...nodes,
      ],
    ],
  ])("%s: %s", (_what, cache, lines) => {
    const theirs = cachesOf("theirs", ["-drive", `${chain},${cache}`], lines);
    expect(theirs.length).toBeGreaterThan(0);
    expect(cachesOf("ours", ["-drive", `${chain},${cache}`], lines)).toEqual(theirs);
  });

  it("a name within a name may be options, which are then its own", () => {
    const drive = `if=none,file=blkdebug::json:{"filename":"top.qcow2",,"cache":{"direct":false}},node-name=image,file.node-name=bug,file.image.node-name=file`;
    const lines = [
      'qemu-io none0 "reopen -o cache.direct=on,cache.no-flush=on"',
      "info block image",
      "info block bug",
      "info block file",
    ];
    const theirs = cachesOf("theirs", ["-drive", drive], lines);
    expect(theirs.at(-1)).toContain("writeback, ignore flushes");
    expect(cachesOf("ours", ["-drive", drive], lines)).toEqual(theirs);
  });
});

it.each<[Name, string[]]>([
  ["qemu-system-x86_64", ["-drive", `${chain},file.cache.writeback=off`]],
  ["qemu-system-x86_64", ["-drive", `${chain},backing.cache.writeback=off`]],
  ["qemu-system-x86_64", ["-drive", `${chain},backing.file.cache.writeback=off`]],
  ["qemu-system-x86_64", ["-drive", "if=none,file=top.qcow2,backing.file.filename=none"]],
  ["qemu-system-x86_64", ["-drive", "if=none,file=null-co://,readonly=off,force-share=on"]],
  ["qemu-system-x86_64", ["-drive", "if=pflash,driver=null-co,size=1000"]],
  ["qemu-system-x86_64", ["-drive", "if=pflash,driver=null-co,size=9M"]],
  ["qemu-system-x86_64", ["-drive", "if=pflash,driver=null-co,size=1M,unit=1"]],
  ["qemu-system-x86_64", ["-drive", "if=pflash,driver=null-co,size=1M,unit=2"]],
  ["qemu-system-x86_64", ["-drive", "if=pflash"]],
  ["qemu-img", ["info", "-U", "--image-opts", "driver=null-co,force-share=off"]],
  ["qemu-img", ["resize", "-U", "top.qcow2", "16M"]],
  ["qemu-img", ["create", "-f", "file", "plain.img", "1M"]],
  ["qemu-io", ["-c", "open -r -U -o driver=null-co,force-share=off"]],
  ["qemu-io", ["-c", "open -o data-file.driver=file,data-file.filename=none top.qcow2"]],
  ["qemu-io", ["-c", "open -o data-file.driver=file,data-file.filename=data.raw top.qcow2"]],
])("%s %j says what QEMU's says", (name, words) => {
  const { ours, theirs } = both(name, words);
  // The real machine has its monitor open by then.
  expect({ ...ours, stdout: "" }).toEqual({ ...theirs, stdout: "" });
  if (name === "qemu-img") expect(ours.stdout).toBe(theirs.stdout);
});

it.each(["data.qcow2", "data.raw", "empty.qcow2"])(
  "the progress of a copy counts data as QEMU's: %s",
  (file) => {
    const format = file.slice(file.indexOf(".") + 1);
    const { ours, theirs } = both("qemu-img", [
      "convert",
      "-p",
      "-f",
      format,
      "-O",
      format,
      file,
      "copy.img",
    ]);
    expect(ours).toEqual(theirs);
    expect(theirs.stdout.split("\r").length).toBe(file.startsWith("data") ? 7 : 3);
  },
);

describe("reserved space before a longer backing file", () => {
  it.each(
    ["compat=1.1", "compat=0.10", "extended_l2=on"].flatMap((option) =>
      ["metadata", "falloc", "full"].map((mode) => [option, mode] as const),
    ),
  )("%s, %s: is what it is in QEMU", (option, mode) => {
    prepare("qemu-img", `create -q -f qcow2 -o ${option} -b base.qcow2 -F qcow2 grown.qcow2 5M`);
    const grown = both("qemu-img", [
      "resize",
      `--preallocation=${mode}`,
      "-f",
      "qcow2",
      "grown.qcow2",
      "15M",
    ]);
    expect(grown.ours).toEqual(grown.theirs);
    const { ours, theirs } = both("qemu-img", ["map", "--output=json", "grown.qcow2"]);
    expect(ours).toEqual(theirs);
    const read = say("ours", "qemu-io", ["-r", "-c", "read -P 0 5M 10M", "grown.qcow2"]);
    expect(read).toMatchObject({ status: grown.theirs.status, stderr: "" });
  });
});

it("a backing name that says it is a file is that file, and one that changes is another", () => {
  for (const whose of ["ours", "theirs"] as const) {
    const backing = `file:${join(folders[whose], "base.qcow2")}`;
    const words = ["create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", "named.qcow2"];
    expect(say(whose, "qemu-img", words).status).toBe(0);
  }
  const lines = (whose: Whose): string => {
    const base = join(folders[whose], "base.qcow2");
    const change = { device: "d", "image-node-name": "n" };
    const link = (name: string): object => ({
      execute: "change-backing-file",
      arguments: { ...change, "backing-file": name },
    });
    const query = { execute: "query-named-block-nodes", arguments: { flat: true } };
    const steps = [query, link("null-co://"), query, link(base), query, link(`file:${base}`), query];
    const all = [{ execute: "qmp_capabilities" }, ...steps, { execute: "quit" }];
    return all.map((line) => JSON.stringify(line)).join("\n");
  };
  const filenames = (whose: Whose): string[] => {
    const drive = ["-qmp", "stdio", "-drive", "if=none,id=d,file=named.qcow2,format=qcow2,node-name=n"];
    const { stdout } = say(whose, "qemu-system-x86_64", drive, lines(whose));
    const answers = stdout.split("\n").filter((line) => line.includes('"node-name"'));
    return answers.map((line) => {
      const { return: rows } = JSON.parse(line) as { return: { "node-name": string; file: string }[] };
      const { file = "" } = rows.find((row) => row["node-name"] === "n") ?? {};
      return file.startsWith("json:") ? "options" : file;
    });
  };
  expect(filenames("ours")).toEqual(filenames("theirs"));
  expect(filenames("ours")).toEqual(["named.qcow2", "options", "named.qcow2", "options"]);
});

describe("what fails at the end", () => {
  it("a flush under QEMU's name is told by the exit status", () => {
    prepare("qemu-img", "create -q -f qcow2 -o data_file=outer.raw outer.qcow2 1M");
    const broken = {
      driver: "qcow2",
      file: { driver: "file", filename: "outer.qcow2" },
      "data-file": {
        driver: "blkdebug",
        "inject-error": [{ event: "none", iotype: "flush" }],
        image: { driver: "file", filename: "outer.raw" },
      },
    };
    const words = [
      "-t",
      "writeback",
      "-c",
      "write -q 0 512",
      "-c",
      "flush",
      `json:${JSON.stringify(broken)}`,
    ];
    const { ours, theirs } = both("qemu-io", words);
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
  });

  it("one rule of blkdebug needs no number, and what is not kept at quit is told before its answer", () => {
    const rules =
      "file.set-state.event=write_aio,file.set-state.new_state=42,file.inject-error.event=read_aio";
    const file = "file.driver=blkdebug,file.image.driver=file,file.image.filename=data.qcow2";
    const drive = `if=none,id=d,format=qcow2,${file},${rules},file.inject-error.state=42`;
    const words = ["-qmp", "stdio", "-drive", drive];
    const hmp = ["read 0 512", "write 0 512", "read 0 512"].map((line) => ({
      execute: "human-monitor-command",
      arguments: { "command-line": `qemu-io d "${line}"` },
    }));
    const all = [{ execute: "qmp_capabilities" }, ...hmp, { execute: "quit" }];
    const { ours, theirs } = both(
      "qemu-system-x86_64",
      words,
      all.map((line) => JSON.stringify(line)).join("\n"),
    );
    expect(theirs.stderr).toContain("Failed to flush the L2 table cache: Input/output error");
    expect(ours.stderr).toBe(theirs.stderr);
    expect(ours.stdout).toContain("read failed: Input/output error");
    // Closing an image whose metadata is lost is no success of ours.
    expect(ours.status).toBe(1);
  });
});

it("lengths that no disk can have are refused with the number that was given", () => {
  const sizes = ["9223372036854775296", "9223372036854775808", "18446744073709551104"];
  const resize = (size: string): string =>
    `{"execute":"block_resize","arguments":{"device":"d","size":${size}}}`;
  const lines = ['{"execute":"qmp_capabilities"}', ...sizes.map(resize), '{"execute":"quit"}'].join("\n");
  const words = ["-qmp", "stdio", "-drive", "if=none,id=d,file=data.raw,format=raw"];
  const refusals = ({ stdout }: Said): string[] =>
    stdout.split("\n").filter((line) => line.includes("error"));
  const { ours, theirs } = both("qemu-system-x86_64", words, lines);
  expect(refusals(theirs)).toHaveLength(3);
  expect(refusals(ours).map((line) => line.trim())).toEqual(refusals(theirs).map((line) => line.trim()));
});

it("an overlay can be made over an image that a guest is writing to, and the image itself can't", async () => {
  prepare("qemu-img", "create -q -f qcow2 used.qcow2 1M");
  const drive = ["-qmp", "stdio", "-drive", "if=none,id=d,file=used.qcow2,format=qcow2"];
  const [command, args] = callOf("theirs", "qemu-system-x86_64", drive);
  const guest = spawn(command, args, { cwd: folders.ours, stdio: ["pipe", "pipe", "inherit"] });
  try {
    await new Promise((resolve) => guest.stdout.once("data", resolve));
    const create = (name: string): Said =>
      say("ours", "qemu-img", ["create", "-q", "-f", "qcow2", "-b", "used.qcow2", "-F", "qcow2", name]);
    expect(create("over.qcow2")).toEqual({ status: 0, stdout: "", stderr: "" });
    const again = say("ours", "qemu-img", ["create", "-q", "-f", "qcow2", "used.qcow2", "2M"]);
    expect(again.status).toBe(1);
    expect(again.stderr).toContain("lock");
  } finally {
    guest.stdin.end('{"execute":"qmp_capabilities"}{"execute":"quit"}');
    await new Promise((resolve) => guest.once("close", resolve));
  }
});
