// Recordings of any length: replayed at their times without drift, and in flat memory. Short here; BLOCKWRIGHT_REPLAY_SECONDS=600 replays
// ten minutes, and holds the drift against 0.1 %; BLOCKWRIGHT_REPLAY_RECORDS=10000000 is as many records.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { ResultDocument } from "../../src/workload.ts";
import { root } from "../support/root.ts";

const SECONDS = Number(process.env["BLOCKWRIGHT_REPLAY_SECONDS"] ?? 1);
const RECORDS = Number(process.env["BLOCKWRIGHT_REPLAY_RECORDS"] ?? 100_000);
/** A heap that a tenth of a kilobyte for each of ten million records would not fit into, by far. */
const HEAP_MIB = 64;
/** A limit against hanging: nothing takes so long. */
const timeout = 600_000 + SECONDS * 2000 + RECORDS / 2;
/** At this length a drift is more than one late request. */
const LONG_SECONDS = 60;

const folder = mkdtempSync(join(tmpdir(), "blockwright-long-"));
afterAll(() => rmSync(folder, { recursive: true }));

const NULL = '{"driver":"null-co","size":1073741824}';

/** An iolog of so many requests, one every so many microseconds. */
function iolog(name: string, records: number, everyUs: number): string {
  const fd = openSync(join(folder, name), "w");
  let text = "fio version 3 iolog\n0 d add\n0 d open\n";
  for (let i = 0; i < records; i++) {
    text += `${i * everyUs} d ${i % 3 === 0 ? "write" : "read"} ${((i * 7919) % 262_144) * 4096} 4096\n`;
    if (text.length > 2 ** 20) {
      writeSync(fd, text);
      text = "";
    }
  }
  writeSync(fd, text);
  closeSync(fd);
  return name;
}

/** Runs the verb in a small heap; its document, and the most memory that the process had. */
function workload(...words: string[]): { document: ResultDocument; mostKib: number } {
  const told = join(folder, "memory.txt");
  const tell = `import{writeFileSync}from"node:fs";process.on("exit",()=>writeFileSync(${JSON.stringify(told)},String(process.resourceUsage().maxRSS)))`;
  const program = join(root, "build", "cli", "main.js");
  const heap = [
    `--max-old-space-size=${HEAP_MIB}`,
    `--import=data:text/javascript,${encodeURIComponent(tell)}`,
  ];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...heap, program, "workload", ...words, "--target", NULL, "--no-disk-digest"],
    { cwd: folder, encoding: "utf8" },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return { document: JSON.parse(stdout) as ResultDocument, mostKib: Number(readFileSync(told, "utf8")) };
}

it(`a recording of ${SECONDS} s is replayed at its times`, { timeout }, () => {
  const perSecond = 200;
  const records = SECONDS * perSecond + 1;
  const name = iolog("timed.log", records, 1e6 / perSecond);
  const { document } = workload("replay", name, "--clock", "real", "--record", "again.log");
  expect(document.workers[0]!.requests).toBe(records);
  const times = readFileSync(join(folder, "again.log"), "utf8")
    .split("\n")
    .filter((line) => / (read|write) /.test(line))
    .map((line) => Number(line.split(" ")[0]));
  expect(times).toHaveLength(records);
  const lasted = times.at(-1)! / 1e6;
  console.log(`replayed in ${lasted} s, ${((lasted / SECONDS - 1) * 100).toFixed(4)} % more`);
  // Nothing is sent before its time; how much later depends on what else the machine does.
  for (const [i, us] of times.entries())
    expect(us).toBeGreaterThanOrEqual(Math.floor((i * 1e6) / perSecond) - 1);
  if (SECONDS >= LONG_SECONDS) expect(lasted / SECONDS - 1).toBeLessThanOrEqual(0.001);
});

it(`${RECORDS} records are replayed and recorded in a heap of ${HEAP_MIB} MiB`, { timeout }, () => {
  const few = workload("replay", iolog("few.log", 20_000, 1), "--speed", "0");
  const name = iolog("many.log", RECORDS, 1);
  const { document, mostKib } = workload("replay", name, "--speed", "0", "--record", "copy.log");
  expect(document.workers[0]!.requests).toBe(RECORDS);
  console.log(`${RECORDS} records: ${mostKib} KiB at most; 20000: ${few.mostKib} KiB`);
  expect(statSync(join(folder, "copy.log")).size).toBeGreaterThan(statSync(join(folder, name)).size / 2);
});
