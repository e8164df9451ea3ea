// quorum beside the real qemu-system-x86_64: what is refused, what reads and writes come to, and the events of copies that fail or differ.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { program } from "./support/twins.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-quorum-"));
  for (const at of [0, 1, 2]) {
    spawnSync("qemu-img", ["create", "-q", "-f", "raw", `${at}.raw`, "1M"], { cwd: folder });
    spawnSync("qemu-io", ["-f", "raw", "-c", "write -P 1 0 1M", `${at}.raw`], { cwd: folder });
  }
  spawnSync("qemu-io", ["-f", "raw", "-c", "write -P 5 64k 4k", "2.raw"], { cwd: folder });
  spawnSync("qemu-img", ["create", "-q", "-f", "raw", "long.raw", "2M"], { cwd: folder });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const machine = ["-nodefaults", "-display", "none", "-S", "-qmp", "stdio", "-machine", "none"];
const theirs = ["qemu-system-x86_64", ...machine];
const ours = [process.execPath, program, "--run-as=qemu-system-x86_64", ...machine];

const keyOf = (message: unknown): string => {
  const { event, data } = message as { event: string; data: Record<string, unknown> };
  return `${event} ${String(data["node-name"])} ${String(data["type"])}`;
};

/** Answers, then events, without times; lines of qemu-io among them without theirs. */
async function talk(
  [command = "", ...args]: readonly string[],
  lines: readonly string[],
): Promise<unknown[]> {
  const child = spawn(command, args, { cwd: folder, stdio: ["pipe", "pipe", "inherit"] });
  const queue = ['{"execute":"qmp_capabilities"}', ...lines, '{"execute":"quit"}'];
  const answers: unknown[] = [];
  const events: unknown[] = [];
  const told: string[] = [];
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts.map((one) => one.trim())) {
      if (!part.startsWith("{")) {
        if (/failed|bytes at offset/.test(part)) told.push(part);
        continue;
      }
      const message = JSON.parse(part) as Record<string, unknown>;
      delete message["timestamp"];
      // QEMU holds back what comes within a second of the last one on the same node.
      if ("event" in message) {
        if (!events.some((one) => keyOf(one) === keyOf(message))) events.push(message);
      }
      if (!("QMP" in message) && !("event" in message)) answers.push(message);
      const line = "event" in message ? undefined : queue.shift();
      if (line !== undefined) child.stdin.write(`${line}\n`);
    }
  });
  await new Promise((resolve) => child.on("close", resolve));
  return [
    answers.slice(1, lines.length + 1),
    events.filter((one) => JSON.stringify(one).includes("QUORUM")),
    told,
  ];
}

const ask = (execute: string, args: object): string => JSON.stringify({ execute, arguments: args });
const io = (line: string): string => ask("human-monitor-command", { "command-line": `qemu-io q "${line}"` });
const file = (name: string): object => ({ driver: "file", "node-name": `n${name}`, filename: `${name}.raw` });
const failing = (name: string, event: string): object => ({
  ...{ driver: "blkdebug", "node-name": `bad${name}`, image: file(name) },
  "inject-error": [{ event, errno: 28 }],
});
const add = (children: readonly unknown[], more: object = {}): string =>
  ask("blockdev-add", { driver: "quorum", "node-name": "q", "vote-threshold": 2, children, ...more });

const all = [file("0"), file("1"), file("2")];
const change = (args: object): string => ask("x-blockdev-change", { parent: "q", ...args });

