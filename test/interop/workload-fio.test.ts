// The same job file by fio and by us: the mix, the sizes and the rate of what is sent agree within one percent; recordings of either
// are replayed by the other; logs of writes that QEMU made give the disk that it wrote.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { ResultDocument } from "../../src/workload.ts";
import { runVerb } from "../support/verb-client.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-workload-fio-"));
afterAll(() => rmSync(folder, { recursive: true }));
const hasFio = spawnSync("fio", ["--version"]).status === 0;
const hasQemu = spawnSync("qemu-io", ["--version"]).status === 0;

function workload(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return runVerb(["workload", ...words], { cwd: folder });
}

function write(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return name;
}

interface Line {
  readonly us: number;
  readonly action: string;
  readonly bytes: number;
}

/** The requests of an iolog of version 3. */
function linesOf(name: string): Line[] {
  const [head, ...lines] = readFileSync(join(folder, name), "utf8").trimEnd().split("\n");
  expect(head).toBe("fio version 3 iolog");
  return lines
    .map((line) => line.split(" "))
    .filter(({ length }) => length === 5)
    .map(([us, , action, , bytes]) => ({ us: Number(us), action: action!, bytes: Number(bytes) }));
}

const share = (lines: readonly Line[], of: (line: Line) => boolean): number =>
  (100 * lines.filter(of).length) / lines.length;

/** Requests a second, from the most punctual one of the first quarter to that of the last. */
function rateBy(lines: readonly Line[], perSecond: number): number {
  const late = lines.map(({ us }, at) => us - (at * 1e6) / perSecond);
  const quarter = Math.floor(lines.length / 4);
  const best = (from: number, end: number): number =>
    from + late.slice(from, end).indexOf(Math.min(...late.slice(from, end)));
  const [first, last] = [best(0, quarter), best(lines.length - quarter, lines.length)];
  return ((last - first) * 1e6) / (lines[last]!.us - lines[first]!.us);
}

