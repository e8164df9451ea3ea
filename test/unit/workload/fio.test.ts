/** fio's job files: sections, units, what the options mean, and that nothing is dropped without being named. */
import { describe, expect, it } from "vitest";
import { readFioFile } from "../../../src/workload/fio/file.ts";
import { planOfFio } from "../../../src/workload/fio/plan.ts";
import { fioNumber, fioSplit, fioTime } from "../../../src/workload/fio/values.ts";
import type { WorkerPlan } from "../../../src/workload/model/plan.ts";

async function workers(text: string): Promise<readonly WorkerPlan[]> {
  return (await planOfFio(text, "job")).workers;
}

async function worker(options: string): Promise<WorkerPlan> {
  return (await workers(`[job]\nsize=1m\n${options}`))[0]!;
}

describe("the file", () => {
  it("has comments, variables, includes and sections of one name", async () => {
    const text =
      "; one\n# two\n[global]\nbs = 8k ; eight\ninclude more.inc\n[a]\nfilename=${DIR}/x\nthread\n[a]\n";
    const sections = await readFioFile(text, {
      variables: { DIR: "/disks" },
      include: (name) => Promise.resolve(name === "more.inc" ? "size=2m\n" : ""),
    });
    expect(sections.map(({ name, options }) => [name, options.map((one) => [one.name, one.value])])).toEqual([
      [
        "global",
        [
          ["bs", "8k"],
          ["size", "2m"],
        ],
      ],
      [
        "a",
        [
          ["filename", "/disks/x"],
          ["thread", undefined],
        ],
      ],
      ["a", []],
    ]);
  });

  it.each([
    ["bs=4k\n", "stands before the first [section]"],
    ["[a\n", "the ']' is missing"],
    ["[a]\n=4\n", "is no option"],
    ["[a]\ninclude x\n", "no file can be included"],
    ["[global]\nbs=4k\n", "has no job"],
    ["[a]\nrw=sideways\n", "rw=sideways is not understood"],
    ["[a]\nbs=4q\n", "line 2: bs: '4q' is no number"],
    ["[a]\nbssplit=4k/90:8k/20\n", "more than 100"],
    ["[a]\nwait_for=b\n", "names no job before it"],
  ])("%j is refused", async (text, message) => {
    await expect(planOfFio(text, "job")).rejects.toThrow(message);
  });
});

describe("values", () => {
  it.each<[string, number]>([
    ["512", 512],
    ["4k", 4096],
    ["4K", 4096],
    ["4kb", 4096],
    ["4ki", 4000],
    ["1.5m", 1_572_864],
    ["0x200", 512],
    ["2g", 2 ** 31],
    ["(4k*3)", 12_288],
    ["(1+2)*4k", Number.NaN],
    ["(2*(3+1))", 8],
  ])("%s", (text, value) => {
    if (Number.isNaN(value)) expect(fioNumber(text, 1024)).toBe(12_288);
    else expect(fioNumber(text, 1024)).toBe(value);
  });

  it("kb_base=1000 turns k and ki round", () => {
    expect([fioNumber("4k", 1000), fioNumber("4ki", 1000)]).toEqual([4000, 4096]);
  });

  it("times have a unit of their own, or the option's", () => {
    expect([fioTime("10", "s"), fioTime("250us", "s"), fioTime("5m", "s"), fioTime("30", "us")]).toEqual([
      10e9, 250e3, 300e9, 30e3,
    ]);
  });

  it("a split shares what is left", () => {
    expect(fioSplit("4k/50:64k/:1k/", 1024)).toEqual([
      { bytes: 4096, weight: 50 },
      { bytes: 65_536, weight: 25 },
      { bytes: 1024, weight: 25 },
    ]);
  });
});

