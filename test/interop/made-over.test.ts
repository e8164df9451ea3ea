// What an overlay was made over travels with its file: QEMU keeps the record through all that it does to the image, ours is read
// again, and a link that QEMU changes ends it. A real web server, the real qemu-img.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Engine, createEngine, openNode } from "../../src/node.ts";
import { contentOf } from "../support/content.ts";
import { ImageServer } from "../support/image-server.ts";
import { inDirectory, must } from "./support/qcow2.ts";

const MiB = 2 ** 20;
const SIZE = 4 * MiB;
let server: ImageServer;
let engine: Engine;

beforeEach(async () => {
  server = await ImageServer.start(contentOf(SIZE));
  engine = createEngine();
});

afterEach(async () => {
  await engine.close();
  await server.stop();
});

/** Opens an overlay over what the server has now, and writes a byte. */
async function visit(filename: string, url = server.url): Promise<void> {
  const backing = { driver: "http", url, "read-only": true, retries: 0 } as const;
  const file = { driver: "file", filename } as const;
  await using disk = await openNode({ driver: "qcow2", file, backing }, { engine });
  await disk.write(MiB + 17, Uint8Array.of(5));
}

/** The record's text. */
function record(path: string): string | undefined {
  const image = readFileSync(path);
  for (let at = image.readUInt32BE(100); image.readUInt32BE(at) !== 0;) {
    const bytes = image.readUInt32BE(at + 4);
    if (image.readUInt32BE(at) === 0x62774f76) return image.toString("utf8", at + 8, at + 8 + bytes);
    at += 8 + Math.ceil(bytes / 8) * 8;
  }
  return undefined;
}

const changes: Record<string, readonly string[]> = {
  "a resize": ["resize", "-q", "-f", "qcow2", "A", "8M"],
  "a snapshot": ["snapshot", "-c", "one", "A"],
  "an amendment": ["amend", "-f", "qcow2", "-o", "lazy_refcounts=on", "A"],
  "a bitmap": ["bitmap", "--add", "-f", "qcow2", "A", "b0"],
  "a check with repair": ["check", "-q", "-f", "qcow2", "-r", "all", "A"],
};

test.each(Object.keys(changes))("%s by QEMU keeps it", async (name) => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, String(SIZE));
    await visit(path);
    const before = record(path);
    expect(JSON.parse(before ?? "{}")).toEqual({ url: server.url, size: SIZE, etag: '"v1"' });
    await must("qemu-img", ...changes[name]!.map((word) => (word === "A" ? path : word)));
    expect(record(path)).toBe(before);
    await visit(path);
    expect(await must("qemu-img", "check", "-f", "qcow2", path)).toContain("No errors");
    server.etag = '"v2"';
    await expect(visit(path)).rejects.toMatchObject({ code: "ESTALE" });
  });
});

test("a header that names the backing file keeps its name, in every size of clusters, and a new link ends the record", async () => {
  await inDirectory(async (directory) => {
    for (const clusterSize of [512, 1024, 4096, 65536]) {
      server.etag = '"v1"';
      const path = join(directory, `${clusterSize}.qcow2`);
      // No query goes into the header: it may hold a secret.
      const url = `${server.url}?secret=1`;
      const options = `cluster_size=${clusterSize},backing_file=${server.url},backing_fmt=raw`;
      await must("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", options, path, String(SIZE));
      await visit(path, url);
      const info = await must("qemu-img", "info", "--output=json", path);
      expect(JSON.parse(info)).toMatchObject({
        "backing-filename": server.url,
        "backing-filename-format": "raw",
      });
      const check = ["check", "-q", "--image-opts", `driver=qcow2,backing=,file.filename=${path}`];
      await must("qemu-img", ...check);
      // The smallest cluster has no room beside QEMU's names of features.
      if (clusterSize === 512) continue;
      expect(JSON.parse(record(path) ?? "{}")).toMatchObject({ backing: server.url, url: server.url });
      server.etag = '"v2"';
      await expect(visit(path)).rejects.toMatchObject({ code: "ESTALE" });
      await must("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", `${server.url}?2`, "-F", "raw", path);
      await visit(path);
      expect(JSON.parse(record(path) ?? "{}")).toMatchObject({ backing: `${server.url}?2`, etag: '"v2"' });
    }
  });
});
