// The worker of `npm run bench:browser`: a guest's random reads from the private file system beside those of a bare handle.
import {
  createEngine,
  createImage,
  memory,
  openNode,
  opfs,
  qcow2,
  raw,
  stream,
  toV86Disk,
} from "blockwright/v86";
import { bareHandle } from "./bare-handle.ts";

const READ = 4096;
const SIZE = 32 << 20;
const BATCH = 4000;
const ROUNDS = 9;

/** Reads at an offset; a promise only where it has to wait. */
type Reader = (offset: number) => Promise<void> | void;

async function bareReader(): Promise<Reader> {
  const handle = await bareHandle(SIZE);
  const buffer = new Uint8Array(READ);
  return (at) => {
    if (handle.read(buffer, { at }) !== READ) throw new Error("a short read");
  };
}

/** A guest's disk as v86 has it, over opfs alone or a qcow2 image in it; what stays to be filled by a job lies behind `SIZE`. */
async function guestDisk(format: "raw" | "qcow2", withJob = false): Promise<Reader> {
  const engine = createEngine({ drivers: [opfs, qcow2, raw, memory] });
  const file = { driver: "opfs", filename: `bench-${format}-${withJob}` } as const;
  const size = withJob ? 2 * SIZE : SIZE;
  await createImage(engine, { driver: format, file, size }, { overwrite: true });
  const stored = { ...file, durability: "interval" } as const;
  const backing = { driver: "memory", size, "read-only": true } as const;
  const image = { driver: "qcow2", file: stored, ...(withJob ? { backing } : {}) } as const;
  const node = await openNode(engine, format === "raw" ? stored : image);
  const piece = new Uint8Array(1 << 20).fill(1);
  for (let at = 0; at < SIZE; at += piece.byteLength) await node.write(at, piece);
  // So slow that it outlasts the measurement.
  if (withJob) await stream(node, { speedBytesPerSecond: 64 << 10 });
  const disk = await toV86Disk(node);
  disk.attach({
    run: () => undefined,
    stop: () => undefined,
    add_listener: () => undefined,
    remove_listener: () => undefined,
  });
  return (at) => {
    let isDone = false;
    let wake: (() => void) | undefined;
    disk.get(at, READ, () => {
      isDone = true;
      wake?.();
    });
    if (isDone) return undefined;
    return new Promise((resolve) => (wake = resolve));
  };
}

async function microseconds(read: Reader): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < BATCH; i++) {
    const waits = read(((Math.imul(i, 2654435761) >>> 0) % (SIZE / READ)) * READ);
    if (waits) await waits;
  }
  return ((performance.now() - start) * 1000) / BATCH;
}

const calls = {
  /** Microseconds of a read of 4 KiB, by rounds in which all take turns. */
  async measure(): Promise<Record<string, number[]>> {
    const readers = {
      bare: await bareReader(),
      opfs: await guestDisk("raw"),
      qcow2: await guestDisk("qcow2"),
      job: await guestDisk("qcow2", true),
    };
    const rounds: Record<string, number[]> = {};
    for (let round = 0; round < ROUNDS; round++)
      for (const [name, read] of Object.entries(readers))
        (rounds[name] ??= []).push(await microseconds(read));
    return rounds;
  },
};

globalThis.addEventListener("message", ({ data }: MessageEvent<{ id: number; name: keyof typeof calls }>) => {
  calls[data.name]().then(
    (value) => postMessage({ id: data.id, value }),
    (error: unknown) => postMessage({ id: data.id, error: String(error) }),
  );
});
