// A directory for one test file's images, and both kinds of Node host: with and without the optional native calls.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { loadNativeCalls } from "../../../../src/platform/node/native.ts";

export const hasNative = loadNativeCalls() !== undefined;

/** Hosts to run a test with: [name, option]. Without the optional package both are the same. */
export const nativeModes = [
  ["with native calls", "auto"],
  ["without native calls", "off"],
] as const;

/** Makes a directory that is removed after the file's tests; returns the function that names a file in it. */
export function temporaryDirectory(): (name: string) => string {
  const directory = mkdtempSync(join(tmpdir(), "blockwright-test-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return (name) => join(directory, name);
}

/** Bytes that differ from place to place and are never zero. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const buffer = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at++) buffer[at] = ((at * 31 + seed * 17 + (at >> 8)) % 255) + 1;
  return buffer;
}

/** The errno of what a promise rejects with; "none" if it resolves. */
export async function codeOf(request: Promise<unknown> | (() => unknown)): Promise<string> {
  try {
    await (typeof request === "function" ? request() : request);
    return "none";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}
