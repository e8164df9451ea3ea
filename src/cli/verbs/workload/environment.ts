/** Where a run on the real clock happens: machine, versions, load, frequency, and the time that the hypervisor took. */
import { readFileSync } from "node:fs";
import { arch, cpus, loadavg, release, totalmem, type } from "node:os";
import { version } from "../../../version.ts";

function text(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Ticks that another machine had this one's processors, of all ticks, since boot. */
function stealTicks(): { steal: number; all: number } | undefined {
  const line = text("/proc/stat")?.split("\n")[0]?.split(/\s+/).slice(1).map(Number);
  return line && line.length > 7
    ? { steal: line[7]!, all: line.reduce((sum, ticks) => sum + ticks, 0) }
    : undefined;
}

/** Facts before the run, and after it (given those of before) with what changed. */
export function environment(before?: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const processors = cpus();
  const steal = stealTicks();
  const usage = process.cpuUsage();
  const facts = {
    blockwright: version,
    node: process.version,
    v8: process.versions.v8,
    system: `${type()} ${release()} ${arch()}`,
    processors: processors.length,
    processor: processors[0]?.model.trim() ?? "",
    memoryBytes: totalmem(),
    governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") ?? null,
    frequencyMHz: processors.map(({ speed }) => speed),
    load: loadavg(),
    cpuUserUs: usage.user,
    cpuSystemUs: usage.system,
    ticks: steal ?? null,
  };
  if (!before) return facts;
  const earlier = before as typeof facts;
  const ticks =
    steal && earlier.ticks
      ? (100 * (steal.steal - earlier.ticks.steal)) / Math.max(1, steal.all - earlier.ticks.all)
      : null;
  const { ticks: _ticks, cpuUserUs, cpuSystemUs, load, frequencyMHz, ...fixed } = facts;
  return {
    ...fixed,
    frequencyMHz: { before: earlier.frequencyMHz, after: frequencyMHz },
    load: { before: earlier.load, after: load },
    stealPercent: ticks,
    cpuUserUs: cpuUserUs - earlier.cpuUserUs,
    cpuSystemUs: cpuSystemUs - earlier.cpuSystemUs,
  };
}
