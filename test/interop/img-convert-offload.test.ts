// `convert -C`: the system copies within itself, where it can. Beside qemu-img's: the same map, in which zeroes that were data stay
// data; and what happens where the system can't, or can no more.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { convert, createEngine, createImage, openNode } from "../../src/node.ts";
import { loadNativeCalls } from "../../src/platform/node/native.ts";
import { must } from "../support/tools.ts";
import { program, runVerb } from "../support/verb-client.ts";

const MiB = 2 ** 20;

/** 64 MiB: data, written zeroes, data that ends within a cluster, and a hole. */
function disk(path: string): void {
  const data = Buffer.alloc(6 * MiB);
  for (let at = 0; at < data.length; at += 4) data.writeUInt32LE(at + 1, at);
  data.fill(0, 3 * MiB, 5 * MiB);
  writeFileSync(path, data.subarray(0, 6 * MiB - 3000));
  truncateSync(path, 64 * MiB);
}

let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-offload-"));
  disk(join(folder, "a.raw"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const map = (path: string): Promise<string> => must("qemu-img", "map", "--output=json", path);

it
  .runIf(loadNativeCalls())
  .each([
    "-f raw -O raw a.raw",
    "-f raw -O qcow2 a.raw",
    "-f raw -O qcow2 -o cluster_size=4k a.raw",
    "-O raw a.qcow2",
    "-O qcow2 a.qcow2",
    "-O raw top.qcow2",
    "-O qcow2 top.qcow2",
  ])("leaves what qemu-img -C leaves: %s", async (line) => {
  const [raw, base, top] = ["a.raw", "a.qcow2", "top.qcow2"].map((name) => join(folder, name));
  await must("qemu-img", "convert", "-S", "0", "-f", "raw", "-O", "qcow2", raw!, base!);
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-b", base!, "-F", "qcow2", top!);
  const writes = ["write -P 7 1M 100k", "write -z 2M 64k", "write -P 8 40M 2M"];
  await must("qemu-io", ...writes.flatMap((write) => ["-c", write]), top!);
  const words = line.split(" ");
  const source = words.pop()!;
  const [ours, theirs] = [join(folder, "ours"), join(folder, "theirs")];
  await must("qemu-img", "convert", "-C", ...words, join(folder, source), theirs);
  expect(runVerb(["convert", "-C", ...words, source, "ours"], { cwd: folder })).toEqual({
    status: 0,
    stdout: "",
    stderr: "",
  });
  expect(await map(ours)).toBe(await map(theirs));
  expect(await must("qemu-img", "compare", theirs, ours)).toBe("Images are identical.\n");
  if (line.includes("-O qcow2")) await must("qemu-img", "check", "-q", ours);
});

it("copies through the program where files lie on two file systems", async (context) => {
  const shared = mkdtempSync("/dev/shm/blockwright-offload-");
  try {
    if (statSync(shared).dev === statSync(folder).dev) context.skip();
    const out = join(shared, "out");
    const { status } = spawnSync(process.execPath, [
      ...[program, "convert", "-C", "-f", "raw", "-O", "raw"],
      ...[join(folder, "a.raw"), out],
    ]);
    expect(status).toBe(0);
    expect(readFileSync(out).equals(readFileSync(join(folder, "a.raw")))).toBe(true);
  } finally {
    rmSync(shared, { recursive: true });
  }
});

it.each(["raw", "qcow2"])("tells why a copy into %s ended, as without it", (format) => {
  const said = ["-C", "-W"].map((flag) => {
    // Blocks of 1024 bytes: the limit lies within the first data.
    const line = `ulimit -f 2048; exec "$0" "$@"`;
    const words = ["convert", flag, "-f", "raw", "-O", format, "a.raw", "out"];
    const { status, stderr } = spawnSync("bash", ["-c", line, process.execPath, program, ...words], {
      cwd: folder,
      encoding: "utf8",
    });
    return [status, stderr];
  });
  expect(said[0]).toEqual(said[1]);
  expect(said[0]).toEqual([1, expect.stringContaining(": error while")]);
});

it.each(["auto", "off"] as const)("is an option of the library's, with native calls %s", async (native) => {
  await using engine = createEngine({ native });
  const file = { driver: "file", filename: join(folder, "out") } as const;
  await createImage({ driver: "raw", file, size: 64 * MiB }, { engine });
  const source = {
    driver: "raw",
    "read-only": true,
    file: { ...file, filename: join(folder, "a.raw") },
  } as const;
  const from = await openNode(source, { engine });
  const to = await openNode({ driver: "raw", file }, { engine });
  let last = 0;
  await convert(from, to, { offload: true, targetIsZero: true, onProgress: (done) => (last = done) });
  await to.close();
  await from.close();
  expect(last).toBe(64 * MiB);
  expect(readFileSync(file.filename).equals(readFileSync(join(folder, "a.raw")))).toBe(true);
  const stored = statSync(file.filename).blocks * 512;
  if (native === "off") expect(stored).toBeLessThan(5 * MiB);
  else if (loadNativeCalls()) expect(stored).toBeGreaterThanOrEqual(6 * MiB - 8192);
});
