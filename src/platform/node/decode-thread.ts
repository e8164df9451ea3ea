/**
 * A thread that decompresses: what it runs, and its end here. It and its owner share one memory, in which the owner lays
 * down what is to be decompressed and finds what came of it.
 *
 * Decoders: those of decoders.ts; else DEFLATE by node:zlib, and zstd by node:zlib where it has it (Node 22.15 on), else by the
 * optional package @bokuweb/zstd-wasm. What a decoder refuses comes back as -1, never as an error.
 */
import type { Worker } from "node:worker_threads";
import { type DecoderParts, DECODERS, decoderParts } from "./decoders.ts";
import { NativeGate } from "./native-gate.ts";
import { loadKoffi } from "./native.ts";

/** One stream: which format, where it lies in the memory, and where its content goes; numbers of bytes. */
export type Stream = readonly [
  format: "deflate" | "zstd",
  input: number,
  bytes: number,
  output: number,
  room: number,
];

/** What the thread begins with. */
interface Beginning {
  readonly memory: WebAssembly.Memory;
  readonly parts: DecoderParts;
  /** Whence packages are found. */
  readonly from: string;
}

const PROGRAM = `
const { parentPort, workerData } = process.getBuiltinModule("node:worker_threads");
const zlib = process.getBuiltinModule("node:zlib");
const { memory, parts, from } = workerData;
const area = new Uint8Array(memory.buffer);
const set = (result, output, room) => {
  area.set(result.subarray(0, room), output);
  return Math.min(result.length, room);
};
const view = (input, bytes) => area.subarray(input, input + bytes);
const byZlib = (input, bytes, output, room) => {
  const finishFlush = zlib.constants.Z_SYNC_FLUSH;
  const how = { chunkSize: Math.max(64, room), maxOutputLength: Math.max(1, room), finishFlush };
  return set(zlib.inflateRawSync(view(input, bytes), how), output, room);
};
const { deflate = byZlib, zstd: native } = (${DECODERS})(memory, parts);
const none = () => -1;
const byNode = (input, bytes, output, room) =>
  set(zlib.zstdDecompressSync(view(input, bytes), { maxOutputLength: Math.max(1, room) }), output, room);
const FIELDS = [0, 2, 4, 8];
// The package takes as much memory as the frame's header asks for.
const holds = (frame) => {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const flags = view.getUint8(4);
  const isSingle = (flags >> 5) & 1;
  const at = 6 - isSingle + [0, 1, 2, 4][flags & 3];
  const size = FIELDS[flags >> 6] || isSingle;
  if (size === 0) return undefined;
  if (size === 1) return view.getUint8(at);
  if (size === 2) return view.getUint16(at, true) + 256;
  return size === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
};
const byPackage = async () => {
  try {
    const load = process.getBuiltinModule("node:module").createRequire(from);
    const { decompress, init } = load("@bokuweb/zstd-wasm");
    await init();
    return inPlace(load) ?? ((input, bytes, output, room) => {
      const frame = view(input, bytes);
      if ((holds(frame) ?? room) > room) return -1;
      return set(decompress(frame, { defaultHeapSize: room }), output, room);
    });
  } catch {
    return none;
  }
};
// Without the copies that the package gives away, each of which is memory to be collected, if it is built as it was.
const inPlace = (load) => {
  try {
    const { dirname, join } = process.getBuiltinModule("node:path");
    // Beside the module that is its entry; no entry leads there.
    const { Module: zstd } = load(join(dirname(load.resolve("@bokuweb/zstd-wasm")), "module.js"));
    let size = 0;
    let at = 0;
    const room = (bytes) => {
      if (bytes > size) {
        if (size > 0) zstd._free(at);
        at = zstd._malloc(bytes);
        size = at > 0 ? bytes : 0;
      }
      return size > 0;
    };
    if (!(zstd._ZSTD_decompress.length >= 0 && zstd._free.length >= 0 && room(1 << 18))) return undefined;
    return (input, bytes, output, most) => {
      if (!room(most + bytes)) return -1;
      zstd.HEAPU8.set(view(input, bytes), at + most);
      const count = zstd._ZSTD_decompress(at, most, at + most, bytes);
      if (!(count >= 0 && count <= most)) return -1;
      area.set(zstd.HEAPU8.subarray(at, at + count), output);
      return count;
    };
  } catch {
    return undefined;
  }
};
const decoders = { deflate };
const decode = ([format, input, bytes, output, room]) => {
  try {
    return decoders[format](input, bytes, output, room);
  } catch {
    return -1;
  }
};
const byOthers = () => (zlib.zstdDecompressSync ? Promise.resolve(byNode) : byPackage());
(native ? Promise.resolve(native) : byOthers()).then((zstd) => {
  decoders.zstd = zstd;
  parentPort.on("message", (streams) => parentPort.postMessage(streams.map(decode)));
  parentPort.postMessage([]);
});
`;

/** What a thread tells its owner. */
export interface ThreadEvents {
  /** It can decompress from now on. */
  readonly ready: () => void;
  /** The bytes that came of the streams that were asked for first, in their order; -1: none, ask another decoder. */
  readonly done: (counts: readonly number[]) => void;
  /** It has ended, for whatever reason. Once. */
  readonly ended: () => void;
}

/** The owner's end of a thread. Invariant: it holds the process only until it is ready, and while streams are with it. */
export class DecodeThread {
  readonly #worker: Worker;
  readonly #gate = new NativeGate();
  #isReady = false;
  #underWay = 0;

  /** With `native` it may call the system's library of zstd. Throws where there are no threads. */
  constructor(memory: WebAssembly.Memory, native: boolean, events: ThreadEvents) {
    const { Worker: Thread } = process.getBuiltinModule("node:worker_threads");
    const parts = decoderParts(native ? loadKoffi().addon : undefined, this.#gate);
    const workerData: Beginning = { memory, parts, from: import.meta.url };
    const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 };
    // With streams of its own, which say nothing: Node would end ours with the thread, where a stand-in was asked (late-output.ts).
    const streams = { stdout: true, stderr: true };
    const options = {
      eval: true,
      execArgv: [],
      trackUnmanagedFds: false,
      workerData,
      resourceLimits,
      ...streams,
    };
    this.#worker = new Thread(PROGRAM, options);
    this.#worker.on("message", (counts: readonly number[]) => this.#told(counts, events));
    this.#worker.on("error", () => undefined);
    this.#worker.once("exit", () => {
      this.#gate.forget();
      events.ended();
    });
  }

  /** Has streams decompressed. Only when it is ready. */
  decode(streams: readonly Stream[]): void {
    this.#underWay += 1;
    this.#worker.ref();
    this.#worker.postMessage(streams);
  }

  /** Ends the thread. */
  end(): void {
    this.#gate.close();
    void this.#worker.terminate();
  }

  #told(counts: readonly number[], { ready, done }: ThreadEvents): void {
    if (!this.#isReady) {
      this.#isReady = true;
      this.#worker.unref();
      return ready();
    }
    this.#underWay -= 1;
    if (this.#underWay === 0) this.#worker.unref();
    done(counts);
  }
}
