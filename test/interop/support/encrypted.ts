// Encrypted images made and opened by us, and the words with which the real tools open the same ones.
import { openSync, readSync, closeSync } from "node:fs";
import { createEngine, createImage, fileGate, nodeHost, openNode } from "../../../src/node.ts";
import type { CreateImageSpec, Engine, Node, OpenSpec } from "../../../src/node.ts";
import { randomness } from "../../support/random.ts";

/** The passphrases that tests use, by the id of their secret. */
export const secrets = { s0: "first passphrase", s1: "second, with ü", s2: "a third" } as const;

/** What `--object` of the real tools takes for each. */
export const secretWords = Object.entries(secrets).map(
  ([id, data]) => `secret,id=${id},data=${data.replaceAll(",", ",,")}`,
);

/** Their `--object` options for the real tools. */
export const objects = secretWords.flatMap((word) => ["--object", word]);

/** Enough for a header that nobody attacks. */
export const ITER_TIME_MS = 5;

/** An engine of its own that knows the secrets. */
export function engineWithSecrets(): Engine {
  return createEngine({ secrets, gate: fileGate("local", nodeHost()) });
}

/** How an encrypted image is described to us and to the real tools. */
export interface EncryptedKind {
  readonly name: string;
  readonly driver: "luks" | "qcow2";
  /** What createImage() takes beside `driver`, `file` and `size`. */
  readonly create: Readonly<Record<string, unknown>>;
}

/** The image in `filename` for openNode(), with the secret s0 (or another one). */
export function specOf({ driver, create }: EncryptedKind, filename: string, secret = "s0"): OpenSpec {
  const file = { driver: "file", filename } as const;
  if (driver === "luks") return { driver, file, "key-secret": secret };
  const encrypt = create["encrypt"] as { format: "luks" | "qcow" };
  const format = encrypt.format === "luks" ? "luks" : "aes";
  return { driver, file, encrypt: { format, "key-secret": secret } };
}

/** The image in `filename` as `--image-opts` takes it. */
export function imageOpts({ driver }: EncryptedKind, filename: string, secret = "s0"): string {
  const prefix = driver === "luks" ? "" : "encrypt.";
  return `driver=${driver},${prefix}key-secret=${secret},file.filename=${filename}`;
}

/** Makes an image of this kind. */
export function createEncrypted(
  engine: Engine,
  kind: EncryptedKind,
  { filename, size, overwrite = false }: { filename: string; size: number; overwrite?: boolean },
): Promise<void> {
  const file = { driver: "file", filename };
  const spec = { driver: kind.driver, file, size, ...kind.create } as unknown as CreateImageSpec;
  return createImage(spec, { engine, overwrite });
}

/** Opens an image of this kind. */
export function openEncrypted(
  engine: Engine,
  kind: EncryptedKind,
  filename: string,
  secret?: string,
): Promise<Node> {
  return openNode(specOf(kind, filename, secret), { engine });
}

/** Random bytes that a seed repeats. */
export function noise(bytes: number, seed: number): Uint8Array {
  const random = randomness(seed);
  const words = new Uint32Array(Math.ceil(bytes / 4));
  for (let at = 0; at < words.length; at++) words[at] = random(2 ** 32);
  return new Uint8Array(words.buffer, 0, bytes);
}

/** Whether a file holds these bytes anywhere. */
export function fileHolds(filename: string, needle: Uint8Array): boolean {
  const file = openSync(filename, "r");
  try {
    const chunk = Buffer.alloc(2 ** 22);
    for (let at = 0; ; at += chunk.length - needle.length) {
      const bytes = readSync(file, chunk, 0, chunk.length, at);
      if (chunk.subarray(0, bytes).includes(Buffer.from(needle))) return true;
      if (bytes < chunk.length) return false;
    }
  } finally {
    closeSync(file);
  }
}
