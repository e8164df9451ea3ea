/** Twenty ways to corrupt a disk, each of which a verified run must find; the same runs without them find nothing. */
import { describe, expect, it } from "vitest";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { BlockError } from "../../../src/base/errors.ts";
import { type ResultDocument, type WorkloadJson, runWorkload } from "../../../src/workload.ts";
import { noHost } from "../../../src/workload/time/no-host.ts";
import { type Kind, type Plant, planted } from "./planted.ts";

/** Each place is written once, some are zeroed or discarded, all are read: no later write hides what went wrong. */
const workload: WorkloadJson = {
  size: "256k",
  phases: [
    { workers: [{ mix: "write", locality: "once", depth: 4, requests: 64 }] },
    { workers: [{ mix: "zero", locality: "once", depth: 2, requests: 8, region: { size: "64k" } }] },
    { workers: [{ mix: "discard", sizes: "4k", requests: 4, region: { offset: "128k", size: "64k" } }] },
    { workers: [{ mix: "read", depth: 4, requests: 64 }] },
  ],
};

function run(seed: number, drivers = portableDrivers): Promise<ResultDocument> {
  return runWorkload(workload, { seed, device: "ssd", verify: true, platform: { host: noHost, drivers } });
}

const changed = (buffer: Uint8Array, change: (copy: Uint8Array) => void): Uint8Array => {
  const copy = buffer.slice();
  change(copy);
  return copy;
};

const elsewhere = (offset: number): number => (offset + 65_536) % 262_144;

const corruptions: readonly (readonly [name: string, kind: Kind, plant: Plant, nth?: number])[] = [
  ["a write is lost", "pwrite", () => undefined],
  [
    "a bit flips on the way to the disk",
    "pwrite",
    (driver, { offset, buffer }) =>
      driver.pwrite!(
        offset,
        changed(buffer, (copy) => void (copy[100]! ^= 4)),
        0,
      ),
  ],
  [
    "a write is torn, and told as whole",
    "pwrite",
    (driver, { offset, buffer }) => driver.pwrite!(offset, buffer.subarray(0, buffer.length - 512), 0),
  ],
  [
    "the first sector of a write is left out",
    "pwrite",
    (driver, { offset, buffer }) => driver.pwrite!(offset + 512, buffer.subarray(512), 0),
  ],
  [
    "a write goes elsewhere",
    "pwrite",
    (driver, { offset, buffer }) => driver.pwrite!(elsewhere(offset), buffer, 0),
  ],
  [
    "a write goes elsewhere, too",
    "pwrite",
    async (driver, { offset, buffer }, right) => {
      await right();
      await driver.pwrite!(elsewhere(offset), buffer, 0);
    },
    // The last one: no write comes after it.
    64,
  ],
  [
    "a write is one sector off",
    "pwrite",
    (driver, { offset, buffer }) => driver.pwrite!(Math.max(0, offset - 512), buffer, 0),
  ],
  [
    "zeroes are written in the place of data",
    "pwrite",
    (driver, { offset, bytes }) => driver.pwriteZeroes!(offset, bytes, 0),
  ],
  [
    "bytes are swapped in pairs",
    "pwrite",
    (driver, { offset, buffer }) =>
      driver.pwrite!(
        offset,
        buffer.map((_byte, i) => buffer[i ^ 1]!),
        0,
      ),
  ],
  [
    "the last byte of a write is missing",
    "pwrite",
    (driver, { offset, buffer }) => driver.pwrite!(offset, buffer.subarray(0, -1), 0),
  ],
  [
    "a write is told as failed, and has damaged its neighbour",
    "pwrite",
    async (driver, { offset, bytes }) => {
      await driver.pwriteZeroes!(elsewhere(offset), bytes, 0);
      throw new BlockError({ code: "EIO", op: "pwrite" });
    },
  ],
  ["zeroes are lost", "pwriteZeroes", () => undefined],
  [
    "zeroes reach a sector too far",
    "pwriteZeroes",
    (driver, { offset, bytes }) => driver.pwriteZeroes!(offset, bytes + 512, 0),
  ],
  [
    "zeroes end a sector early",
    "pwriteZeroes",
    (driver, { offset, bytes }) => driver.pwriteZeroes!(offset, bytes - 512, 0),
  ],
  [
    "zeroes go elsewhere",
    "pwriteZeroes",
    (driver, { offset, bytes }) => driver.pwriteZeroes!(elsewhere(offset), bytes, 0),
  ],
  [
    "a discard leaves noise",
    "pdiscard",
    (driver, { offset, bytes }) => driver.pwrite!(offset, new Uint8Array(bytes).fill(7), 0),
  ],
  [
    "a discard reaches a sector too far",
    "pdiscard",
    (driver, { offset, bytes }) => driver.pwriteZeroes!(offset, bytes + 512, 0),
  ],
  [
    "a discard goes elsewhere",
    "pdiscard",
    (driver, { offset, bytes }) => driver.pdiscard!(elsewhere(offset), bytes),
  ],
  [
    "a read shows another place",
    "pread",
    (driver, { offset, buffer }) => driver.pread(elsewhere(offset), buffer, 0),
  ],
  [
    "a read is short, and its rest zero",
    "pread",
    async (_driver, { buffer }, right) => {
      await right();
      buffer.fill(0, buffer.length - 512);
    },
  ],
];

/** Which request of a kind it is; of discards the last. */
const NTH: Readonly<Record<Kind, number>> = { pwrite: 37, pwriteZeroes: 3, pdiscard: 4, pread: 50 };

describe("twenty corruptions", () => {
  it("are twenty", () => {
    expect(new Set(corruptions.map(([name]) => name)).size).toBe(20);
  });

  const cases = corruptions.map(([name, kind, plant, nth = NTH[kind]]) => ({ name, kind, plant, nth }));

  it.each(cases)("$name", async ({ kind, plant, nth }) => {
    for (let seed = 1; seed <= 3; seed++) {
      const { status, verified, errors } = await run(seed, planted(kind, nth, plant));
      expect(status, `seed ${seed}`).toBe("failed");
      expect(verified!.corrupt, `seed ${seed}`).toBeGreaterThan(0);
      expect(errors.at(-1)).toMatchObject({ code: "CORRUPT" });
    }
  });

  it("and none where nothing is planted", async () => {
    for (let seed = 1; seed <= 3; seed++)
      expect(await run(seed)).toMatchObject({ status: "done", verified: { corrupt: 0 } });
  });
});