describe.runIf(hasFio)("the same job file", () => {
  it.each([
    ["a mix", "rw=randrw\nrwmixread=70\nbs=4k\nnorandommap\n"],
    ["sizes by direction", "rw=randrw\nbssplit=4k/60:8k/40,8k/30:16k/70\nnorandommap\n"],
    ["a range of sizes", "rw=write\nbsrange=4k-64k\n"],
    ["flushes", "rw=randwrite\nbs=8k\nfsync=16\n"],
    ["trims that are written", "rw=randtrimwrite\nbs=4k\n"],
    [
      "sizes of all of a disk, each block once",
      "rw=randwrite\nbsrange=4k-32k\nsize=256m\nnumber_ios=40000\n",
    ],
  ])("%s: what is sent is fio's within 1 %%", (_name, options) => {
    const job = `[global]\nioengine=null\nsize=4g\nnumber_ios=20000\nrandrepeat=1\n[job]\n${options}`;
    write("ours.fio", job);
    write("theirs.fio", `${job}write_iolog=theirs.log\n`);
    rmSync(join(folder, "theirs.log"), { force: true });
    expect(spawnSync("fio", ["theirs.fio"], { cwd: folder }).status).toBe(0);
    const recorded = workload("record", "ours.fio", "--device", "ssd", "-o", "ours.log", "--target", NULL);
    expect(recorded).toMatchObject({ status: 0 });
    const [ours, theirs] = [linesOf("ours.log"), linesOf("theirs.log")];
    const kinds = new Set([...ours, ...theirs].map(({ action, bytes }) => `${action} ${bytes}`));
    for (const kind of kinds) {
      const isKind = ({ action, bytes }: Line): boolean => `${action} ${bytes}` === kind;
      expect(Math.abs(share(ours, isKind) - share(theirs, isKind)), kind).toBeLessThan(1);
    }
    for (const action of new Set(theirs.map((line) => line.action))) {
      const [own, other] = [ours, theirs].map((lines) => lines.filter((line) => line.action === action));
      const mean = (lines: readonly Line[]): number =>
        lines.reduce((sum, { bytes }) => sum + bytes, 0) / lines.length;
      const means = [mean(own!), mean(other!)];
      if (action !== "sync") expect(means[0]! / means[1]!, action).toBeCloseTo(1, 1.7);
    }
  });

  it.each([
    ["of both directions", "rwmixread=50\nrate_iops=12000,4000\n"],
    ["for both", "rwmixread=80\nrate_iops=8000\n"],
  ])("rates %s say the mix", (_name, options) => {
    const job = `[job]\nioengine=null\nrw=randrw\nbs=4k\nsize=4g\nnumber_ios=16000\n${options}`;
    write("mixed.fio", job);
    write("their-mixed.fio", `${job}write_iolog=their-mixed.log\n`);
    workload("record", "mixed.fio", "--device", "ssd", "-o", "mixed.log", "--target", NULL);
    const reads = (name: string): number => share(linesOf(name), ({ action }) => action === "read");
    const ours = reads("mixed.log");
    // On a machine that has other things to do fio ends before it has caught up.
    let theirs = Number.NaN;
    for (let attempt = 0; attempt < 8 && !(Math.abs(ours - theirs) < 1); attempt++) {
      rmSync(join(folder, "their-mixed.log"), { force: true });
      spawnSync("fio", ["their-mixed.fio"], { cwd: folder });
      theirs = reads("their-mixed.log");
    }
    expect(Math.abs(ours - theirs)).toBeLessThan(1);
  });

  it.each([
    ["requests", "rw=randread\nbs=4k\nrate_iops=500\nnumber_ios=251\n", 500],
    ["bytes", "rw=read\nbs=8k\nrate=8m\nnumber_ios=513\n", 1024],
  ])("a rate of %s", (_name, options, perSecond) => {
    const job = `[job]\nioengine=null\nsize=64m\n${options}`;
    write("rate.fio", job);
    write("their-rate.fio", `${job}write_iolog=their-rate.log\n`);
    workload("record", "rate.fio", "--device", "ssd", "-o", "rate.log");
    const rateOf = (name: string): number => rateBy(linesOf(name), perSecond);
    expect(Math.abs(rateOf("rate.log") / perSecond - 1)).toBeLessThan(0.001);
    // Of fio's every request may be late on a machine that has other things to do.
    let theirs = 0;
    for (let attempt = 0; attempt < 8 && Math.abs(theirs / perSecond - 1) > 0.01; attempt++) {
      rmSync(join(folder, "their-rate.log"), { force: true });
      spawnSync("fio", ["their-rate.fio"], { cwd: folder });
      theirs = rateOf("their-rate.log");
    }
    expect(Math.abs(theirs / perSecond - 1)).toBeLessThan(0.01);
  });

  it("a recording of fio's is replayed at its times, and ours by fio", () => {
    write(
      "slow.fio",
      "[job]\nfilename=disk.img\nrw=randrw\nbs=4k\nsize=1m\nrate_iops=20,20\nnumber_ios=12\nwrite_iolog=slow.log\n",
    );
    expect(spawnSync("fio", ["slow.fio"], { cwd: folder }).status).toBe(0);
    const lines = linesOf("slow.log");
    const { stdout } = workload("replay", "slow.log", "--device", "ssd");
    const { elapsedNs, workers } = JSON.parse(stdout) as ResultDocument;
    const lastedUs = lines.at(-1)!.us - lines[0]!.us;
    expect(workers[0]!.requests).toBe(lines.length);
    expect(Math.abs(elapsedNs / 1e3 - lastedUs)).toBeLessThan(1000);
    workload("record", "slow.fio", "--device", "ssd", "-o", "ours.log");
    write("again.fio", "[job]\nread_iolog=ours.log\nreplay_redirect=disk.img\n");
    const replayed = spawnSync("fio", ["--output-format=json", "again.fio"], {
      cwd: folder,
      encoding: "utf8",
    });
    const [job] = (JSON.parse(replayed.stdout) as { jobs: Record<string, { total_ios: number }>[] }).jobs;
    expect(job!["read"]!.total_ios + job!["write"]!.total_ios).toBe(linesOf("ours.log").length);
  });
});

const NULL = '{"driver":"null-co","size":4294967296}';

it.runIf(hasQemu && existsSync("/dev/null"))(
  "a log of writes that QEMU made gives the disk that it wrote",
  () => {
    for (const name of ["logged.img", "writes.log"]) writeFileSync(join(folder, name), "");
    spawnSync("truncate", ["-s", "1M", "logged.img"], { cwd: folder });
    const node =
      "driver=blklogwrites,file.driver=file,file.filename=logged.img,log.driver=file,log.filename=writes.log,log-sector-size=4096";
    const commands = [
      "write -P 7 0 64k",
      "write -f -P 9 128k 8k",
      "flush",
      "write -z 32k 16k",
      "discard 64k 4k",
      "write -P 3 500k 512",
    ];
    const made = spawnSync(
      "qemu-io",
      ["--image-opts", node, ...commands.flatMap((command) => ["-c", command])],
      { cwd: folder, encoding: "utf8" },
    );
    expect(made.stdout).not.toContain("failed");
    const replayed = workload("replay", "writes.log", "--target", "replayed.img", "--size", "1M");
    expect(replayed).toMatchObject({ status: 0 });
    const { digest, totals } = JSON.parse(replayed.stdout) as ResultDocument;
    expect(totals.write!.requests).toBeGreaterThanOrEqual(3);
    expect(totals.flush!.requests).toBeGreaterThanOrEqual(1);
    expect(readFileSync(join(folder, "replayed.img")).equals(readFileSync(join(folder, "logged.img")))).toBe(
      true,
    );
    expect(digest.disk).not.toBeNull();
  },
);
