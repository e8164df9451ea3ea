// Guests' requests on damaged images, beside qemu-io: each damage is told in the same words, marks the image or not, and once it is marked
// there is no medium any more; a wrong refcount fails no guest's request.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { placesOf } from "../support/qcow2-structure.ts";
import { commands, masked } from "./support/io.ts";
import { Twins } from "./support/twins.ts";

const twins = new Twins();
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

beforeAll(() => {
  for (const [name, options] of [
    ["plain", "compat=1.1"],
    ["old", "compat=0.10"],
    ["subclusters", "extended_l2=on"],
    ["outside", "data_file=outside.raw"],
  ]) {
    twins.prepare("qemu-img", "create", "-q", "-f", "qcow2", "-o", options!, `${name}.qcow2`, "1M");
    twins.write(`${name}.qcow2`, "write -P 7 0 192k", "write -z 256k 64k");
  }
  twins.same();
});
afterAll(() => twins.remove());

interface Places {
  readonly l1: number;
  /** The first entry of the first L2 table. */
  readonly l2: number;
  readonly refcountTable: number;
  readonly refcountBlock: number;
}

type Damage = (image: Buffer, places: Places) => void;

function damage(name: string, change: Damage): void {
  const image = readFileSync(join(twins.theirs, `${name}.qcow2`));
  const { l2Tables, refcountBlocks } = placesOf(image);
  change(image, {
    l1: Number(image.readBigUInt64BE(40)),
    l2: l2Tables[0]!,
    refcountTable: Number(image.readBigUInt64BE(48)),
    refcountBlock: refcountBlocks[0]!,
  });
  for (const directory of [twins.theirs, twins.ours]) writeFileSync(join(directory, "x.qcow2"), image);
}

/** Both programs' answers to the lines, and whether the corrupt bit is set. */
function both(...lines: string[]): { theirs: object; ours: object } {
  const words = ["-f", "qcow2", ...commands(...lines), "x.qcow2"];
  const answer = (outcome: ReturnType<typeof masked>, directory: string): object => {
    const image = readFileSync(join(directory, "x.qcow2"));
    return { ...outcome, isMarked: image.readUInt32BE(4) > 2 && (image.readBigUInt64BE(72) & 2n) !== 0n };
  };
  return {
    theirs: answer(masked(twins.qemuIo(words)), twins.theirs),
    ours: answer(masked(twins.blockwright("io", ...words)), twins.ours),
  };
}

const entry =
  (value: bigint, index = 0): Damage =>
  (image, { l2 }) =>
    void image.writeBigUInt64BE(value, l2 + 8 * index);

describe("a request that meets damage, and one after it", () => {
  it.each<[string, string, Damage]>([
    [
      "an L2 table on no cluster",
      "plain",
      (image, { l1, l2 }) => void image.writeBigUInt64BE(COPIED | BigInt(l2 + 512), l1),
    ],
    ["a data cluster on none", "plain", entry(COPIED | 0x50200n)],
    ["one of zeroes on none", "plain", entry(COPIED | 0x50201n)],
    ["an entry of zeroes in an old image", "old", entry(COPIED | 0x50001n)],
    [
      "a subcluster that is zero and data",
      "subclusters",
      (image, { l2 }) => void image.writeBigUInt64BE(0x1_0000_0001n, l2 + 8),
    ],
    ["a compressed cluster beside a data file", "outside", entry(COMPRESSED | 0x50000n)],
    ["a cluster of a data file at another place", "outside", entry(COPIED | 0x50000n)],
  ])("%s", (_name, image, change) => {
    damage(image, change);
    const { theirs, ours } = both("read 0 64k", "read 256k 64k", "write 512k 64k", "flush");
    const told = (text: object): string => JSON.stringify(text).replace("found  (", "found (");
    expect(told(ours)).toBe(told(theirs));
    expect(ours).toMatchObject({ status: 1, stdout: expect.stringContaining("No medium found") as unknown });
  });

  it.each<[string, Damage]>([
    ["an active table", (image, { l2 }) => void image.writeBigUInt64BE(COPIED | BigInt(l2), l2)],
    [
      "the refcount table",
      (image, { l2, refcountTable }) => void image.writeBigUInt64BE(COPIED | BigInt(refcountTable), l2),
    ],
  ])("a write that would land on %s, and a read after it", (_name, change) => {
    damage("plain", change);
    const { theirs, ours } = both("write -P 1 0 64k", "read 0 64k", "read 64k 64k", "flush");
    expect(ours).toEqual(theirs);
    expect(ours).toMatchObject({ isMarked: true });
  });
});

it.each<[string, number]>([
  ["discarded", 0],
  ["discarded twice over", 2],
])("a cluster with a wrong refcount that is %s fails no flush", (_name, count) => {
  damage("plain", (image, { l2, refcountBlock }) => {
    const cluster = Number((image.readBigUInt64BE(l2) & 0x00fffffffffffe00n) >> 16n);
    image.writeUInt16BE(count, refcountBlock + 2 * cluster);
  });
  const { theirs, ours } = both("discard 0 64k", "flush", "write -P 3 768k 4k", "flush", "read -P 3 768k 4k");
  // The real program tells it on stderr; a check does so in both.
  expect({ ...ours, stderr: "" }).toEqual({ ...theirs, stderr: "" });
  expect(ours).toMatchObject({ status: 0, stderr: "", isMarked: false });
  for (const directory of [twins.theirs, twins.ours]) expect(checked(directory)).toBe(checked(twins.theirs));
});

/** What the real program's check counts. */
function checked(directory: string): string {
  return spawnSync("qemu-img", ["check", "x.qcow2"], { cwd: directory, encoding: "utf8" }).stdout;
}
