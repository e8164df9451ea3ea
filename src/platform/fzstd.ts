/**
 * Reading zstd by the optional package fzstd, for platforms without a decoder of their own: older versions of Node, and
 * browsers. Source: RFC 8878.
 */
import type * as Fzstd from "fzstd";
import { BlockError } from "../base/errors.ts";

/** The error for a package that is not installed, ENOTSUP. */
export function missingPackage(name: string, cause: unknown): BlockError {
  const message = `zstd needs the optional package ${name}, which is not installed`;
  return new BlockError({ code: "ENOTSUP", op: "zstd", message, cause });
}

let reader: Promise<typeof Fzstd> | undefined;

function load(): Promise<typeof Fzstd> {
  reader ??= import("fzstd").catch((cause: unknown) => {
    throw missingPackage("fzstd", cause);
  });
  return reader;
}

/** Decompresses a stream with fzstd. */
export async function* zstdStreamByPackage(input: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { Decompress } = await load();
  const ready: Uint8Array[] = [];
  const stream = new Decompress((chunk) => ready.push(chunk.slice()));
  const push = (chunk: Uint8Array, isLast: boolean): void => {
    try {
      stream.push(chunk, isLast);
    } catch (cause) {
      throw new BlockError({ code: "EIO", op: "decompress", message: String(cause), cause });
    }
  };
  for (const source = input.getReader(); ;) {
    const { value, done } = await source.read();
    push(value ?? new Uint8Array(0), done);
    yield* ready.splice(0);
    if (done) return;
  }
}

/** Decompresses with fzstd; stops as soon as there is more than `output` takes. */
export async function decompressByPackage(input: Uint8Array, output: Uint8Array): Promise<number> {
  const { Decompress } = await load();
  let done = 0;
  const stream = new Decompress((chunk) => {
    if (done + chunk.byteLength > output.byteLength) throw new Error("the frame is longer than it may be");
    output.set(chunk, done);
    done += chunk.byteLength;
  });
  try {
    stream.push(input, true);
  } catch (cause) {
    throw new BlockError({ code: "EIO", op: "decompress", message: String(cause), cause });
  }
  return done;
}
