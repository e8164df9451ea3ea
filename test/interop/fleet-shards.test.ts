// A disk of 1 TiB that is copied in shards: by the workers of one process, and over Redis by workers of which one is killed and one comes
// later. What is copied is held against qemu-img.
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { must } from "../support/tools.ts";
import { ended, FleetFolder, killed, type Status } from "./support/fleet.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
const TiB = 2 ** 40;
let folder: FleetFolder;

beforeEach(() => {
  folder = new FleetFolder();
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

/** What is left beside the target of how it came to be: the word that it is done, and no more. */
function leftovers(target: string): string[] {
  const words = readdirSync(folder.in(`.${target}.fleet`), { recursive: true }).map(String);
  return [...folder.leftovers(), ...words.filter((name) => !["f", "f/done", "tmp"].includes(name))];
}

describe("a disk in shards", () => {
  it("is copied by all workers of a process, whole, once", async () => {
    const source = folder.sparse("a.raw", { bytes: 64 * MiB + 512, pieces: 8, piece: 2 * MiB });
    const options = { sourceFormat: "raw", targetFormat: "raw", shards: 5 };
    const list = folder.list([
      { id: "a", kind: "mirror", source, target: folder.in("b.raw"), options },
      {
        id: "q",
        kind: "convert",
        source,
        target: folder.in("q"),
        options: { ...options, targetFormat: "qcow2" },
      },
      { id: "s", kind: "convert", source, target: folder.in("s"), options: { ...options, shardBytes: MiB } },
    ]);
    const { stdout, status } = await folder.fleet("run", list, "--workers", "3", "--json", "--jobs");
    const said = JSON.parse(stdout) as Status;
    expect(said.jobs[0]).toMatchObject({ state: "done", bytes: 16 * MiB, lastError: "" });
    expect(said.jobs[1]?.lastError).toContain("only a raw disk is written in shards");
    expect(said.jobs[2]?.lastError).toContain("'shards' and 'shardBytes' can't be used together");
    expect(status).toBe(1);
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, folder.in("b.raw"));
    expect(leftovers("b.raw")).toEqual([]);
    expect(existsSync(folder.in("q"))).toBe(false);
  });

  it("of 1 TiB is copied by workers over a queue, of which one is killed and one comes later", async () => {
    const pieces = 48;
    const source = folder.sparse("a.raw", { bytes: TiB, pieces, piece: 2 * MiB });
    const options = { sourceFormat: "raw", targetFormat: "raw", speedBytesPerSecond: 6 * MiB };
    const list = folder.list([{ id: "big", kind: "convert", source, target: folder.in("b.raw"), options }]);
    const { url } = await folder.redis();
    const worker = () => folder.start("worker", "--queue", url, "--lease", "1000", "--workers", "1");
    const workers = [1, 2, 3, 4].map(worker);
    await folder.fleet("submit", list, "--queue", url);
    const status = async (): Promise<Status> =>
      JSON.parse((await folder.fleet("status", "--queue", url, "--json", "--jobs")).stdout) as Status;
    // Whoever has the job is killed too, if it is him.
    await until("some shards are done", async () => ((await status()).jobs[0]?.shards?.done ?? 0) >= 4);
    expect((await status()).jobs[0]?.shards?.total).toBe(64);
    await killed(workers[0]!);
    worker();
    await until("it is done", async () => (await status()).done === 1);
    const { jobs, ...counts } = await status();
    expect(counts).toEqual({ queued: 0, running: 0, done: 1, failed: 0 });
    expect(jobs[0]?.lastError).toBe("");
    // What the killed one was at is copied once more.
    expect(jobs[0]?.bytes).toBeGreaterThanOrEqual(pieces * 2 * MiB);
    expect(jobs[0]?.bytes).toBeLessThanOrEqual(1.1 * pieces * 2 * MiB);
    expect(statSync(folder.in("b.raw")).size).toBe(TiB);
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, folder.in("b.raw"));
    // Who lives takes away himself what he was at when it was done; of who was killed nothing stays.
    await until(`nothing is left, not ${leftovers("b.raw").join()}`, () => leftovers("b.raw").length === 0);
  });
});

// What docs/SCALE.md tells of: minutes, and 13 GiB of room that takes 500 MiB/s (a file system in memory: TMPDIR=/dev/shm).
describe.skipIf(Number(process.env["BLOCKWRIGHT_TEST_FLEET"] ?? 0) < 1000)(
  "1 TiB by workers of 50 MiB/s",
  () => {
    const pieces = 256;
    const options = {
      sourceFormat: "raw",
      targetFormat: "raw",
      shards: pieces,
      speedBytesPerSecond: 50 * MiB,
    };

    let url: string;
    let round = 0;

    /** How long the second half of the shards takes, seconds, if so many workers come when the first one is done. */
    async function secondHalf(source: string, late: number): Promise<number> {
      const id = `round-${(round += 1)}`;
      const target = folder.in(`${id}.raw`);
      const list = folder.list([{ id, kind: "convert", source, target, options }]);
      const queue = ["--queue", `${url}?queue=${id}`];
      await folder.fleet("submit", list, ...queue);
      const worker = () => folder.start("worker", "--workers", "1", "--idle-exit", ...queue);
      const workers = [1, 2, 3, 4].map(worker);
      const words = folder.in(`.${id}.raw.fleet/f`);
      const done = (): number =>
        existsSync(words) ? readdirSync(words).filter((name) => name.startsWith("d0")).length : 0;
      await until("half is done", () => done() >= pieces / 2);
      const began = performance.now();
      for (let at = 0; at < late; at++) workers.push(worker());
      await until("it is there", () => existsSync(target));
      const seconds = (performance.now() - began) / 1000;
      await Promise.all(workers.map(ended));
      await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, target);
      rmSync(target);
      return seconds;
    }

    it("a fifth one that comes in the middle shortens what is left", { timeout: 1_800_000 }, async () => {
      const source = folder.sparse("source.raw", { bytes: TiB, pieces, piece: 24 * MiB });
      ({ url } = await folder.redis());
      const [four, five]: [number[], number[]] = [[], []];
      for (const isOdd of [false, true, false])
        for (const late of isOdd ? [1, 0] : [0, 1])
          (late === 0 ? four : five).push(await secondHalf(source, late));
      process.stderr.write(`${JSON.stringify({ four, five })}\n`);
      const median = (times: number[]): number => times.sort((a, b) => a - b)[1]!;
      expect(median(five)).toBeLessThanOrEqual(0.85 * median(four));
    });
  },
);
