// check and -r beside qemu-img on 500 damaged images: the same words, JSON and exit status without -r, and the same after -r
// leaks or -r all, whose results the real check then finds in the same state. Our check runs in this process; that the verb
// prints what is compared here is img-check.test.ts' matter.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkRefusal, exitStatus, jsonReport } from "../../src/cli/verbs/check/report.ts";
import { checkIn } from "../../src/api/check.ts";
import { fileGate } from "../../src/block/model/gate.ts";
import { createEngine, nodeHost } from "../../src/node.ts";
import { damagedCopy } from "../support/qcow2-damage.ts";
import { type Places, placesOf } from "../support/qcow2-structure.ts";
import { randomness } from "../support/random.ts";
import { must, tool } from "../support/tools.ts";

const COUNT = 500;
const seed = Number(process.env["CHECK_SEED"] ?? 20_261_125);
const only = process.env["CHECK_CASE"] === undefined ? undefined : Number(process.env["CHECK_CASE"]);

interface Base {
  readonly name: string;
  readonly image: Buffer;
  readonly places: Places;
}

/** Creation options of the images that are damaged, and what is done to them. */
const recipes: readonly { name: string; options: string; size: string; io: string[]; more?: string[] }[] = [
  {
    name: "plain",
    options: "cluster_size=4k",
    size: "4M",
    io: ["write -P 1 0 200k", "write -P 2 2M 60k", "write -z 3M 16k"],
  },
  {
    name: "version 2",
    options: "compat=0.10,cluster_size=4k",
    size: "4M",
    io: ["write -P 1 0 90k", "write -P 2 2M 60k"],
    more: ["snapshot -c one"],
  },
  {
    name: "snapshots",
    options: "cluster_size=4k",
    size: "4M",
    io: ["write -P 1 0 90k", "write -P 2 2100k 60k"],
    more: ["snapshot -c one", "io write -P 3 20k 50k", "snapshot -c two", "io write -P 3 2100k 9k"],
  },
  {
    name: "bitmaps",
    options: "cluster_size=4k",
    size: "4M",
    io: ["write -P 1 0 90k"],
    more: ["bitmap --add -g 4k IMG b0", "io write -P 3 20k 50k", "bitmap --add IMG b1"],
  },
  {
    name: "subclusters",
    options: "cluster_size=16k,extended_l2=on",
    size: "4M",
    io: ["write -P 1 0 90k", "write -P 2 2M 7k", "write -z 1M 30k", "write -P 3 1M 512"],
  },
  {
    name: "1-bit refcounts",
    options: "cluster_size=512,refcount_bits=1",
    size: "300k",
    io: ["write -P 1 0 50k", "write -P 2 200k 10k"],
  },
  {
    name: "64-bit refcounts",
    options: "cluster_size=512,refcount_bits=64",
    size: "300k",
    io: ["write -P 1 0 50k", "write -P 2 200k 10k"],
    more: ["snapshot -c one"],
  },
  {
    name: "many refcount blocks",
    options: "cluster_size=512",
    size: "2M",
    io: ["write -P 1 0 600k", "write -z 700k 10k"],
  },
  {
    name: "compressed",
    options: "cluster_size=4k",
    size: "2M",
    io: ["write -c -P 1 0 256k", "write -P 2 1M 60k", "write -c -P 7 512k 64k"],
  },
  {
    name: "zstd",
    options: "cluster_size=16k,compression_type=zstd",
    size: "2M",
    io: ["write -c -P 1 0 256k", "write -P 2 1M 60k"],
  },
  {
    name: "lazy refcounts",
    options: "cluster_size=4k,lazy_refcounts=on",
    size: "2M",
    io: ["write -P 1 0 50k"],
  },
  {
    name: "preallocated",
    options: "cluster_size=4k,preallocation=metadata",
    size: "1M",
    io: ["write -P 1 0 50k"],
  },
  {
    name: "usual clusters",
    options: "cluster_size=64k",
    size: "8M",
    io: ["write -P 1 0 300k", "write -P 2 5M 60k"],
    more: ["snapshot -c one"],
  },
  {
    name: "data file",
    options: "cluster_size=4k,data_file=DIR/data",
    size: "1M",
    io: ["write -P 1 0 50k", "write -z 100k 10k"],
  },
];

