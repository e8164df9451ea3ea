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

/** Decompresses with fzstd; stops as soon as there is more than `output` takes. */
export async function decompressByPackage(input: Uint8Array, output: Uint8Array): Promise<number> {
  reader ??= import("fzstd").catch((cause: unknown) => {
    throw missingPackage("fzstd", cause);
  });
  const { Decompress } = await reader;
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
