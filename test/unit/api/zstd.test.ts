// zstd clusters of a qcow2 image with a browser's codecs, in Node and in Chromium: read by the optional package fzstd, and not
// written, since no package for browsers is built in. What packs the clusters here is a frame of the real zstd.
import { expect, it } from "vitest";
import { browserHost } from "../../../src/browser.ts";
import {
  check,
  convert,
  createEngine,
  createImage,
  type Engine,
  type Node,
  openNode,
} from "../../../src/index.ts";
import { zstdFrame } from "../../support/content.ts";
import { MiB, pattern, same } from "../support/graph.ts";

const CLUSTER = 65536;
const frame = Uint8Array.from(atob(zstdFrame), (letter) => letter.charCodeAt(0));
/** What the frame unpacks to. */
const cluster = pattern(CLUSTER, 3);

async function zstdImage(engine: Engine): Promise<{ source: Node; target: Node }> {
  await openNode({ driver: "memory", size: 0, "node-name": "file" }, { engine });
  await createImage(
    { driver: "qcow2", file: "file", size: 4 * CLUSTER, "compression-type": "zstd" },
    { engine },
  );
  const source = await openNode({ driver: "memory", size: 4 * CLUSTER }, { engine });
  await source.write(CLUSTER, cluster);
  await source.write(3 * CLUSTER, cluster);
  return { source, target: await openNode({ driver: "qcow2", file: "file" }, { engine }) };
}

it("reads what zstd packed", async () => {
  const host = browserHost();
  const codecs = { ...host.codecs, compressZstd: () => Promise.resolve(frame) };
  const engine = createEngine({ host: { ...host, codecs }, arenaBytes: 24 * MiB });
  const { source, target } = await zstdImage(engine);
  await convert(source, target, { compress: true });
  expect(same(await target.read(0, 4 * CLUSTER), await source.read(0, 4 * CLUSTER))).toBe(true);
  expect(same(await target.read(3 * CLUSTER + 100, 1000), cluster.subarray(100, 1100))).toBe(true);
  await target.close();
  const found = await check({ driver: "qcow2", file: "file" }, { engine });
  expect(found).toMatchObject({ compressedClusters: 2, corruptions: 0, leaks: 0 });
  await engine.close();
});

it("refuses to pack by zstd where nothing can", async () => {
  const engine = createEngine({ arenaBytes: 24 * MiB, host: browserHost() });
  const { source, target } = await zstdImage(engine);
  await expect(convert(source, target, { compress: true })).rejects.toMatchObject({ code: "ENOTSUP" });
  await target.write(CLUSTER, cluster);
  expect(same(await target.read(CLUSTER, CLUSTER), cluster)).toBe(true);
  await engine.close();
});
