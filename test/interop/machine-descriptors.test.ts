// Descriptors that whoever starts a machine, or talks to it, has opened for it: `-add-fd`, SCM_RIGHTS and `/dev/fdset/N`, beside the
// real qemu-system-x86_64. The client is Python's, which can send them.
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { program } from "./support/twins.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-descriptors-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
for (const name of ["a.raw", "b.raw"]) writeFileSync(join(folder, name), new Uint8Array(1 << 20));

const quiet = ["-nodefaults", "-display", "none"];
const theirs = ["qemu-system-x86_64", ...quiet, "-accel", "tcg"];
const ours = [process.execPath, program, "--run-as=qemu-system-x86_64", ...quiet, "-accel", "qtest"];
const python = "/usr/bin/python3";
const script = join(import.meta.dirname, "support", "hand-over.py");

/** FILE0 … FILE2 in options are their descriptors. */
const files = [
  ["a.raw", "O_RDWR"],
  ["a.raw", "O_RDONLY"],
  ["b.raw", "O_WRONLY"],
] as const;

type Step = "connect" | { line: { execute: string; arguments?: object }; fds?: number[] };
const step = (execute: string, args?: object, ...fds: number[]): Step => ({
  line: { execute, ...(args ? { arguments: args } : {}) },
  fds,
});
const sets = step("query-fdsets");

/** What a program answers, without the numbers of descriptors, which are its own. */
async function told(
  words: readonly string[],
  options: readonly string[],
  steps: readonly Step[],
): Promise<unknown> {
  const socket = join(folder, `${words[0] === process.execPath ? "ours" : "theirs"}.sock`);
  const monitor = ["-qmp", `unix:${socket},server=on,wait=off`];
  const what = { program: words, options: [...options, ...monitor], socket, files, steps };
  const { stdout } = await promisify(execFile)(python, [script, JSON.stringify(what)], { cwd: folder });
  return JSON.parse(stdout.replaceAll(/(\\*"fd\\*": )\d+/g, "$1-1").replaceAll(/fd=\d+/g, "fd=N")) as unknown;
}

async function expectSame(options: readonly string[], steps: readonly Step[]): Promise<void> {
  const [its, mine] = [await told(theirs, options, steps), await told(ours, options, steps)];
  expect(mine).toEqual(its);
}

const add = (name: string, filename: string, more: object = {}): Step =>
  step("blockdev-add", { driver: "file", "node-name": name, filename, ...more });
const remove = (name: string): Step => step("blockdev-del", { "node-name": name });

describe.skipIf(spawnSync(python, ["--version"]).status !== 0)("descriptors", () => {
  it.each([
    ["fd=1,set=2"],
    ["fd=77,set=2"],
    ["set=2"],
    ["fd=-3,set=2"],
    ["fd=FILE0"],
    ["fd=FILE0,set=-2"],
    ["fd=FILE0,set=2,foo=bar"],
    ["fd=x,set=2"],
    ["fd=FILE0,set=x"],
  ])("-add-fd %s is refused", async (value) => {
    const options = ["-add-fd", value];
    const its = await told(theirs, options, []);
    expect(its).toMatchObject({ status: 1 });
    expect(await told(ours, options, [])).toEqual(its);
  });

  const given = ["-add-fd", "fd=FILE0,set=3,opaque=hello", "-add-fd", "fd=FILE1,set=3"];
  const more = ["-add-fd", "fd=FILE2,set=1,opaque=w", "-blockdev", "file,node-name=n,filename=/dev/fdset/3"];

  it.each([
    ["runs", []],
    ["stands still, and forgets nothing", ["-S"]],
  ])("that options hand over, while the machine %s", async (_when, still) => {
    await expectSame(
      [...given, ...more, ...still],
      [
        "connect",
        sets,
        step("remove-fd", { "fdset-id": 3 }),
        sets,
        step("remove-fd", { "fdset-id": 3 }),
        step("remove-fd", { "fdset-id": 9 }),
        step("remove-fd", { "fdset-id": 1, fd: 999 }),
        ...["3", "1", "7", "x", "", "3x", "-1"].flatMap((set) => [
          add("x", `/dev/fdset/${set}`),
          remove("x"),
          add("x", `/dev/fdset/${set}`, { "read-only": true }),
          remove("x"),
        ]),
        add("x", "/dev/fdset/1", { cache: { direct: true } }),
        remove("n"),
        sets,
      ],
    );
  });

  it("that come over the monitor's socket", async () => {
    await expectSame(given, [
      "connect",
      step("add-fd"),
      step("getfd", { fdname: "1x" }),
      step("closefd", { fdname: "x" }),
      step("add-fd", undefined, 0),
      step("add-fd", { "fdset-id": 5, opaque: "five" }, 1),
      step("add-fd", { "fdset-id": 5, opaque: "five" }, 0),
      step("add-fd", { "fdset-id": -5 }, 1),
      sets,
      step("getfd", { fdname: "x" }, 0),
      step("getfd", { fdname: "x" }, 0),
      step("getfd", { fdname: "1x" }, 0),
      step("closefd", { fdname: "x" }),
      step("closefd", { fdname: "x" }),
      step("getfd", { fdname: "y" }, 0, 1),
      step("add-fd"),
      step("query-fdsets", undefined, 2),
      step("add-fd"),
      add("x", "/dev/fdset/0"),
      add("y", "/dev/fdset/5", { "read-only": true }),
      step("query-named-block-nodes", { flat: true }),
      step("remove-fd", { "fdset-id": 0 }),
      sets,
      remove("x"),
      sets,
      remove("y"),
      sets,
      "connect",
      sets,
    ]);
  });

  it("carry what a guest writes, read-only and not", async () => {
    const options = ["-add-fd", "fd=FILE0,set=3", "-add-fd", "fd=FILE1,set=3"];
    const drive = ["-drive", "if=none,id=d,file=/dev/fdset/3,format=raw"];
    const io = (words: string): Step =>
      step("human-monitor-command", { "command-line": `qemu-io d "${words}"` });
    const reopen = (readOnly: boolean): Step =>
      step("blockdev-reopen", {
        options: [{ driver: "file", "node-name": "f", filename: "/dev/fdset/3", "read-only": readOnly }],
      });
    const steps: Step[] = [
      "connect",
      io("write -P 7 64k 64k"),
      add("f", "/dev/fdset/3"),
      reopen(true),
      reopen(false),
    ];
    const { answers } = (await told(ours, [...options, ...drive], steps)) as { answers: object[] };
    expect(answers.slice(2)).toEqual([{ return: {} }, { return: {} }, { return: {} }]);
    const bytes = readFileSync(join(folder, "a.raw")).subarray(65536, 131072);
    expect(bytes.every((byte) => byte === 7)).toBe(true);
  });

  it("go along to the background", async () => {
    const pidfile = join(folder, "pid");
    const words = [...ours.slice(1), "-daemonize", "-pidfile", pidfile, "-add-fd", "fd=4,set=0"];
    const drive = ["-drive", "if=none,id=d,file=/dev/fdset/0,format=raw"];
    const inherited = readFileSync(join(folder, "a.raw"));
    const line = `exec 4<>'${join(folder, "a.raw")}'; exec "$0" "$@"`;
    const started = spawnSync("/bin/sh", ["-c", line, process.execPath, ...words, ...drive], {
      encoding: "utf8",
    });
    expect(started).toMatchObject({ status: 0, stderr: "" });
    process.kill(Number(readFileSync(pidfile, "utf8")));
    expect(readFileSync(join(folder, "a.raw"))).toEqual(inherited);
  });
});
