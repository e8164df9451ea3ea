// check beside qemu-img check: images that are clean, leak, or are damaged in one place or in a few random ones; the same
// words, JSON and exit codes, and repaired images that the original finds clean. Without -r nothing is ever written.
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { type Outcome, Twins } from "./support/twins.ts";

let twins: Twins;
let clean: Buffer;
/** Offsets of the structures. */
const at = { refcountTable: 0, refcountBlock: 0, l1: 0, l2: 0 };

beforeAll(() => {
  twins = new Twins();
  const run = (tool: string, ...words: string[]): unknown => execFileSync(tool, words, { cwd: twins.theirs });
  run("qemu-img", "create", "-q", "-f", "qcow2", "clean.qcow2", "8M");
  run("qemu-io", "-c", "write -P 1 0 1M", "-c", "write -P 2 4M 200k", "-c", "write -z 6M 64k", "clean.qcow2");
  run("qemu-img", "convert", "-c", "-O", "qcow2", "clean.qcow2", "packed.qcow2");
  run("qemu-img", "create", "-q", "-f", "raw", "plain.raw", "1M");
  run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "gone", "-F", "raw", "orphan.qcow2", "1M");
  clean = readFileSync(join(twins.theirs, "clean.qcow2"));
  at.refcountTable = Number(clean.readBigUInt64BE(48));
  at.refcountBlock = Number(clean.readBigUInt64BE(at.refcountTable));
  at.l1 = Number(clean.readBigUInt64BE(40));
  at.l2 = Number(clean.readBigUInt64BE(at.l1) & 0x00fffffffffffe00n);
  twins.same();
});

afterAll(() => twins.remove());

/** Copies the clean image to image.qcow2 in both directories, with a change. */
function damage(change: (image: Buffer) => void): void {
  const image = Buffer.from(clean);
  change(image);
  for (const directory of [twins.theirs, twins.ours]) writeFileSync(join(directory, "image.qcow2"), image);
}

const damages: Record<string, (image: Buffer) => void> = {
  nothing: () => undefined,
  "a leak": (image) => image.writeUInt16BE(3, at.refcountBlock + 2 * 6),
  "a refcount of 0": (image) => image.writeUInt16BE(0, at.refcountBlock + 2 * 6),
  "no refcount for the header": (image) => image.writeUInt16BE(0, at.refcountBlock),
  "a wrong COPIED flag": (image) => image.writeUInt8(0, at.l2),
  "a wrong COPIED flag in L1": (image) => image.writeUInt8(0, at.l1),
  "an unaligned cluster": (image) => image.writeUInt8(2, at.l2 + 6),
  "a cluster twice": (image) => image.copy(image, at.l2 + 8, at.l2, at.l2 + 8),
  "a cluster beyond the end": (image) => image.writeUInt8(0x10, at.l2 + 4),
  "a cluster over metadata": (image) => image.writeBigUInt64BE((1n << 63n) | 0x10000n, at.l2),
  "an unaligned L2 table": (image) => image.writeUInt8(2, at.l1 + 6),
  "reserved bits": (image) => image.writeUInt8(0x81, at.l2),
  "a refcount block outside": (image) => image.writeBigUInt64BE(0x2000000n, at.refcountTable + 8),
  "no refcount block": (image) => image.writeBigUInt64BE(0n, at.refcountTable),
  "the dirty bit": (image) => image.writeUInt8(1, 79),
  "the corrupt bit": (image) => image.writeUInt8(2, 79),
};

function parsed({ status, stdout, stderr }: Outcome): unknown {
  return { status, stderr, report: stdout.startsWith("{") ? (JSON.parse(stdout) as unknown) : stdout };
}

describe("check", () => {
  it.each(Object.keys(damages))("reports %s as qemu-img does, and writes nothing", (name) => {
    damage(damages[name]!);
    const before = readFileSync(join(twins.ours, "image.qcow2"));
    const text = twins.both("check", "image.qcow2");
    expect(text.ours).toEqual(text.theirs);
    const json = twins.both("check", "--output=json", "image.qcow2");
    expect(parsed(json.ours)).toEqual(parsed(json.theirs));
    expect(readFileSync(join(twins.ours, "image.qcow2")).equals(before)).toBe(true);
  });

  it.each(Object.keys(damages).flatMap((name) => ["leaks", "all"].map((kind) => [name, kind] as const)))(
    "repairs %s with -r %s as qemu-img does",
    (name, kind) => {
      damage(damages[name]!);
      const { ours, theirs } = twins.both("check", "-r", kind, "image.qcow2");
      expect(ours).toEqual(theirs);
      copyFileSync(join(twins.ours, "image.qcow2"), join(twins.theirs, "ours.qcow2"));
      const left = [twins.qemuImg("check", "ours.qcow2"), twins.qemuImg("check", "image.qcow2")];
      expect(left[0]).toEqual(left[1]);
    },
  );

  it.each([
    "packed.qcow2",
    "plain.raw",
    "-f raw plain.raw",
    "-f qcow2 plain.raw",
    "-f nope plain.raw",
    "orphan.qcow2",
    "none.qcow2",
    "-q clean.qcow2",
    "-r foo clean.qcow2",
    "--output=x clean.qcow2",
    "-T nope clean.qcow2",
    "-U clean.qcow2",
    "-r all plain.raw",
    "-r all -f raw plain.raw",
    "-r leaks -q plain.raw",
    "-r leaks -U clean.qcow2",
    "--image-opts driver=qcow2,file.filename=clean.qcow2",
    "--image-opts file.filename=clean.qcow2",
    "",
    "a b",
  ])("answers as qemu-img: %s", (line) => {
    const { ours, theirs } = twins.both("check", ...line.split(" ").filter((word) => word !== ""));
    expect(ours).toEqual(theirs);
  });

  it("agrees on images with random damage, and repairs them so that the original finds them clean", () => {
    const random = randomness(20_261_123);
    for (let round = 0; round < 8; round++) {
      damage((image) => {
        for (let left = 1 + random(3); left > 0; left--) {
          const table = random(2) ? at.l2 + random(24) * 8 : at.refcountBlock + random(27) * 2;
          image.writeUInt8(random(256), table + random(table >= at.l2 ? 8 : 2));
        }
      });
      const { ours, theirs } = twins.both("check", "image.qcow2");
      expect(ours, `round ${round}`).toEqual(theirs);
      const repaired = twins.both("check", "-r", "all", "image.qcow2");
      expect(repaired.ours, `round ${round}`).toEqual(repaired.theirs);
    }
  });
});
