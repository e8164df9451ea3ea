// What every protocol driver has to do, as cases over an open disk: each driver's tests run them, in Node, in a browser's
// page, and in a worker, where there is no test runner. A case throws when the driver fails it.
import type { BlockDriver } from "../../../../src/block/model/contract.ts";
import { Req } from "../../../../src/block/model/contract.ts";
import { randomness } from "../../../support/random.ts";

const KiB = 1024;
/** Bytes of a fresh disk that the cases are given. */
export const COMPLIANCE_BYTES = 768 * KiB;

/** An open disk of COMPLIANCE_BYTES, and its reopening. */
export interface ComplianceBench {
  driver: BlockDriver;
  /** Closes and opens it again; absent: its content ends with it. */
  reopen?: () => Promise<BlockDriver>;
  /** Read-only disks: what it holds. */
  content?: Uint8Array;
  /** Beyond its end a write makes it longer. */
  grows: boolean;
}

/** One case. */
export interface ComplianceCase {
  name: string;
  /** Only for disks that can be written. */
  writes: boolean;
  run: (bench: ComplianceBench) => Promise<void>;
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

async function expectContent(driver: BlockDriver, expected: Uint8Array, what: string): Promise<void> {
  const buffer = new Uint8Array(expected.byteLength).fill(0xee);
  await driver.pread(0, buffer, 0);
  const at = buffer.findIndex((byte, i) => byte !== expected[i]);
  check(at < 0, `${what}: byte ${at} is ${buffer[at]} instead of ${expected[at]}`);
}

async function randomChanges({ driver, reopen }: ComplianceBench): Promise<void> {
  const random = randomness(11);
  const model = new Uint8Array(COMPLIANCE_BYTES);
  let open = driver;
  for (let step = 1; step <= 80; step++) {
    const offset = 512 * random(COMPLIANCE_BYTES / 512 - 1);
    const bytes = 512 * (1 + random(Math.min(300, (COMPLIANCE_BYTES - offset) / 512 - 1)));
    const kind = random(6);
    if (kind === 0 && open.pwriteZeroes) {
      await open.pwriteZeroes(offset, bytes, random(2) === 0 ? Req.mayUnmap : 0);
      model.fill(0, offset, offset + bytes);
    } else if (kind === 1 && open.flush) {
      await open.flush();
    } else {
      await open.pwrite!(offset, new Uint8Array(bytes).fill(step), 0);
      model.fill(step, offset, offset + bytes);
    }
    if (step % 40 === 0) await expectContent(open, model, `after step ${step}`);
    if (step % 40 === 0 && reopen) {
      open = await reopen();
      await expectContent(open, model, `reopened after step ${step}`);
    }
  }
}

async function concurrentWrites({ driver }: ComplianceBench): Promise<void> {
  const unit = 12 * KiB;
  const writes = Array.from({ length: COMPLIANCE_BYTES / unit }, async (_, i) =>
    driver.pwrite!(i * unit, new Uint8Array(unit).fill(i + 1), 0),
  );
  await Promise.all(writes);
  const expected = Uint8Array.from({ length: COMPLIANCE_BYTES }, (_, i) => Math.floor(i / unit) + 1);
  await expectContent(driver, expected, "after concurrent writes");
}

async function statusCovers({ driver }: ComplianceBench): Promise<void> {
  if (!driver.blockStatus) return;
  const buffer = new Uint8Array(COMPLIANCE_BYTES);
  await driver.pread(0, buffer, 0);
  for (let at = 0; at < COMPLIANCE_BYTES;) {
    const { bytes, zero } = await driver.blockStatus(at, COMPLIANCE_BYTES - at, true);
    check(bytes > 0 && at + bytes <= COMPLIANCE_BYTES, `status at ${at} reaches ${bytes} bytes`);
    if (zero)
      check(
        buffer.subarray(at, at + bytes).every((byte) => byte === 0),
        `${at}+${bytes} is no hole`,
      );
    at += bytes;
  }
}

/** All cases, in an order that none depends on: each gets a fresh disk. */
export const complianceCases: readonly ComplianceCase[] = [
  {
    name: "the length is what it was made with",
    writes: false,
    run: async ({ driver }) => check(driver.length() === COMPLIANCE_BYTES, `length ${driver.length()}`),
  },
  {
    name: "reads of any place and length give the content",
    writes: false,
    async run({ driver, content = new Uint8Array(COMPLIANCE_BYTES) }) {
      for (const [offset, bytes] of [
        [0, 512],
        [65_024, 1024],
        [100 * KiB, 300 * KiB],
        [0, COMPLIANCE_BYTES],
      ] as const) {
        const buffer = new Uint8Array(bytes).fill(0xee);
        await driver.pread(offset, buffer, 0);
        check(
          buffer.every((byte, i) => byte === content[offset + i]),
          `read of ${offset}+${bytes}`,
        );
      }
    },
  },
  { name: "block status covers the disk, and a hole reads as zeroes", writes: false, run: statusCovers },
  { name: "random changes are the model's, also after reopening", writes: true, run: randomChanges },
  { name: "writes that run at once all arrive", writes: true, run: concurrentWrites },
  {
    name: "block status after writes, zeroes and discards tells no lie",
    writes: true,
    async run(bench) {
      const { driver } = bench;
      await driver.pwrite!(100 * KiB, new Uint8Array(200 * KiB).fill(1), 0);
      await driver.pwriteZeroes?.(128 * KiB, 64 * KiB, Req.mayUnmap);
      await driver.pdiscard?.(256 * KiB, 128 * KiB);
      await statusCovers(bench);
    },
  },
  {
    name: "the writer's buffer is its own again when the write is done",
    writes: true,
    async run({ driver }) {
      const buffer = new Uint8Array(128 * KiB).fill(5);
      await driver.pwrite!(0, buffer, 0);
      buffer.fill(6);
      const expected = new Uint8Array(COMPLIANCE_BYTES).fill(5, 0, 128 * KiB);
      await expectContent(driver, expected, "after the buffer was used again");
    },
  },
  {
    name: "what lies beyond a shorter length is gone when it grows again",
    writes: true,
    async run({ driver, grows }) {
      if (!driver.truncate || !grows) return;
      await driver.pwrite!(0, new Uint8Array(COMPLIANCE_BYTES).fill(3), 0);
      const cut = 130 * KiB + 512;
      await driver.truncate(cut, { exact: true, preallocation: "off" });
      check(driver.length() === cut, `length ${driver.length()} after truncate`);
      await driver.truncate(COMPLIANCE_BYTES, { exact: true, preallocation: "off" });
      await expectContent(driver, new Uint8Array(COMPLIANCE_BYTES).fill(3, 0, cut), "after growing again");
    },
  },
  {
    name: "a write beyond the end makes it longer",
    writes: true,
    async run({ driver, reopen, grows }) {
      if (!grows) return;
      await driver.pwrite!(COMPLIANCE_BYTES + 64 * KiB, new Uint8Array(512).fill(9), 0);
      const open = reopen ? await reopen() : driver;
      check(open.length() === COMPLIANCE_BYTES + 64 * KiB + 512, `length ${open.length()}`);
      const buffer = new Uint8Array(64 * KiB + 512).fill(0xee);
      await open.pread(COMPLIANCE_BYTES, buffer, 0);
      check(
        buffer.every((byte, i) => byte === (i < 64 * KiB ? 0 : 9)),
        "content beyond the old end",
      );
    },
  },
];
