// The verb `manifest`, held against an independent XXH3-64.
import { execFileSync, spawnSync } from "node:child_process";
import { linkSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { xxhash3 } from "hash-wasm";
import { afterAll, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { runVerb } from "../support/verb-client.ts";

const program = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "blockwright-manifest-"));
const file = join(directory, "disk.img");
const random = randomness(1);
const content = Uint8Array.from({ length: 300_000 }, () => random(256));
writeFileSync(file, content);

afterAll(() => rmSync(directory, { recursive: true }));

/** The layout of docs/API.md, by other means. */
async function expected(clusterBytes: number): Promise<Buffer> {
  const size = Math.ceil(content.byteLength / 512) * 512;
  const disk = new Uint8Array(size);
  disk.set(content);
  const head = Buffer.alloc(24);
  head.write("bwHashes");
  head.writeUInt32LE(1, 8);
  head.writeUInt32LE(clusterBytes, 12);
  head.writeBigUInt64LE(BigInt(size), 16);
  const hash = async (bytes: Uint8Array): Promise<Buffer> =>
    Buffer.from(await xxhash3(bytes), "hex").reverse();
  const hashes: Buffer[] = [];
  for (let at = 0; at < size; at += clusterBytes)
    hashes.push(await hash(disk.subarray(at, at + clusterBytes)));
  const body = Buffer.concat([head, ...hashes]);
  return Buffer.concat([body, await hash(body)]);
}

it("is not written over the disk itself, by whatever name", () => {
  const hard = join(directory, "hard");
  const soft = join(directory, "soft");
  linkSync(file, hard);
  symlinkSync("disk.img", soft);
  for (const output of [file, join(directory, ".", "..", basename(directory), "disk.img"), hard, soft]) {
    const said = spawnSync(process.execPath, [program, "manifest", "-o", output, file], { encoding: "utf8" });
    expect([said.status, said.stderr]).toEqual([1, `blockwright: '${output}' is the disk itself\n`]);
  }
  expect(readFileSync(file)).toEqual(Buffer.from(content));
});

it("writes what the description of the format says", async () => {
  const said = execFileSync(process.execPath, [program, "manifest", file], { encoding: "utf8" });
  expect(said).toBe(`${file}.manifest: 72 bytes for a disk of 300032\n`);
  expect(readFileSync(`${file}.manifest`).equals(await expected(65_536))).toBe(true);
  const output = join(directory, "m");
  execFileSync(process.execPath, [program, "manifest", "-q", "-o", output, "--cluster-size", "4k", file]);
  expect(readFileSync(output).equals(await expected(4096))).toBe(true);
});

it.each([
  [["--cluster-size", "1000", file], "Cluster size must be a power of two between 512 and 2048k"],
  [["--cluster-size", "x", file], "Invalid cluster size specified."],
  [[join(directory, "none")], "No such file or directory"],
  [["-o", join(directory, "none", "m"), file], "Could not write"],
])("refuses %j", (words, message) => {
  const { status, stderr } = runVerb(["manifest", ...words], { cwd: directory });
  expect([status, stderr]).toEqual([1, expect.stringContaining(message)]);
});
