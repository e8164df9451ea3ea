/**
 * Decoders that take and give addresses of one shared memory, for threads: DEFLATE by the module of assembly/decode, zstd by the
 * system's libzstd, which is called through the optional package koffi. (libdeflate is faster still, but takes damaged streams that zlib,
 * and so QEMU, refuses.)
 *
 * Invariants: nothing is written outside of `room` bytes at `output` but the module's slack (assembly/decode/inflate.ts); what a
 * decoder refuses is -1, never an error, for another that knows better; a thread makes its own.
 */

import { type NativeGate, THROUGH_GATE } from "./native-gate.ts";

/** Decompresses `bytes` at `input`, junk behind the stream included, into `room` bytes at `output`; the bytes that came of it, or -1. */
export type Decoder = (input: number, bytes: number, output: number, room: number) => number;

/** By the format of a stream. */
export type Decoders = Readonly<Partial<Record<"deflate" | "zstd", Decoder>>>;

/** What is at hand for decoders; can be given to a thread. */
export interface DecoderParts {
  /** The gate before the calls of a library, for a thread that may be ended: Int32Array(1). */
  readonly gate?: Int32Array | undefined;
  /** Where the module of assembly/decode may be. */
  readonly modules: readonly string[];
  /** The addon of koffi; undefined: no library is called. */
  readonly addon: string | undefined;
}

/** Where the build puts the module: beside the library, above its chunks and the program, and below the sources' root. */
const MODULES = ["./inflate.wasm", "../inflate.wasm", "../../../build/inflate.wasm"];

/** Where the modules are, beside the addon of koffi. */
export function decoderParts(addon: string | undefined, gate?: NativeGate): DecoderParts {
  return { modules: MODULES.map((path) => new URL(path, import.meta.url).href), addon, gate: gate?.cell };
}

/** What the module keeps for itself at the start of the memory, bytes. */
export const OWN_BYTES = 65536;
/** What it may read behind an input, and write behind an output, bytes. */
export const SLACK = 512;

/** Source of a function of a memory, DecoderParts and, if it is loaded, koffi: it gives Decoders. */
export const DECODERS = `(memory, { modules, addon, gate }, koffi) => {
  const through = gate ? (${THROUGH_GATE})(gate) : (call) => call();
  const { readFileSync } = process.getBuiltinModule("node:fs");
  const loaded = () => {
    if (koffi || addon === undefined) return koffi;
    const module = { exports: {} };
    process.dlopen(module, addon);
    return module.exports;
  };
  const bound = (name, bind) => {
    try {
      koffi = loaded();
      if (!koffi) return undefined;
      const base = koffi.address(new Uint8Array(memory.buffer));
      return bind(koffi.load(name), (address) => base + BigInt(address));
    } catch {
      return undefined;
    }
  };
  const native = (name, bind) => {
    const decode = through(() => bound(name, bind));
    return decode && ((...where) => through(() => decode(...where), -1));
  };
  const module = () => {
    for (const url of modules) {
      try {
        const compiled = new WebAssembly.Module(readFileSync(new URL(url)));
        return new WebAssembly.Instance(compiled, { env: { memory } }).exports.inflate;
      } catch {}
    }
    return undefined;
  };
  const zstd = native("libzstd.so.1", (library, at) => {
    const state = library.func("void *ZSTD_createDCtx()")();
    const frameBytes = library.func("size_t ZSTD_findFrameCompressedSize(void *in, size_t bytes)");
    const decompress = library.func(
      "size_t ZSTD_decompressDCtx(void *state, void *out, size_t room, void *in, size_t bytes)",
    );
    if (!state) return undefined;
    return (input, bytes, output, room) => {
      // What fails gives a number that no buffer has.
      const frame = Number(frameBytes(at(input), bytes));
      if (frame > bytes) return -1;
      const made = Number(decompress(state, at(output), room, at(input), frame));
      return made <= room ? made : -1;
    };
  });
  return { deflate: module(), zstd };
}`;