let directory: string;
const bases: Base[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-damaged-"));
  for (const { name, options, size, io, more = [] } of recipes) {
    const path = join(directory, "base.qcow2");
    const words = options.replace("DIR", directory);
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", words, path, size);
    await must("qemu-io", "-f", "qcow2", ...io.flatMap((line) => ["-c", line]), path);
    for (const line of more) {
      if (line.startsWith("io ")) await must("qemu-io", "-f", "qcow2", "-c", line.slice(3), path);
      else if (line.includes("IMG")) await must("qemu-img", ...line.replace("IMG", path).split(" "));
      else await must("qemu-img", ...line.split(" "), path);
    }
    const image = readFileSync(path);
    bases.push({ name, image, places: placesOf(image) });
  }
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Answer {
  readonly status: number;
  /** What was said on stderr. */
  readonly words: string[];
  readonly report: unknown;
}

type Repair = "leaks" | "all";

async function theirs(path: string, repair?: Repair): Promise<Answer> {
  const fix = repair ? ["-r", repair] : [];
  const { code, output } = await tool("qemu-img", "check", "-f", "qcow2", "--output=json", ...fix, path);
  const begin = output.startsWith("{\n") ? 0 : output.indexOf("\n{\n") + 1;
  const end = output.indexOf("\n}\n", begin) + 3;
  const hasReport = end > begin + 2 && output.startsWith("{\n", begin);
  const rest = hasReport ? output.slice(0, begin) + output.slice(end) : output;
  return {
    status: code,
    words: rest
      .split("\n")
      .filter((line) => line !== "")
      // We name no program.
      .map((line) => line.replace(/^qemu-img: (ERROR|Could not resize)/, "$1")),
    report: hasReport ? JSON.parse(output.slice(begin, end)) : undefined,
  };
}

async function ours(path: string, repair?: Repair): Promise<Answer> {
  const words: string[] = [];
  const engine = createEngine({ gate: fileGate("local", nodeHost()) });
  try {
    const report = await checkIn(
      engine,
      { driver: "qcow2", file: { driver: "file", filename: path } },
      { onMessage: (text) => words.push(...text.split("\n")), ...(repair ? { repair } : {}) },
    );
    if (report.checkErrors > 0) words.push("qemu-img: Check failed");
    const printed: unknown = JSON.parse(jsonReport(report, { filename: path, format: "qcow2" }));
    return { status: exitStatus(report), words, report: printed };
  } catch (error) {
    const refusal = checkRefusal(error, path);
    if (!refusal) throw error;
    const told = refusal.words.map((text) => `qemu-img: ${text}`.replace("qemu-img: ERROR", "ERROR"));
    return {
      status: refusal.status,
      words: [
        ...words,
        ...told.flatMap((text) => text.replace("with blockwright", "with qemu-img").split("\n")),
      ],
      report: undefined,
    };
  } finally {
    await engine.close();
  }
}

/** Why the answers to a repair may differ; see docs/COMPATIBILITY.md. */
function knownDifference(image: Buffer, mine: Answer, real: Answer): string | undefined {
  const says = ({ words }: Answer, text: string): boolean => words.some((line) => line.includes(text));
  const tooFar = "ERROR could not resize image: File too large";
  if (says(mine, tooFar) && !says(real, tooFar)) return "the file would grow to a block far away";
  if (says(real, "qcow2: Marking image as corrupt") || says(real, "No medium found"))
    return "the real program gives up in the middle of the repair";
  if (says(real, "ERROR rebuilt refcount structure is still broken"))
    return "the real program leaves its new refcounts wrong";
  const version3 = image.readUInt32BE(4) > 2;
  if (version3 && image.readBigUInt64BE(88) !== 0n && image.readUInt32BE(60) > 0)
    return "the real program writes the header anew and loses the snapshots";
  return undefined;
}

/** What need not be the same: where new structures lie, and how the real program fails to keep its bitmaps. */
function comparable({ status, words, report }: Answer): object {
  const { "image-end-offset": end, ...rest } = (report ?? {}) as Record<string, unknown>;
  const rebuilt = words.some((line) => /^Rebuilding|outside image|snapshot table entry/.test(line));
  const told = words.filter((line) => !/^qcow2_free_clusters failed|Lost persistent bitmaps/.test(line));
  return { status, words: told, report: rebuilt ? rest : { ...rest, end } };
}

const differences: string[] = [];

/** Damages one image, lets both check it, and repair a copy each. */
async function compareOne(index: number): Promise<void> {
  const random = randomness(seed * 1000 + index);
  const base = bases[index % bases.length]!;
  const { image, what } = damagedCopy(base.image, base.places, random);
  const name = `${base.name}, ${what.join(", ") || "nothing"}`;
  const repair = random(2) ? "all" : "leaks";
  const path = join(directory, `${index}.qcow2`);
  const copy = join(directory, `${index}.theirs`);
  writeFileSync(path, image);
  writeFileSync(copy, image);
  const mine = await ours(path);
  expect(readFileSync(path).equals(image), `${name}: nothing is written`).toBe(true);
  const real = await theirs(path);
  if (mine.words[0]?.endsWith("table offset invalid") && real.report !== undefined) {
    differences.push("an offset beyond 2^53");
    return;
  }
  expect({ name, ...mine }).toEqual({ name, ...real });
  const rename = (answer: Answer): Answer =>
    JSON.parse(JSON.stringify(answer).replaceAll(copy, path)) as Answer;
  const realRepair = rename(await theirs(copy, repair));
  const myRepair = await ours(path, repair);
  // What we leave the real program sees as we do.
  const left = await theirs(path);
  expect({ name, repair, ...(await ours(path)) }).toEqual({ name, repair, ...left });
  const difference = knownDifference(image, myRepair, realRepair);
  if (difference !== undefined) {
    differences.push(difference);
    if (myRepair.status === 0) expect({ name, repair, left: left.status }).toEqual({ name, repair, left: 0 });
    return;
  }
  expect({ name, repair, ...comparable(myRepair) }).toEqual({ name, repair, ...comparable(realRepair) });
  // The real program writes bitmaps anew when it closes the image, which leaves leaks after damage.
  if (base.name === "bitmaps") return;
  const leftByReal = rename(await theirs(copy));
  expect({ name, repair, left: left.status }).toEqual({ name, repair, left: leftByReal.status });
}

const BATCH = 50;

async function compareAndClean(index: number): Promise<void> {
  if (only !== undefined && index !== only) return;
  try {
    await compareOne(index);
  } catch (error) {
    const variables = `CHECK_SEED=${seed} CHECK_CASE=${index}`;
    console.error(
      `replay: ${variables} npx vitest run --project interop test/interop/img-check-damaged.test.ts`,
    );
    throw error;
  } finally {
    for (const suffix of ["qcow2", "theirs"]) rmSync(join(directory, `${index}.${suffix}`), { force: true });
  }
}

for (let first = 0; first < COUNT; first += BATCH) {
  test(`damaged images ${first} to ${first + BATCH - 1} are found and repaired as by qemu-img`, async () => {
    // Two at a time: the real programs run beside us.
    for (let index = first; index < first + BATCH; index += 2)
      await Promise.all([compareAndClean(index), compareAndClean(index + 1)]);
  });
}

test("few of them are repaired differently", () => {
  expect(differences.length, differences.join("\n")).toBeLessThan(COUNT / 20);
});