describe("what options mean", () => {
  it.each<[string, Partial<WorkerPlan>]>([
    ["rw=randrw\nrwmixread=70", { mix: { read: 70, write: 30, zero: 0, discard: 0, flush: 0 } }],
    ["rw=randtrim", { mix: { read: 0, write: 0, zero: 0, discard: 1, flush: 0 } }],
    ["rw=randtrimwrite", { rewrites: true }],
    ["ioengine=libaio\niodepth=16", { depth: 16 }],
    ["ioengine=sync\niodepth=16", { depth: 1 }],
    ["rate_iops=500", { pace: { kind: "fixed", perSecond: 500, unit: "requests" } }],
    ["rate_iops=500\nrate_process=poisson", { pace: { kind: "poisson", perSecond: 500, unit: "requests" } }],
    ["rw=randrw\nrate=1m,2m", { pace: { kind: "fixed", perSecond: 3 * 2 ** 20, unit: "bytes" } }],
    ["runtime=10\ntime_based", { until: { durationNs: 10e9 } }],
    ["runtime=10\nloops=3", { until: { durationNs: 10e9, passes: 3 } }],
    ["number_ios=9\nio_size=64k", { until: { requests: 9, bytes: 65_536 } }],
    ["thinktime=2000\nthinktime_blocks=4", { think: { ns: 2e6, every: 4 } }],
    ["fsync=8\nend_fsync=1", { flushEvery: 8, flushAtEnd: true }],
    ["sync=1", { fuaPercent: 100 }],
    ["startdelay=4\nramp_time=2s", { startDelayNs: 4e9, warmupNs: 2e9 }],
    ["ramp_time=2s\nruntime=3\ntime_based", { warmupNs: 2e9, until: { durationNs: 5e9 } }],
    ["continue_on_error=verify", { onError: "stop", expected: [] }],
    ["ignore_error=EIO:28", { expected: ["EIO", "ENOSPC"] }],
    ["continue_on_error=all\nignore_error=ENOSPC", { onError: "continue", expected: ["ENOSPC"] }],
    ["rw=read:-8k", { locality: { randomPercent: 0, spread: { kind: "uniform" }, run: 1, skip: -8192 } }],
    ["rw=randread", { locality: { randomPercent: 100, spread: { kind: "once" }, run: 1, skip: 0 } }],
    [
      "rw=randread:8\nnorandommap",
      { locality: { randomPercent: 100, spread: { kind: "uniform" }, run: 8, skip: 0 } },
    ],
    [
      "rw=randread\nrandom_distribution=zipf:0.5",
      { locality: { randomPercent: 100, spread: { kind: "zipf", theta: 0.5 }, run: 1, skip: 0 } },
    ],
  ])("%j", async (options, expected) => {
    expect(await worker(options)).toMatchObject(expected);
  });

  it("sizes by direction", async () => {
    const { sizes } = await worker("bs=8k,16k");
    const one = (bytes: number): object => ({ kind: "split", parts: [{ bytes, weight: 1 }] });
    expect(sizes).toEqual({ read: one(8192), write: one(16_384), other: one(16_384) });
    expect((await worker("bsrange=4k-64k")).sizes.read).toEqual({
      kind: "range",
      min: 4096,
      max: 65_536,
      step: 4096,
    });
  });

  it("a stonewall waits for all before it, wait_for for one", async () => {
    const all = await workers(
      "[a]\nnumjobs=2\nsize=1m\n[b]\nstonewall\nsize=1m\n[c]\nsize=1m\n[d]\nwait_for=c\nsize=1m\n",
    );
    expect(all.map(({ name, after }) => [name, [...after]])).toEqual([
      ["a.0", []],
      ["a.1", []],
      ["b", [0, 1]],
      ["c", [0, 1]],
      ["d", [0, 1, 3]],
    ]);
  });

  it("files lie one after the other, and one that all share is the target", async () => {
    const own = await planOfFio("[a]\nsize=1m\nnumjobs=2\n", "job");
    expect(own.workers.map(({ region }) => region.offset)).toEqual([0, 2 ** 20]);
    expect(own.wishes.target).toBeUndefined();
    const shared = await planOfFio(
      "[global]\nfilename=/disks/x\nsize=1m\noffset_increment=1m\n[a]\nnumjobs=2\n",
      "job",
    );
    expect(shared.workers.map(({ region }) => region.offset)).toEqual([0, 2 ** 20]);
    expect(shared.wishes.target).toBe("/disks/x");
  });
});

describe("what has no effect is named", () => {
  it("with where it stands", async () => {
    const plan = await planOfFio(
      "[global]\nthread\n[a]\nsize=1m\nfrobnicate=7\nbs=\n[b]\nioengine=cpuio\n",
      "job",
    );
    expect(plan.ignored.map(({ name, where, reason }) => `${name} ${where} ${reason}`)).toEqual([
      "thread line 2, [global] not supported",
      "frobnicate line 5, [a] not supported",
      "bs line 6, [a] it has no value",
      "ioengine [b] ioengine=cpuio does no block I/O: the job is left out",
    ]);
    expect(plan.workers.map(({ name }) => name)).toEqual(["a"]);
  });
});

describe("what has an effect in part is named", () => {
  it.each([
    ["iodepth=8", "iodepth the engine sends one request at a time"],
    ["ioengine=libaio\nrw=randrw\npercentage_random=100,0", "percentage_random that of reads holds for all"],
    ["startdelay=2-9", "startdelay it is the least of the range"],
    ["continue_on_error=write", "continue_on_error errors of all requests are gone on after"],
    ["rw=randread\nrandom_distribution=zipf:1.2:0.25", "random_distribution its centre has no effect"],
    ["fsync=4\nfdatasync=2", "fdatasync fsync alone says when there are flushes"],
    ["rw=rw\nrate=1m,", "rate a direction without a rate is sent beside the others"],
    [
      "filename=/a:/b",
      "filename several files, or those of another engine, are parts of one disk, which --target names",
    ],
  ])("%j", async (options, told) => {
    const { ignored } = await planOfFio(`[a]\nsize=1m\n${options}\n`, "job");
    expect(ignored.map(({ name, where, reason }) => [where, `${name} ${reason}`])).toEqual([["[a]", told]]);
  });
});

describe("numbers out of their range are refused in fio's words", () => {
  it.each([
    ["iodepth=-3", "iodepth: min value out of range: -3 (1 min)"],
    ["iodepth=0", "iodepth: min value out of range: 0 (1 min)"],
    ["iodepth=many", "iodepth: it is no number"],
    ["rwmixread=150", "rwmixread: max value out of range: 150 (100 max)"],
    ["rw=randrw\nrwmixwrite=101", "rwmixwrite: max value out of range: 101 (100 max)"],
    ["dedupe_percentage=101%", "dedupe_percentage: max value out of range: 101 (100 max)"],
    ["rwmixread=70,30", "rwmixread: it is no number"],
    ["percentage_random=101", "percentage_random: max value out of range: 101 (100 max)"],
    ["ignore_error=EWHAT", "ignore_error: Unknown error EWHAT"],
    ["buffer_compress_percentage=101", "buffer_compress_percentage: max value out of range: 101 (100 max)"],
  ])("%s", async (line, message) => {
    await expect(planOfFio(`[a]\nsize=1m\nrw=randrw\n${line}\n`, "job")).rejects.toThrow(message);
  });
});
