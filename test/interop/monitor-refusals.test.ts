// What the daemon refuses for what nodes are and how they lie, held beside the real qemu-storage-daemon: the same commands, and the
// same answers in the same words. Found by drawing commands at random.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ours, theirs, withDaemon } from "../support/daemon.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-refusals-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Command = readonly [execute: string, args: Record<string, unknown>];

/** What each command is answered: the words of a refusal, or `done`. */
async function answers(
  program: readonly string[],
  name: string,
  commands: readonly Command[],
): Promise<unknown[]> {
  const cwd = join(folder, name);
  mkdirSync(cwd);
  for (const image of ["a", "b", "c"])
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", `${image}.qcow2`, "1M"], { cwd });
  return withDaemon({ program, cwd }, async (daemon) => {
    const told: unknown[] = [];
    for (const command of commands) told.push([command, (await daemon.refusal(...command)) ?? "done"]);
    return told;
  });
}

/** The same answers, `words` among them. */
async function expectSame(words: string, commands: readonly Command[]): Promise<void> {
  const [expected, got] = await Promise.all([
    answers(theirs, "theirs", commands),
    answers(ours, "ours", commands),
  ]);
  expect(got).toEqual(expected);
  expect(JSON.stringify(got)).toContain(words);
}

const qcow2 = (name: string, more: object = {}): Record<string, unknown> => ({
  ...{ driver: "qcow2", "node-name": name, file: { driver: "file", filename: `${name}.qcow2` } },
  ...more,
});
const add = (spec: Record<string, unknown>): Command => ["blockdev-add", spec];
const reopen = (...options: Record<string, unknown>[]): Command => ["blockdev-reopen", { options }];
const shared = { "force-share": true };

describe("files that are opened without regard to others' locks", () => {
  const words = "force-share=on can only be used with read-only images";
  const file = { driver: "file", filename: "a.qcow2" };
  it.each<[string, Command[]]>([
    ["by themselves", [add({ ...file, "node-name": "f", ...shared })]],
    [
      "that become writable when they have to",
      [add({ ...file, "node-name": "f", "auto-read-only": true, ...shared })],
    ],
    ["below images", [add(qcow2("a", shared)), add(qcow2("a", { ...shared, "read-only": true }))]],
    ["that are told so below images", [add(qcow2("a", { file: { ...file, ...shared } }))]],
  ])("can't be written: %s", (_name, commands) => expectSame(words, commands));

  it("become no others", () =>
    expectSame("Cannot change the option 'force-share'", [
      add(qcow2("a")),
      reopen(qcow2("a", { ...shared, "read-only": true })),
      reopen(qcow2("a", { ...shared })),
    ]));

  it("stay read-only where they are described again", async () => {
    // The real one finds that the option is another, whatever it is.
    const spec = qcow2("a", { ...shared, "read-only": true });
    const told = await answers(ours, "ours", [
      add(spec),
      reopen({ ...spec, "read-only": false }),
      reopen(spec),
    ]);
    expect(told.map((one) => (one as unknown[])[1])).toEqual(["done", words, "done"]);
  });
});

it("a header that can't be read is told with the reason", () =>
  expectSame("Could not read qcow2 header: No space left on device", [
    add({
      driver: "blkdebug",
      "node-name": "f",
      image: { driver: "file", filename: "a.qcow2" },
      "inject-error": [{ event: "none", iotype: "read", errno: 28 }],
    }),
    add(qcow2("a", { file: "f" })),
  ]));

it("a backing file that can't be opened is told as such, at each level", () =>
  expectSame("Could not open backing file: Cannot find device='nope' nor node-name='nope'", [
    add(qcow2("a", { backing: "nope" })),
    add(qcow2("b", { backing: { driver: "raw", file: "nope" } })),
    add(qcow2("c", { backing: qcow2("a", { backing: { driver: "file", filename: "gone" } }) })),
    add(qcow2("d", { backing: { driver: "nothing" } })),
  ]));

it("nodes to be reopened are looked for before any is looked at", () =>
  expectSame("Failed to find node with node-name='nope'", [
    add(qcow2("a")),
    reopen(qcow2("a", shared), qcow2("nope")),
  ]));

