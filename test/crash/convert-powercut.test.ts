// convert, written at once where it can be, or copied from file to file, with the power cut: the target keeps what was flushed and any sectors of the
// rest. It checks clean in qemu-img (leaks are allowed), and each of its sectors holds what it held before or what the source
// holds; once it is closed, all of it is the source's.
//
// CRASH_SEED: the first seed, CRASH_CUTS: cuts of each kind (default 12). A failure names its seed.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ConvertOptions, convert } from "../../src/api/convert.ts";
import { openNodeIn } from "../../src/api/open.ts";
import { fileGate } from "../../src/block/model/gate.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { Engine } from "../../src/machine/engine.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { randomness } from "../support/random.ts";
import { checkFaults, must } from "../support/tools.ts";
import { tally } from "../support/tally.ts";
import { RecordedFiles } from "./support/recorded-files.ts";
import { clusterSizes, makeTemplates } from "./support/templates.ts";

const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const CUTS = Number(process.env["CRASH_CUTS"] ?? 12);
const SECTOR = 512;

interface Kind {
  name: string;
  source: string;
  target: string;
  options: ConvertOptions;
}

const kinds: readonly Kind[] = [
  {
    name: "into an empty image",
    source: "base.qcow2",
    target: "target.qcow2",
    options: { targetIsZero: true },
  },
  { name: "over another disk", source: "top.qcow2", target: "used.qcow2", options: {} },
  { name: "of one layer", source: "top.qcow2", target: "layer.qcow2", options: { targetHasBacking: true } },
];
const images = ["base.qcow2", "mid.qcow2", "top.qcow2", "target.qcow2", "used.qcow2", "layer.qcow2"];

let home: string;

const templates = (clusterSize: number): string => join(home, `templates-${clusterSize}`);

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "blockwright-convert-"));
  for (const clusterSize of clusterSizes) {
    const directory = templates(clusterSize);
    await makeTemplates(directory, { clusterSize, random: randomness(SEED + clusterSize) });
    const path = (name: string): string => join(directory, name);
    const options = `cluster_size=${clusterSize}`;
    await must("qemu-img", "convert", "-O", "qcow2", "-o", options, path("mid.qcow2"), path("used.qcow2"));
    // A snapshot shares all of it: what is written over goes into new clusters.
    await must("qemu-img", "snapshot", "-c", "kept", path("used.qcow2"));
    const layer = ["-q", "-f", "qcow2", "-o", options, "-b", path("mid.qcow2"), "-F", "qcow2"];
    await must("qemu-img", "create", ...layer, path("layer.qcow2"));
  }
});

afterAll(() => rm(home, { recursive: true, force: true }));

async function play(
  { source, target, options }: Kind,
  files: RecordedFiles,
  directory: string,
): Promise<void> {
  const host = { ...nodeHost(), files };
  await using engine = new Engine({
    host,
    kernels: loadKernels({ arenaBytes: 2 ** 24 }),
    drivers: [...portableDrivers, file],
    gate: fileGate("local", host),
  });
  const open = (name: string, readOnly: boolean): ReturnType<typeof openNodeIn> =>
    openNodeIn(engine, {
      driver: "qcow2",
      file: { driver: "file", filename: join(directory, name) },
      "read-only": readOnly,
    });
  const from = await open(source, true);
  const to = await open(target, false);
  await convert(from, to, options);
  await to.close();
  await from.close();
}

async function flat(path: string): Promise<Buffer> {
  await must("qemu-img", "convert", "-U", "-O", "raw", path, `${path}.flat`);
  return readFile(`${path}.flat`);
}

/** The first sector that holds neither what was there nor what is to be there. */
function foreignSector(content: Buffer, before: Buffer, after: Buffer): number {
  for (let at = 0; at < content.byteLength; at += SECTOR) {
    const sector = content.subarray(at, at + SECTOR);
    const isOne = [before, after].some((disk) => disk.subarray(at, at + SECTOR).equals(sector));
    if (!isOne) return at / SECTOR;
  }
  return -1;
}

const cases = kinds.flatMap((kind) =>
  clusterSizes.flatMap((clusterSize) => [
    { ...kind, clusterSize, copies: false, how: "by reads and writes" },
    { ...kind, clusterSize, copies: true, how: "from file to file" },
  ]),
);

test.each(cases)(
  "convert $name, clusters of $clusterSize, $how",
  async ({ clusterSize, copies, ...kind }) => {
    const directory = templates(clusterSize);
    const path = join(directory, kind.target);
    const random = randomness(SEED * 101 + clusterSize + kind.name.length);
    const start = new Map<string, Uint8Array>();
    for (const name of images) start.set(join(directory, name), await readFile(join(directory, name)));
    const before = await flat(path);
    const after = await flat(join(directory, kind.source));
    const files = new RecordedFiles(start, random, { inTurn: true, copies });
    await play(kind, files, directory);
    // With large clusters few pieces are made of whole ones.
    if (clusterSize === clusterSizes[0] && !copies) expect(files.atOnce).toBeGreaterThan(10);
    if (clusterSize === clusterSizes[0]) expect(files.copied > 0).toBe(copies);
    const last = files.now;
    tally({ crashStates: CUTS });
    for (let cut = 0; cut < CUTS; cut++) {
      const at = cut === 0 ? last : random(last);
      const keep = [0, 50, 90, 100, 20][random(5)]!;
      const where = `CRASH_SEED=${SEED}: cut at ${at} of ${last}, keeping ${keep} %`;
      await writeFile(path, files.crash(at, keep).get(path)!);
      expect(await checkFaults(path, "allowed"), where).toBeUndefined();
      const content = await flat(path);
      if (cut === 0) expect(content.equals(after), where).toBe(true);
      expect(foreignSector(content, before, after), where).toBe(-1);
    }
    await writeFile(path, start.get(path)!);
  },
);
