// The worker of the C program: mounts the disk, and runs what it is told by name.
import { type EmscriptenFS, type FilePort, mountDisks } from "blockwright/emscripten";
import { bareHandle } from "./bare-handle.ts";

interface Program {
  FS: EmscriptenFS;
  HEAPU8: Uint8Array;
  [name: `_${string}`]: (...args: number[]) => number;
}

let program: Program | undefined;

const [READ, SIZE, ROUNDS] = [4096, 32 << 20, 9];
/** Bytes that are read again and again. */
const WARM = 8 << 20;

/** Microseconds of a call, so many blocks of 4 KiB out of `bytes` bytes. */
function microseconds(calls: number, bytes: number, call: (block: number) => number): number {
  const begun = performance.now();
  for (let i = 0; i < calls; i++) {
    const block = (Math.imul(i, 2654435761) >>> 0) % (bytes / READ);
    if (call(block) !== READ) throw new Error("a short read or write");
  }
  return ((performance.now() - begun) * 1000) / calls;
}

/** `npm run bench:emscripten`: what the disk holds, read and written in rounds in which all take turns with a bare handle. */
async function measure(): Promise<Record<string, number[]>> {
  const handle = await bareHandle(SIZE);
  const buffer = new Uint8Array(READ);
  const [put, take, give] = ["_put", "_take", "_give"].map((name) => program![name as "_put"]!);
  for (let block = 0; block < SIZE / READ; block += 15) put!(block, 15 * READ, 7);
  const bare = {
    read: (block: number) => handle.read(buffer, { at: block * READ }),
    write: (block: number) => handle.write(buffer, { at: block * READ }),
  };
  const rounds: Record<string, number[]> = {};
  for (let round = 0; round < ROUNDS; round++) {
    const add = (name: string, value: number): unknown => (rounds[name] ??= []).push(value);
    microseconds(WARM / READ, WARM, take!);
    add("bare", microseconds(5000, WARM, bare.read));
    add("warm", microseconds(5000, WARM, take!));
    add("bareAll", microseconds(5000, SIZE, bare.read));
    add("all", microseconds(1000, SIZE, take!));
    add("bareWrite", microseconds(2000, SIZE, bare.write));
    add("write", microseconds(100, SIZE, give!));
  }
  return rounds;
}

addEventListener("message", ({ data, ports }: MessageEvent<{ id: number; name: string; args: number[] }>) => {
  const run = async (): Promise<unknown> => {
    if (data.name === "heap") return program!.HEAPU8.byteLength;
    if (data.name === "measure") return measure();
    if (data.name !== "mount") return program![`_${data.name}`]!(...data.args);
    const address = new URL("program.js", location.href).href;
    const { default: make } = (await import(address)) as { default: () => Promise<Program> };
    program = await make();
    mountDisks(program.FS, "/disks", { "disk.img": ports[0] as FilePort });
    return program["_begin"]!();
  };
  run().then(
    (value) => postMessage({ id: data.id, value }),
    (error: unknown) => postMessage({ id: data.id, error: String(error) }),
  );
});