describe("actions that can't end together with others", () => {
  const grouped = (type: string, data: object): Command => [
    "transaction",
    { actions: [{ type, data }], properties: { "completion-mode": "grouped" } },
  ];
  const bitmap = { node: "a", name: "old" };
  it.each<[string, object]>([
    ["block-dirty-bitmap-add", { node: "a", name: "new" }],
    ["block-dirty-bitmap-remove", bitmap],
    ["block-dirty-bitmap-clear", bitmap],
    ["block-dirty-bitmap-disable", bitmap],
    ["block-dirty-bitmap-merge", { node: "a", target: "old", bitmaps: ["old"] }],
    ["blockdev-snapshot", { node: "a", overlay: "b" }],
    ["blockdev-snapshot-sync", { "node-name": "a", "snapshot-file": "over.qcow2" }],
    ["blockdev-snapshot-internal-sync", { device: "a", name: "s" }],
  ])("%s", (type, data) =>
    expectSame("does not support Transaction property completion-mode = grouped", [
      add(qcow2("a")),
      add(qcow2("b", { backing: null })),
      ["block-dirty-bitmap-add", bitmap],
      grouped(type, data),
      grouped("abort", {}),
    ]),
  );
});

it("what lies above an image can't become its backing file, whatever lies between", () =>
  expectSame("Making 'r' a backing child of 'a' would create a cycle", [
    add(qcow2("a")),
    add({ driver: "raw", "node-name": "r", file: "a" }),
    ["blockdev-snapshot", { node: "r", overlay: "a" }],
    ["transaction", { actions: [{ type: "blockdev-snapshot", data: { node: "r", overlay: "a" } }] }],
    add({ driver: "quorum", "node-name": "q", children: ["a"], "vote-threshold": 1 }),
    ["blockdev-snapshot", { node: "q", overlay: "a" }],
    add({ driver: "compress", "node-name": "c", file: "a" }),
    add(qcow2("b", { backing: "c" })),
    ["blockdev-snapshot", { node: "b", overlay: "a" }],
  ]));

describe("compressed writes pass", () => {
  it.each<[string, object]>([
    ["throttle", { "throttle-group": "g" }],
    ["copy-on-read", {}],
    ["blkdebug", {}],
    ["compress", {}],
    ["raw", {}],
  ])("or do not: %s", (driver, more) => {
    const file = driver === "blkdebug" ? "image" : "file";
    return expectSame("driver", [
      ["object-add", { "qom-type": "throttle-group", id: "g" }],
      add(qcow2("a")),
      add({ driver, "node-name": "f", [file]: "a", ...more }),
      add({ driver: "compress", "node-name": "c", file: "f" }),
    ]);
  });
});

describe("internal snapshots through what shows a whole image", () => {
  const named = { device: "f", name: "s" };
  it.each<[string, Record<string, unknown>]>([
    ["raw", { driver: "raw", file: "a" }],
    ["a window", { driver: "raw", file: "a", size: 65536 }],
    ["a filter", { driver: "copy-on-read", file: "a" }],
    ["blkdebug", { driver: "blkdebug", image: "a" }],
    ["two", { driver: "raw", file: { driver: "copy-on-read", file: "a" } }],
    ["one of two", { driver: "copy-before-write", file: "a", target: "b" }],
    ["quorum", { driver: "quorum", children: ["a"], "vote-threshold": 1 }],
    ["none", { driver: "null-co" }],
  ])("%s", (_name, above) =>
    expectSame("", [
      add(qcow2("a")),
      add(qcow2("b")),
      add({ "node-name": "f", ...above }),
      ["blockdev-snapshot-internal-sync", named],
      ["blockdev-snapshot-internal-sync", named],
      ["blockdev-snapshot-delete-internal-sync", { device: "f", name: "other" }],
      ["blockdev-snapshot-delete-internal-sync", named],
      ["blockdev-snapshot-delete-internal-sync", named],
    ]),
  );
});

it("internal snapshots are those of nodes at the top", () =>
  expectSame("Need a root block node", [
    add(qcow2("a", { file: { driver: "file", "node-name": "below", filename: "a.qcow2" } })),
    add({ driver: "raw", "node-name": "r", file: "a" }),
    ["blockdev-snapshot-internal-sync", { device: "a", name: "s" }],
    ["blockdev-snapshot-delete-internal-sync", { device: "a", name: "s" }],
    ["blockdev-snapshot-delete-internal-sync", { device: "below", name: "s" }],
    ["blockdev-snapshot-delete-internal-sync", { device: "r", name: "s" }],
  ]));

it("a device that is not there is told before a server that is not there", () =>
  expectSame("Cannot find device='nope' nor node-name='nope'", [
    add(qcow2("a")),
    ["nbd-server-add", { device: "nope" }],
    ["nbd-server-add", { device: "a" }],
  ]));
