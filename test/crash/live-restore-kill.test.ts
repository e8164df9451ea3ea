// SIGKILL at random moments of `backup restore --live`, into raw and qcow2, while a guest writes: the same command goes on, what the guest
// had flushed is there, and nothing that is noted as filled is filled again, by the system's own count of what was written.
//
// LIVE_KILLS: kills of each restore (default 2). CRASH_SEED: the first seed. The machine's own timing plays along.
import { copyFile, mkdtemp, open, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { randomness } from "../support/random.ts";
import { must } from "../support/tools.ts";
import { program } from "../support/verb-client.ts";
import { type CountedRun, runCounted } from "./support/counted.ts";

const KILLS = Number(process.env["LIVE_KILLS"] ?? 2);
const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const MiB = 2 ** 20;
const SIZE = 96 * MiB;
const GRANULE = 65536;
/** What a run writes beside the disk: what the guest writes, with the granules around it, tables, the map. */
const MORE = 2 * MiB;

let home: string;
const at = (name: string): string => join(home, name);

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "blockwright-live-kill-"));
  const random = randomness(4712);
  const bytes = Buffer.alloc(SIZE);
  for (let from = 0; from < SIZE; from += 4) bytes.writeUInt32LE(random(2 ** 32), from);
  await writeFile(at("disk.raw"), bytes);
  await must(
    process.execPath,
    program,
    "backup",
    "create",
    "-f",
    "raw",
    "--repo",
    at("repo"),
    at("disk.raw"),
  );
});

afterAll(async () => {
  await rm(home, { recursive: true, force: true });
});

/** A run that serves. */
function restore(format: string, speed: string): Promise<CountedRun> {
  const words = ["backup", "restore", "--repo", "repo", "latest", "out.img", "-O", format];
  return runCounted([...words, "--live", "unix:live.sock", "--speed", speed], home, "serving");
}

/** What a guest writes, durably; the disk as it is to be gets it, too. */
async function guestWrites(random: (limit: number) => number): Promise<void> {
  const commands: string[] = [];
  for (let i = 0; i < 4; i++) {
    const bytes = 512 * (1 + random(64));
    const offset = 512 * random((SIZE - bytes) / 512);
    const value = 1 + random(255);
    commands.push("-c", `write -P ${value} ${offset} ${bytes}`);
    const model = await open(at("model.raw"), "r+");
    await model.write(Buffer.alloc(bytes, value), 0, bytes, offset);
    await model.close();
  }
  const url = `nbd+unix:///?socket=${at("live.sock")}`;
  await must("qemu-io", "-f", "raw", ...commands, "-c", "flush", url);
}

/** Bytes that are noted as filled. */
async function filledBytes(): Promise<number> {
  const map = (await readdir(home)).find((name) => name.endsWith(".live.map"))!;
  let bits = 0;
  for (const byte of await readFile(at(map))) for (let bit = byte; bit > 0; bit >>= 1) bits += bit & 1;
  return bits * GRANULE;
}

test.each(["raw", "qcow2"])("%s goes on after each kill, and is filled once", async (format) => {
  const random = randomness(SEED * 7919);
  await copyFile(at("disk.raw"), at("model.raw"));
  let [all, filled] = [0, 0];
  for (let kill = 0; kill < KILLS; kill++) {
    // Slow enough that the disk is not whole before the last kill.
    const run = await restore(format, String(Math.ceil(SIZE / (40 * KILLS))));
    await guestWrites(random);
    await sleep(random(1500));
    process.kill(run.pid, "SIGKILL");
    all += (await run.ended).written;
    const now = await filledBytes();
    expect(now, `CRASH_SEED=${SEED}, kill ${kill}`).toBeGreaterThanOrEqual(filled);
    filled = now;
  }
  const last = await restore(format, "1G");
  await guestWrites(random);
  const { code, said, written } = await last.ended;
  expect(code, said).toBe(0);
  await must("qemu-img", "compare", "-f", "raw", "-F", format, at("model.raw"), at("out.img"));
  if (format === "qcow2") await must("qemu-img", "check", at("out.img"));
  expect(written, `CRASH_SEED=${SEED}`).toBeLessThanOrEqual(SIZE - filled + MORE);
  console.log(`${format}: ${KILLS} kills, ${((all + written) / SIZE).toFixed(3)} times the disk was written`);
  expect((await readdir(home)).filter((name) => name.startsWith("."))).toEqual([]);
  await rm(at("out.img"));
});