it.each<[string, string[]]>([
  [
    "a copy that differs is outvoted",
    [add(all), io("read -P 1 0 1M"), io("read -P 1 64k 512"), io("read 0 64k")],
  ],
  ["it is made good", [add(all, { "rewrite-corrupted": true }), io("read -P 1 0 1M"), io("read -P 1 0 1M")]],
  ["all must agree", [add(all, { "vote-threshold": 3 }), io("read 0 1M"), io("read 0 64k")]],
  ["two that differ, no majority", [add([file("0"), file("2")], { "vote-threshold": 2 }), io("read 0 128k")]],
  ["the first copy is enough", [add(all, { "read-pattern": "fifo" }), io("read -P 1 0 1M")]],
  [
    "the next one where it fails",
    [add([failing("0", "read_aio"), file("1"), file("2")], { "read-pattern": "fifo" }), io("read -P 1 0 1M")],
  ],
  [
    "a copy that can't be written is passed over",
    [add([failing("0", "write_aio"), file("1"), file("2")]), io("write -P 7 0 4k"), io("read -P 7 0 4k")],
  ],
  [
    "too few can be written",
    [add([failing("0", "write_aio"), failing("1", "write_aio"), file("2")]), io("write -P 7 4k 8k")],
  ],
  ["zeroes go to all", [add(all), io("write -z 64k 8k"), io("read -P 0 64k 8k")]],
  ["of other lengths", [add([file("0"), file("long")])]],
  ["no threshold", [add(all, { "vote-threshold": 0 }), add(all, { "vote-threshold": 4 }), add([])]],
  [
    "copies that are added and taken away",
    [
      ...["0", "1", "2"].map((name) => ask("blockdev-add", file(name))),
      add(["n0", "n1"]),
      io("read 64k 512"),
      change({ node: "n2" }),
      io("write -P 8 4k 4k"),
      change({ child: "children.0" }),
      io("read -P 8 4k 4k"),
      change({ child: "children.1" }),
      change({ node: "n0" }),
      change({ child: "children.3" }),
      change({ node: "n0" }),
      change({ child: "children.4" }),
      ask("blockdev-del", { "node-name": "n1" }),
      io("write -P 9 8k 4k"),
    ],
  ],
  [
    "changes of children that are refused",
    [
      ...["0", "1", "2"].map((name) => ask("blockdev-add", file(name))),
      add(["n0", "n1"]),
      ask("blockdev-add", { driver: "raw", "node-name": "r", file: "n2" }),
      change({}),
      change({ node: "n2", child: "children.0" }),
      change({ node: "none" }),
      change({ child: "children.9" }),
      change({ child: "children.1" }),
      change({ node: "n2" }),
      change({ node: "n0" }),
      change({ node: "q" }),
      change({ parent: "none", node: "n2" }),
      ask("blockdev-add", { driver: "raw", "node-name": "over", file: "q" }),
      change({ node: "over" }),
      change({ parent: "r", node: "over" }),
      change({ parent: "r", child: "file" }),
    ],
  ],
  [
    "no copy comes beside two that are compared",
    [
      ...["0", "1", "2"].map((name) => ask("blockdev-add", file(name))),
      add(["n0", "n1"], { blkverify: true }),
      change({ node: "n2" }),
      change({ child: "children.0" }),
    ],
  ],
  [
    "blkverify",
    [add(all, { blkverify: true }), add(all.slice(1), { blkverify: true, "rewrite-corrupted": true })],
  ],
])("%s", async (_name, lines) => {
  const expected = await talk(theirs, lines);
  const disks = [0, 1, 2].map(
    (at) => spawnSync("md5sum", [`${at}.raw`], { cwd: folder, encoding: "utf8" }).stdout,
  );
  spawnSync("qemu-io", ["-f", "raw", "-c", "write -P 1 0 1M", "-c", "write -P 5 64k 4k", "2.raw"], {
    cwd: folder,
  });
  for (const at of [0, 1])
    spawnSync("qemu-io", ["-f", "raw", "-c", "write -P 1 0 1M", `${at}.raw`], { cwd: folder });
  const got = await talk(ours, lines);
  expect(got).toEqual(expected);
  expect(
    [0, 1, 2].map((at) => spawnSync("md5sum", [`${at}.raw`], { cwd: folder, encoding: "utf8" }).stdout),
  ).toEqual(disks);
});

it("images in several copies are described, and lie beside none of them", () => {
  const at = { cwd: folder, encoding: "utf8" } as const;
  for (const name of ["base.qcow2", "a.qcow2"])
    spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", name, "4M"], at);
  spawnSync("qemu-img", ["rebase", "-u", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "a.qcow2"], at);
  spawnSync("cp", ["a.qcow2", "b.qcow2"], at);
  const children = ["a.qcow2", "b.qcow2"].map((filename) => ({ driver: "file", filename }));
  const file = { driver: "quorum", "vote-threshold": 1, children };
  const image = `json:${JSON.stringify({ driver: "qcow2", file })}`;
  for (const options of [[], ["--backing-chain"], ["--output=json"]]) {
    const [theirs, ours] = [["qemu-img"], [process.execPath, program, "--run-as=qemu-img"]].map(
      ([command = "", ...args]) => spawnSync(command, [...args, "info", ...options, image], at),
    );
    expect(ours?.stderr).toBe(theirs?.stderr);
    expect(ours?.status).toBe(theirs?.status);
    if (options.length === 0) expect(ours?.stdout).toBe(theirs?.stdout);
    else if (theirs?.status === 0) expect(JSON.parse(ours?.stdout ?? "")).toEqual(JSON.parse(theirs.stdout));
  }
});
