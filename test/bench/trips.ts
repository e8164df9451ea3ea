// How many files and functions five walks through the house pass (docs/ARCHITECTURE.md): `npm run trips [-- ROOT [--files]]`, after a build, ROOT
// being a checkout of this project. Each source file is compiled by itself, and V8 counts which of their functions are called.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { transform } from "esbuild";
import type * as library from "../../src/node.ts";
import type * as v86 from "../../src/v86.ts";
import { FakeEmulator } from "../unit/machine/v86/fake-emulator.ts";
import { connectionPair } from "../unit/server/monitor/pipe.ts";

const root = resolve(process.argv[2] ?? process.cwd());
const out = join(root, "build", "trips");
const MiB = 2 ** 20;

/** What a walk passed. */
interface Trip {
  files: number;
  functions: number;
  calls: number;
  names: string[];
}

/** A function of V8's coverage, as far as it is looked at. */
interface Counted {
  functionName: string;
  ranges: { count: number }[];
}

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /(?<!\.d)\.ts$/.test(entry.name) ? [path] : [];
  });
}

/** Compiles each file of src/ by itself. */
async function compile(): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  for (const path of sources(join(root, "src"))) {
    const define = { BLOCKWRIGHT_VERSION: JSON.stringify(version) };
    const { code } = await transform(readFileSync(path, "utf8"), {
      loader: "ts",
      format: "esm",
      target: "node20.19",
      define,
    });
    const target = join(out, relative(root, path).replace(/\.ts$/, ".js"));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, code.replaceAll(/(["'])(\.{1,2}\/[^"'\n]+)\.ts\1/g, "$1$2.js$1"));
  }
}

/** Sums what was called up; functions without a name count for their file only. */
function sum(scripts: readonly { url: string; functions: readonly Counted[] }[]): Trip {
  const trip: Trip = { files: 0, functions: 0, calls: 0, names: [] };
  for (const { url, functions } of scripts) {
    if (!url.includes("/build/trips/src/")) continue;
    // The module's own body has no name and comes first.
    const called = functions.filter(({ ranges }, index) => index > 0 && (ranges[0]?.count ?? 0) > 0);
    const named = called.filter(({ functionName }) => functionName !== "");
    if (called.length === 0) continue;
    trip.files += 1;
    trip.names.push(url.replace(/^.*\/build\/trips\/src\//, "").replace(/\.js$/, ".ts"));
    trip.functions += named.length;
    trip.calls += named.reduce((calls, { ranges }) => calls + (ranges[0]?.count ?? 0), 0);
  }
  return trip;
}

const session = new Session();

/** What `walk` passes in this process. */
async function measure(walk: () => Promise<unknown>): Promise<Trip> {
  await session.post("Profiler.takePreciseCoverage");
  await walk();
  const { result } = await session.post("Profiler.takePreciseCoverage");
  return sum(result);
}

type Library = typeof library;
type ForV86 = typeof v86;

/** A file's description. */
const file = (filename: string): { driver: "file"; filename: string } => ({ driver: "file", filename });

/** A guest writes 4 KiB into a new cluster of an overlay, then into the same again, then flushes. */
async function guestWrites(library: Library, folder: string): Promise<Record<string, Trip>> {
  const base = file(join(folder, "base.raw"));
  await library.createImage({ driver: "raw", file: base, size: 64 * MiB });
  const top = file(join(folder, "top.qcow2"));
  await library.createImage({ driver: "qcow2", file: top, size: 64 * MiB });
  const backing = { driver: "raw" as const, file: base };
  const disk = await library.openNode({ driver: "qcow2", file: top, backing });
  const data = new Uint8Array(4096).fill(7);
  await disk.write(0, data);
  const trips = {
    "guest write, new cluster": await measure(() => disk.write(MiB, data)),
    "the same cluster again": await measure(() => disk.write(MiB, data)),
    "flush after it": await measure(() => disk.flush()),
  };
  await disk.close();
  return trips;
}

/** A mirror whose target fails, from its start to its stop. */
async function failedMirror(library: Library, folder: string): Promise<Record<string, Trip>> {
  const source = file(join(folder, "source.raw"));
  await library.createImage({ driver: "raw", file: source, size: 4 * MiB });
  const target = file(join(folder, "target.raw"));
  await library.createImage({ driver: "raw", file: target, size: 4 * MiB });
  const from = await library.openNode({ driver: "raw", file: source });
  await from.write(0, new Uint8Array(MiB).fill(1));
  const rule = { event: "pwritev" as const, errno: 28, once: true };
  const to = await library.openNode({
    driver: "raw",
    file: { driver: "blkdebug", image: target, "inject-error": [rule] },
  });
  const trip = await measure(async () => {
    const job = await library.mirror(from, to, { sync: "full", onTargetError: "stop" });
    while (job.status !== "paused") await new Promise((turn) => setImmediate(turn));
    void job.done.catch(() => undefined);
  });
  return { "mirror, failed write, pause": trip };
}

/** v86 reads 4 KiB of a qcow2 image over a file. */
async function v86Read(
  { toV86Disk }: ForV86,
  library: Library,
  folder: string,
): Promise<Record<string, Trip>> {
  const image = file(join(folder, "guest.qcow2"));
  await library.createImage({ driver: "qcow2", file: image, size: 64 * MiB });
  const engine = library.createEngine();
  const disk = await library.openNode({ driver: "qcow2", file: image }, { engine });
  await disk.write(0, new Uint8Array(MiB).fill(3));
  const hda = await toV86Disk(disk, {});
  hda.attach(new FakeEmulator());
  const get = (): Promise<void> => new Promise((done) => hda.get(65536, 4096, () => done()));
  await get();
  const trip = await measure(get);
  return { "v86 read of 4 KiB": trip };
}

/** A line of QMP from a client to its answer: blockdev-mirror with its engine running. */
async function qmpLine(library: Library, folder: string): Promise<Record<string, Trip>> {
  const engine = library.createEngine();
  const [ours, theirs] = connectionPair();
  void library.serveMonitor(theirs, engine);
  const client = await library.QmpClient.connect(ours);
  for (const name of ["one", "two"]) {
    const filename = join(folder, `${name}.raw`);
    await library.createImage({ driver: "raw", file: file(filename), size: MiB }, { engine });
    const node = { driver: "raw", "node-name": name, file: { driver: "file", filename } };
    await client.execute("blockdev-add", node as never);
  }
  const words = { "job-id": "j", device: "one", target: "two", sync: "full" };
  const trip = await measure(() => client.execute("blockdev-mirror", words as never));
  // The job goes on; its events are no part of the next walk.
  await client.close();
  await engine.close();
  return { "QMP line blockdev-mirror": trip };
}

/** `convert -c` of a raw image from its arguments to its exit, in a process of its own. */
function convert(folder: string): Record<string, Trip> {
  const coverage = join(folder, "coverage");
  writeFileSync(join(folder, "in.raw"), new Uint8Array(2 * MiB).fill(5));
  const main = join(out, "src", "cli", "blockwright.js");
  const words = [
    "convert",
    "-c",
    "-f",
    "raw",
    "-O",
    "qcow2",
    join(folder, "in.raw"),
    join(folder, "out.qcow2"),
  ];
  execFileSync(process.execPath, [main, ...words], {
    env: { ...process.env, NODE_V8_COVERAGE: coverage },
    stdio: "pipe",
  });
  const files = readdirSync(coverage).map((name) => readFileSync(join(coverage, name), "utf8"));
  const parts = files.map((text) => JSON.parse(text) as { result: { url: string; functions: Counted[] }[] });
  return { "convert -c, argv to exit": sum(parts.flatMap(({ result }) => result)) };
}

await compile();
const folder = mkdtempSync(join(tmpdir(), "blockwright-trips-"));
try {
  const library = (await import(pathToFileURL(join(out, "src", "node.js")).href)) as Library;
  const forV86 = (await import(pathToFileURL(join(out, "src", "v86.js")).href)) as ForV86;
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  const trips = {
    ...(await guestWrites(library, folder)),
    ...(await v86Read(forV86, library, folder)),
    ...(await qmpLine(library, folder)),
    ...(await failedMirror(library, folder)),
    ...convert(folder),
  };
  const rows = Object.entries(trips).map(([name, { names: _names, ...row }]) => [name, row]);
  console.table(Object.fromEntries(rows));
  if (process.argv.includes("--files"))
    for (const [name, { names }] of Object.entries(trips))
      console.log(`${name}: ${names.toSorted().join(" ")}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
// What the walks have opened is still open.
process.exit();
