// overlap-check beside qemu-io: an L2 entry points to one structure after the other, and a write to it is refused, with the
// corrupt bit set, or not, as the mode says; both programs say the same and leave the same bit. Sound images, with snapshots
// that come and go, are written in every mode.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createEngine, createSnapshot, removeSnapshot, openNode } from "../../src/node.ts";
import { placesOf } from "../support/qcow2-structure.ts";
import { commands, masked } from "./support/io.ts";
import { Twins } from "./support/twins.ts";

const twins = new Twins();
const MASK = 0x00fffffffffffe00n;
const COPIED = 1n << 63n;

/** Where each structure lies. */
const targets = new Map<string, number>();

beforeAll(() => {
  const run = (command: string): unknown => execFileSync("sh", ["-ec", command], { cwd: twins.theirs });
  run(`qemu-img create -q -f qcow2 base.qcow2 4M
       qemu-io -c "write 0 512" base.qcow2
       qemu-img snapshot -c s base.qcow2
       qemu-io -c "write 0 512" base.qcow2
       qemu-img bitmap --add base.qcow2 b`);
  const image = readFileSync(join(twins.theirs, "base.qcow2"));
  const { l2Tables, refcountBlocks, snapshots, bitmaps } = placesOf(image);
  const inactive = snapshots[0]!.l1[0]!;
  const entries: [string, number][] = [
    ["active-l1", Number(image.readBigUInt64BE(40))],
    ["active-l2", l2Tables[0]!],
    ["refcount-table", Number(image.readBigUInt64BE(48))],
    ["refcount-block", refcountBlocks[0]!],
    ["snapshot-table", snapshots[0]!.at],
    ["inactive-l1", inactive],
    ["inactive-l2", Number(image.readBigUInt64BE(inactive) & MASK)],
    ["bitmap-directory", bitmaps[0]!],
  ];
  for (const [name, offset] of entries) targets.set(name, offset);
  twins.same();
});

afterAll(() => twins.remove());

/** Makes an image in both directories whose first guest cluster lies on a structure. */
function pointTo(target: string): void {
  const image = readFileSync(join(twins.theirs, "base.qcow2"));
  const place = targets.get(target);
  if (place === undefined) throw new Error(`no ${target}`);
  image.writeBigUInt64BE(COPIED | BigInt(place), placesOf(image).l2Tables[0]);
  for (const directory of [twins.theirs, twins.ours]) writeFileSync(join(directory, "x.qcow2"), image);
}

function isCorrupt(directory: string): boolean {
  return (readFileSync(join(directory, "x.qcow2")).readBigUInt64BE(72) & 2n) !== 0n;
}

/** Writes to the structure in both programs; whether it was refused. */
function isRefused(target: string, options: string): boolean {
  pointTo(target);
  const words = [
    "--image-opts",
    `driver=qcow2,${options},file.filename=x.qcow2`,
    ...commands("write -P 0 0 512"),
  ];
  const theirs = masked(twins.qemuIo(words));
  const ours = masked(twins.blockwright("io", ...words));
  const isHit = theirs.status === 1 && theirs.stdout === "write failed: Input/output error\n";
  // What follows from a write that lands on a structure is not looked at.
  if (!isHit) return ours.stdout === theirs.stdout ? false : expect.fail(`${target}: ${ours.stdout}`);
  const [first] = ours.stderr.split("\n");
  expect({ ...ours, stderr: first }, target).toEqual(theirs);
  expect([isCorrupt(twins.ours), isCorrupt(twins.theirs)]).toEqual([true, true]);
  return true;
}

const constant = ["active-l1", "refcount-table", "snapshot-table", "bitmap-directory"];
const cached = [...constant, "active-l2", "refcount-block", "inactive-l1"];

describe("overlap-check, as qemu-io", () => {
  it.each([
    ["overlap-check=none", []],
    ["overlap-check=constant", constant],
    ["overlap-check=cached", cached],
    ["lazy-refcounts=off", cached],
    ["overlap-check=all", [...cached, "inactive-l2"]],
    ["overlap-check.template=none,overlap-check.inactive-l2=on", ["inactive-l2"]],
    [
      "overlap-check.active-l1=off,overlap-check.refcount-block=off",
      cached.filter((name) => name !== "active-l1" && name !== "refcount-block"),
    ],
  ])("%s", (options, refused) => {
    const found = [...targets.keys()].filter((target) => isRefused(target, options));
    expect(found.toSorted()).toEqual(refused.toSorted());
  });

  it.each(["none", "constant", "cached", "all"])(
    "a sound image goes through its life with %s",
    async (mode) => {
      const filename = join(twins.ours, `life-${mode}.qcow2`);
      execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", filename, "8M"]);
      const engine = createEngine();
      const disk = await openNode(
        {
          driver: "qcow2",
          "overlap-check": mode as "all",
          discard: "unmap",
          file: { driver: "file", filename },
        },
        { engine },
      );
      const fill = (byte: number): Uint8Array => new Uint8Array(1 << 20).fill(byte);
      for (let round = 1; round <= 4; round++) {
        await disk.write(round << 20, fill(round));
        const { id } = await createSnapshot(disk, `s${round}`);
        await disk.write((round << 20) + 512, fill(round + 10));
        await disk.discard(round << 19, 1 << 19);
        if (round % 2 === 0) await removeSnapshot(disk, { id });
        await disk.flush();
      }
      await disk.write(0, fill(9));
      await disk.close();
      await engine.close();
      execFileSync("qemu-img", ["check", "-q", filename]);
    },
  );
});
