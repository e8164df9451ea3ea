/**
 * Speed of the kernels beside what Node and npm offer: GB/s of CPU time (10^9 bytes), medians of interleaved slices.
 * CPU time and not the clock, since a shared machine makes the clock lie; ratios between lines of one block are what
 * counts. A program without asserts: `npm run bench:kernels [-- --pairs ROUNDS --record]`.
 */
import bufferEqual from "buffer-equal";
import { compare as uint8arraysCompare } from "uint8arrays/compare";
import { equals as uint8arraysEquals } from "uint8arrays/equals";
import { sameBytes } from "../../src/platform/node/compare.ts";
import { crc32c as nodeRsCrc32c } from "@node-rs/crc32";
import { createCRC32, createXXHash3 } from "hash-wasm";
import createXxhashWasm from "xxhash-wasm";
import { Arena } from "../../src/kernels/arena.ts";
import { Bitmap } from "../../src/kernels/bitmap.ts";
import type { Kernels } from "../../src/kernels/kernels.ts";
import { loadKernels, loadTwinKernels } from "../../src/kernels/load.ts";
import { median } from "../../src/workload/stats/bootstrap.ts";
import { type Judged, type Row, type Sample, rowOf } from "./support/contest.ts";
import { benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZES = [64 * KiB, 256 * KiB, MiB, 16 * MiB];
const SLICE_MS = 12;
const options = benchOptions({ mebibytes: 40, pairs: 11 });
/** The rows for docs/benchmarks.json. */
const rows: Row[] = [];

interface Line {
  readonly name: string;
  /** Ours, by WebAssembly and in place: the line that the others are held against. */
  readonly ours?: boolean;
  /** Another's: what ours is held against in the documentation. */
  readonly isPeer?: boolean;
  /** Prepares a run over `bytes` bytes. */
  readonly over: (bytes: number) => () => unknown;
}

let sink: unknown;

/** CPU microseconds that this process has used. */
function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Microseconds of CPU for one call, in a slice of about SLICE_MS. */
function slice(run: () => unknown, calls: number): number {
  const start = cpuMicroseconds();
  for (let i = 0; i < calls; i++) sink = run();
  return (cpuMicroseconds() - start) / calls;
}

/** How many calls fill a slice; warms up at the same time. */
function calibrate(run: () => unknown): number {
  // The first ones touch memory that was never touched, and compile.
  slice(run, 3);
  let calls = 1;
  while (slice(run, calls) * calls < SLICE_MS * 500 && calls < 2 ** 28) calls *= 2;
  return calls * 2;
}

/** Microseconds of each line's call by rounds, the lines taking turns. */
function measure(runs: (() => unknown)[]): number[][] {
  const calls = runs.map(calibrate);
  const times: number[][] = runs.map(() => []);
  for (let round = 0; round < options.pairs; round++) {
    for (let i = 0; i < runs.length; i++) {
      const at = (i + round) % runs.length;
      times[at]!.push(slice(runs[at]!, calls[at]!));
    }
  }
  return times;
}

function inWords(bytes: number): string {
  if (bytes < KiB) return `${bytes} B`;
  return bytes < MiB ? `${bytes / KiB} KiB` : `${bytes / MiB} MiB`;
}

/** Keeps what the documentation tells: ours beside one of another's. */
function keep(judged: Judged, theirs: readonly number[], ours: readonly number[]): void {
  const samples = (values: readonly number[]): Sample[] => values.map((value) => ({ value }));
  rows.push(rowOf(judged, { theirs: samples(theirs), ours: samples(ours) }));
}

/** The speeds of lines at a size, GB/s by rounds. */
function speedsOf(lines: readonly Line[], bytes: number): number[][] {
  const times = measure(lines.map((line) => line.over(bytes)));
  return times.map((rounds) => rounds.map((microseconds) => bytes / microseconds / 1000));
}

/** Prints a block: a column of GB/s for each size, and how often as fast our first line is. Those of `told` sizes are kept. */
function block(
  title: string,
  lines: Line[],
  { sizes = SIZES, told = [256 * KiB], goal }: { sizes?: number[]; told?: number[]; goal?: number } = {},
): void {
  const table = sizes.map((bytes) => speedsOf(lines, bytes));
  const medians = table.map((column) => column.map(median));
  const head = sizes.map((bytes) => inWords(bytes).padStart(8)).join("");
  console.log(`\n${title.padEnd(44)}${head}   GB/s; ours/this by column`);
  const ours = Math.max(
    0,
    lines.findIndex((line) => line.ours),
  );
  lines.forEach((line, i) => {
    const speeds = medians.map((column) => column[i]!.toFixed(1).padStart(8)).join("");
    const ratios = medians.map((column) => (column[ours]! / column[i]!).toFixed(2).padStart(6)).join("");
    console.log(`  ${line.name.padEnd(42)}${speeds}  ${i === ours ? "" : ratios}`);
    if (!line.isPeer) return;
    for (const bytes of told) {
      const column = table[sizes.indexOf(bytes)]!;
      const name = `${title}, ${inWords(bytes)}, GB/s`;
      const judged = { name, peer: line.name, moreIsBetter: true, ...(goal === undefined ? {} : { goal }) };
      keep(judged, column[i]!, column[ours]!);
    }
  });
}

const kernels = loadKernels({ arenaBytes: 40 * MiB, equals: sameBytes });
const twin = loadTwinKernels({ arenaBytes: 64 * KiB });
const arena = new Arena(kernels);
const inA = arena.tryAcquire(16 * MiB)!.bytes;
const inB = arena.tryAcquire(16 * MiB)!.bytes;
const heapA = Buffer.alloc(16 * MiB);
const heapB = Buffer.alloc(16 * MiB);

/** Fills a buffer with reproducible noise. */
function scramble(bytes: Uint8Array): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  let state = 88172645;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    words[i] = state ^= state << 5;
  }
}

