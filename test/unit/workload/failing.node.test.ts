/**
 * Runs that fail, each seed in its own way, print one document that parses and says so, and nothing beside it on stdout.
 * BLOCKWRIGHT_FAILING_RUNS: how many; default 60.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, it, vi } from "vitest";
import { defaultGate } from "../../../src/cli/options/engine.ts";
import type { WorkloadFlags } from "../../../src/cli/verbs/workload/flags.ts";
import { workload } from "../../../src/cli/verbs/workload/run.ts";
import { Dice } from "../../../src/sim/dice.ts";
import type { ResultDocument } from "../../../src/workload.ts";

const RUNS = Number(process.env["BLOCKWRIGHT_FAILING_RUNS"] ?? 60);
const folder = mkdtempSync(join(tmpdir(), "blockwright-failing-"));
afterAll(() => rmSync(folder, { recursive: true }));

let printed = "";
beforeEach(() => {
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
});
afterEach(() => void vi.restoreAllMocks());

function file(name: string, content: string | object): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

/** A load that meets what is injected into any kind of request. */
const load = {
  size: "256k",
  workers: [
    { mix: { read: 2, write: 2 }, locality: "random", sizes: "4k", depth: 3, requests: 60 },
    { name: "flusher", mix: "write", sizes: "8k", requests: 20, flushEvery: 2 },
  ],
};

/** How a run goes wrong. */
interface Wrong {
  readonly file: string;
  readonly flags: Partial<WorkloadFlags>;
  /** The exit status that it has. */
  readonly status: 1 | 2;
}

const memory = { driver: "memory", size: 262_144 };
const errnos = ["EIO", "ENOSPC"] as const;

/** The ways. */
const ways: readonly ((dice: Dice) => Wrong)[] = [
  function requestOfDevice(dice) {
    const fault = { kind: "error", errno: dice.pick(errnos), nth: dice.between(1, 60) };
    return {
      file: file("load.json", load),
      flags: { device: file("device.json", { faults: [fault] }) },
      status: 1,
    };
  },
  function zoneOfDevice(dice) {
    const zone = { errno: dice.pick(errnos), errorRate: dice.between(30, 100) / 100 };
    return {
      file: file("load.json", load),
      flags: { device: file("device.json", { zones: [zone] }) },
      status: 1,
    };
  },
  function rule(dice) {
    const [iotype, errno] = [dice.pick(["read", "write", "flush"]), dice.pick([5, 28])];
    const rules = [{ event: "none", iotype, errno, once: dice.oneIn(2) }];
    const target = { driver: "raw", file: { driver: "blkdebug", image: memory, "inject-error": rules } };
    return {
      file: file("load.json", load),
      flags: { target: JSON.stringify(target), device: "ssd" },
      status: 1,
    };
  },
  function job(dice) {
    const rules = [{ event: "none", iotype: "write", errno: dice.pick([5, 28]) }];
    const target = { driver: "blkdebug", image: memory, "inject-error": rules };
    const copy = { name: "copy", job: { type: dice.pick(["mirror", "backup"]), target } };
    const workers = [...load.workers, copy];
    return { file: file("load.json", { ...load, workers }), flags: { device: "ssd" }, status: 1 };
  },
  function noSuchTarget(dice) {
    const target = dice.pick(["missing/disk.img", '{"driver":"there-is-none"}']);
    return {
      file: file("load.json", load),
      flags: { target: target.startsWith("{") ? target : join(folder, target) },
      status: 1,
    };
  },
  function dataInTarget() {
    return { file: file("load.json", load), flags: { target: file("full.img", "x".repeat(512)) }, status: 2 };
  },
  function cutOff(dice) {
    const text = JSON.stringify(load);
    return { file: file("cut.json", text.slice(0, dice.below(text.length))), flags: {}, status: 2 };
  },
  function nonsense(dice) {
    const worker = dice.pick([
      { depth: -1 },
      { mix: "dance" },
      { sizes: "0" },
      { rate: "fast" },
      { duration: "-1s" },
    ]);
    return { file: file("bad.json", { ...load, workers: [worker] }), flags: {}, status: 2 };
  },
  function jobFile(dice) {
    const line = dice.pick([
      "bs=banana",
      "rw=sideways",
      "iodepth=-3",
      "size=${NOWHERE",
      "include nothing.fio",
    ]);
    return { file: file("bad.fio", `[job]\nsize=64k\n${line}\n`), flags: { device: "ssd" }, status: 2 };
  },
  function flag(dice) {
    const flags = dice.pick<Partial<WorkloadFlags>>([
      { seed: "many" },
      { clock: "sun" },
      { requests: "0" },
      { size: "large" },
      { device: join(folder, "no-model.json") },
      { device: file("device.json", { latency: { read: "soon" } }) },
      { target: '{"driver":' },
    ]);
    return { file: file("load.json", load), flags, status: 2 };
  },
];

it(`${RUNS} runs that fail leave as many documents that parse`, async () => {
  for (let seed = 1; seed <= RUNS; seed++) {
    const dice = new Dice(seed);
    const way = ways[seed % ways.length]!;
    const wrong = way(dice);
    const output = dice.pick(["json", "json+"]);
    printed = "";
    const flags = {
      diskDigest: true,
      gate: defaultGate,
      seed: String(seed),
      output,
      ...wrong.flags,
    } as WorkloadFlags;
    const status = await workload(dice.pick(["run", "verify"]), [wrong.file], flags);
    const where = `seed ${seed}, ${way.name}: ${printed.slice(0, 300)}`;
    expect(status, where).toBe(wrong.status);
    const document = JSON.parse(printed) as ResultDocument & { jobs?: unknown };
    expect(document.digest, where).toBeDefined();
    expect(document.status, where).toBe("failed");
    expect(document.errors.length, where).toBeGreaterThan(0);
    if (output === "json+") expect(document.jobs, where).toBeInstanceOf(Array);
  }
}, 1_200_000);
