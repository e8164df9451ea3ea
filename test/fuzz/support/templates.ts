// Good qcow2 images in memory, with everything in them that has metadata: what the fuzzer damages.
import { type Engine, addBitmap, createEngine, createImage, openNode } from "../../../src/node.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { type Places, placesOf } from "../../support/qcow2-structure.ts";

const KiB = 1024;

/** Bytes of every template's disk. */
export const DISK_BYTES = 256 * KiB;

/** A good image and where its parts lie. */
export interface Template {
  readonly name: string;
  readonly image: Buffer;
  readonly places: Places;
}

const recipes: readonly { name: string; options: Record<string, unknown> }[] = [
  { name: "clusters of 512", options: { "cluster-size": 512 } },
  { name: "clusters of 4096", options: { "cluster-size": 4096 } },
  { name: "clusters of 65536", options: {} },
  { name: "version 2", options: { "cluster-size": 4096, version: "v2" } },
  { name: "subclusters", options: { "cluster-size": 16384, "extended-l2": true } },
  {
    name: "a backing file",
    options: { "cluster-size": 4096, "backing-file": "secret.raw", "backing-fmt": "raw" },
  },
];

async function make(engine: Engine, options: Record<string, unknown>): Promise<Buffer> {
  const store = await openNode({ driver: "memory", size: 0, "node-name": "store" }, { engine });
  const file = "store";
  await createImage({ driver: "qcow2", size: DISK_BYTES, ...options, file } as never, { engine });
  const disk = await openNode({ driver: "qcow2", "node-name": "disk", file, backing: null }, { engine });
  await disk.write(1000, new Uint8Array(100 * KiB).fill(1));
  await disk.writeZeroes(8 * KiB, 16 * KiB);
  const { driver } = engine.graph.node("disk");
  await driver.snapshots!()!.create({ name: "one" });
  await disk.write(5000, new Uint8Array(10 * KiB).fill(3));
  await driver.pwrite!(192 * KiB, new Uint8Array(64 * KiB).fill(7), Req.compressed);
  if (options["version"] !== "v2") addBitmap(disk, "b0", { persistent: true });
  await disk.close();
  const image = Buffer.from(await store.read(0, store.length));
  await store.close();
  return image;
}

/** Makes all templates. */
export async function makeTemplates(): Promise<Template[]> {
  const templates: Template[] = [];
  for (const { name, options } of recipes) {
    const engine = createEngine();
    const image = await make(engine, options);
    await engine.close();
    templates.push({ name, image, places: placesOf(image) });
  }
  return templates;
}