function fill(how: "zeros" | "noise"): void {
  for (const bytes of [inA, inB, heapA, heapB]) {
    if (how === "zeros") bytes.fill(0);
    else scramble(bytes);
  }
}

/** A plain loop over bytes: what small packages do. */
function equalByteLoop(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function onHeap(run: (set: Kernels, bytes: Uint8Array) => unknown, set: Kernels): Line["over"] {
  return (bytes) => {
    const view = new Uint8Array(heapA.buffer, heapA.byteOffset, bytes);
    return () => run(set, view);
  };
}

/** The three lines of one of our kernels over one buffer: in place, from the heap, and the twin's. */
function ourLines(name: string, run: (set: Kernels, bytes: Uint8Array) => unknown): Line[] {
  const inPlace = (bytes: number): (() => unknown) => {
    const view = inA.subarray(0, bytes);
    return () => run(kernels, view);
  };
  return [
    { name: `${name}, in the arena`, ours: true, over: inPlace },
    { name: `${name}, staged from the heap`, over: onHeap(run, kernels) },
    { name: `${name}, twin`, over: onHeap(run, twin) },
  ];
}

function zeroBlocks(): void {
  fill("zeros");
  const list = new Uint32Array(2048);
  block("zero test", [
    ...ourLines("isZero", (set, bytes) => set.isZero(bytes)),
    {
      name: "Buffer.equals(zeros)",
      isPeer: true,
      over: (bytes) => {
        const [a, b] = [heapA.subarray(0, bytes), heapB.subarray(0, bytes)];
        return () => a.equals(b);
      },
    },
    {
      name: "byte loop",
      over: (bytes) => {
        const [a, b] = [heapA.subarray(0, bytes), heapB.subarray(0, bytes)];
        return () => equalByteLoop(a, b);
      },
    },
  ]);
  block("zero runs", [
    ...ourLines("zeroRuns 4 KiB", (set, bytes) => set.zeroRuns(bytes, 4096, list)),
    ...ourLines("zeroRuns 512 B", (set, bytes) => set.zeroRuns(bytes, 512, list)).slice(0, 1),
    ...ourLines("zeroRuns 64 KiB", (set, bytes) => set.zeroRuns(bytes, 65536, list)).slice(0, 1),
  ]);
}

/** What npm offers to tell whether two buffers are equal, beside the first difference; on the same memory. */
function equalBlock(): void {
  const line = (name: string, run: (a: Uint8Array, b: Uint8Array) => unknown): Line => ({
    name,
    ours: name.startsWith("firstDifference"),
    isPeer: name.startsWith("uint8arrays, compare"),
    over: (bytes) => {
      const [a, b] = [inA.subarray(0, bytes), inB.subarray(0, bytes)];
      return () => run(a, b);
    },
  });
  const lines = [
    line("firstDifference", (a, b) => kernels.firstDifference(a, b)),
    line("uint8arrays, compare", (a, b) => uint8arraysCompare(a, b)),
    line("uint8arrays, equals", (a, b) => uint8arraysEquals(a, b)),
    {
      // It takes Buffers only.
      name: "buffer-equal",
      isPeer: true,
      over: (bytes: number) => {
        const [a, b] = [heapA.subarray(0, bytes), heapB.subarray(0, bytes)];
        return () => bufferEqual(a, b);
      },
    },
  ];
  block("equality of small buffers", lines, { sizes: [64, 512, 4 * KiB, 16 * KiB], told: [512, 4 * KiB] });
  block("equality of large buffers", lines);
}

function compareBlock(): void {
  const list = new Uint32Array(2048);
  const pair = (bytes: number, inside: boolean): [Uint8Array, Uint8Array] =>
    inside
      ? [inA.subarray(0, bytes), inB.subarray(0, bytes)]
      : [heapA.subarray(0, bytes), heapB.subarray(0, bytes)];
  const line = (name: string, inside: boolean, run: (a: Uint8Array, b: Uint8Array) => unknown): Line => ({
    name,
    ours: inside,
    isPeer: name === "Buffer.compare" || name === "TypedArray.set on the heap",
    over: (bytes) => {
      const [a, b] = pair(bytes, inside);
      return () => run(a, b);
    },
  });
  block("compare, equal noise", [
    line("firstDifference, in the arena", true, (a, b) => kernels.firstDifference(a, b)),
    line("firstDifference, staged from the heap", false, (a, b) => kernels.firstDifference(a, b)),
    line("firstDifference, twin", false, (a, b) => twin.firstDifference(a, b)),
    line("differenceRuns 64 KiB, in the arena", true, (a, b) => kernels.differenceRuns(a, b, 65536, list)),
    line("differenceRuns 512 B, in the arena", true, (a, b) => kernels.differenceRuns(a, b, 512, list)),
    line("Buffer.compare", false, (a, b) => Buffer.compare(a, b)),
    line("Buffer.equals", false, (a, b) => (a as Buffer).equals(b)),
    line("byte loop", false, equalByteLoop),
  ]);
  fill("zeros");
  block("copy, zeros", [
    line("copyAndTestZero, in the arena", true, (a, b) => kernels.copyAndTestZero(b, a)),
    line("copyAndTestZero, from the heap", false, (a, b) => kernels.copyAndTestZero(b, a)),
    line("copy, in the arena", true, (a, b) => kernels.copy(b, a)),
    line("TypedArray.set on the heap", false, (a, b) => b.set(a)),
  ]);
  fill("noise");
}

async function hashBlocks(): Promise<void> {
  const wasmCrc = await createCRC32(0x82f63b78);
  const wasmXxh3 = await createXXHash3();
  const xxhashWasm = await createXxhashWasm();
  const heap =
    (run: (bytes: Uint8Array) => unknown): Line["over"] =>
    (bytes) => {
      const view = heapA.subarray(0, bytes);
      return () => run(view);
    };
  block("CRC-32C", [
    ...ourLines("crc32c", (set, bytes) => set.crc32c(bytes)),
    { name: "@node-rs/crc32 (native add-on)", isPeer: true, over: heap((bytes) => nodeRsCrc32c(bytes)) },
    { name: "hash-wasm", over: heap((bytes) => wasmCrc.init().update(bytes).digest("binary")) },
  ]);
  const xxh3Lines: Line[] = [
    ...ourLines("xxh3", (set, bytes) => set.xxh3(bytes)),
    {
      name: "hash-wasm (XXH3)",
      isPeer: true,
      over: heap((bytes) => wasmXxh3.init().update(bytes).digest("binary")),
    },
    { name: "xxhash-wasm (XXH64, another hash)", over: heap((bytes) => xxhashWasm.h64Raw(bytes)) },
  ];
  block("XXH3-64", xxh3Lines, { goal: 4 });
}

const GRANULES = 16 * MiB;
const GRANULE = 65536;

/** What a program without a bitmap does: the runs of ones in 32-bit words, as bytes, into a list that goes round. */
function plainScan(words: Uint32Array, out: Float64Array): number {
  let found = 0;
  let to = 0;
  for (let w = 0; w < words.length; w++) {
    for (let word = words[w]!; word !== 0; found++) {
      const low = 31 - Math.clz32(word & -word);
      const rest = ~(word >>> low);
      const ones = 31 - Math.clz32(rest & -rest);
      out[to] = (w * 32 + low) * GRANULE;
      out[to + 1] = ones * GRANULE;
      to = (to + 2) % out.length;
      word &= low + ones >= 32 ? 0 : -1 << (low + ones);
    }
  }
  return found;
}

/** As above, for setting: bit by bit, whole words where they are; how many bits or words were not set. */
function plainSet(words: Uint32Array, first: number, count: number): number {
  let changed = 0;
  const end = first + count;
  for (let bit = first; bit < end;) {
    const whole = (bit & 31) === 0 && end - bit >= 32;
    const mask = whole ? -1 : 1 << (bit & 31);
    if ((words[bit >>> 5]! & mask) !== mask) changed += 1;
    words[bit >>> 5]! |= mask;
    bit += whole ? 32 : 1;
  }
  return changed;
}

/** What a line of the bitmap's block is: its name, what is counted, and whether the documentation tells it. */
interface BitmapLine {
  readonly title: string;
  readonly unit: string;
  readonly items: number;
  readonly isTold: boolean;
}

/** Prints ours, the twin, and the plain loop: time by item, ns. */
function tellBitmap({ title, unit, items, isTold }: BitmapLine, times: readonly number[][]): void {
  const each = times.map((rounds) => rounds.map((time) => (time * 1000) / Math.max(1, items)));
  const cells = each.map((rounds) => `${median(rounds).toFixed(1)} ${unit}`.padStart(14)).join("");
  console.log(`  ${title.padEnd(28)}${cells}`);
  if (isTold)
    keep({ name: `bitmap: ${title}, ${unit}`, peer: "a loop over a Uint32Array" }, each[2]!, each[0]!);
}

function scans(every: number): void {
  const length = GRANULES * GRANULE;
  const pairs = new Float64Array(2 * 256);
  const bitmaps = [kernels, twin].map((set) => new Bitmap(length, GRANULE, set));
  const words = new Uint32Array(GRANULES / 32);
  for (let i = 0; i < GRANULES && every > 0; i += every) {
    for (const bitmap of bitmaps) bitmap.set(i * GRANULE, 1);
    words[i >>> 5]! |= 1 << (i & 31);
  }
  let found = 0;
  const runs = bitmaps.map((bitmap) => (): void => {
    found = 0;
    for (let at = 0; ;) {
      const count = bitmap.writeExtents(at, length, pairs);
      found += count;
      if (count < 256) break;
      at = pairs[510]! + pairs[511]!;
    }
  });
  const times = measure([...runs, (): unknown => plainScan(words, pairs)]);
  const title = every === 0 ? "scan, clean" : every === 1 ? "scan, all dirty" : `scan, one bit in ${every}`;
  const unit = found > 1 ? "ns/extent" : "ns";
  // Where nearly nothing is found, or one extent, the loop only shows how many words it has to look at.
  tellBitmap({ title, unit, items: found, isTold: every > 1 && every <= 1000 }, times);
  for (const bitmap of bitmaps) bitmap.free();
}

function sets(granules: number): void {
  const length = GRANULES * GRANULE;
  const bitmaps = [kernels, twin].map((set) => new Bitmap(length, GRANULE, set));
  const words = new Uint32Array(GRANULES / 32);
  const firsts = Uint32Array.from({ length: 1000 }, (_, i) => (i * 7919) % (GRANULES - granules));
  const runs = bitmaps.map((bitmap) => (): void => {
    for (const first of firsts) bitmap.set(first * GRANULE, granules * GRANULE);
  });
  const plain = (): void => {
    for (const first of firsts) sink = plainSet(words, first, granules);
  };
  const title = `set ${granules} ${granules === 1 ? "granule" : "granules"}`;
  tellBitmap({ title, unit: "ns", items: 1000, isTold: true }, measure([...runs, plain]));
  for (const bitmap of bitmaps) bitmap.free();
}

/** Full scans of 16 Mi bits at some densities, and single sets. */
function bitmapBlock(): void {
  console.log(`\nbitmap of ${GRANULES / MiB} Mi bits: ours, the twin, a plain loop over a Uint32Array`);
  for (const every of [0, 1_000_000, 1000, 2, 1]) scans(every);
  for (const granules of [1, 16, 1024]) sets(granules);
}

async function* measured(): AsyncGenerator<Row> {
  zeroBlocks();
  fill("noise");
  equalBlock();
  compareBlock();
  await hashBlocks();
  bitmapBlock();
  yield* rows;
}

console.log(
  `kernels: ${kernels.kind}; Node ${process.version}; slices of ${SLICE_MS} ms, ${options.pairs} rounds`,
);
await fillSheet(
  "kernels",
  {
    title: "Kernels",
    command: "npm run bench:kernels",
    method:
      "speeds (GB/s) and times (ns) by the processor's clock, ours in the arena, short slices in turn; the bitmap has 16 Mi bits",
    peer: "the other",
    unit: "",
  },
  measured(),
  options,
);
if (sink === kernels) console.log();
