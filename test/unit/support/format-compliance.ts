// What every format has to do, as one suite with a manifest of what it can: made, probed, read, written, zeroed, discarded, grown and
// shrunk, its metadata kept over reopening, hostile headers refused. It runs bare and under filters, whose effect must not show.
import { describe, expect, it } from "vitest";
import type { DriverType, NodeSpec } from "../../../src/block/model/contract.ts";
import { BlockError } from "../../../src/base/errors.ts";
import { probeFormat } from "../../../src/block/graph/probe.ts";
import { blockStatusAbove } from "../../../src/block/io/status.ts";
import { pread, pwrite } from "../../../src/block/io/io.ts";
import { flush } from "../../../src/block/io/request-path.ts";
import { Req } from "../../../src/block/model/contract.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { copyOnRead } from "../../../src/drivers/filter/copy-on-read.ts";
import { randomness } from "../../support/random.ts";
import { KiB, same, TestGraph } from "./graph.ts";

/** What a format is and can. */
export interface FormatManifest {
  readonly type: DriverType;
  /** Beside `size`. */
  readonly createOptions?: Readonly<Record<string, unknown>>;
  /** Beside `file`. */
  readonly openOptions?: Readonly<Record<string, unknown>>;
  /** Makes what the options name (secrets). */
  readonly prepare?: (bench: TestGraph) => void | Promise<void>;
  /** What was never written, zeroed or discarded reads as zeroes. Default true. */
  readonly readsZeroes?: boolean;
  /** An overlay shows its backing file. Default false. */
  readonly backing?: boolean;
  /** The file's first bytes tell the format. Default true. */
  readonly probes?: boolean;
  /** Opening takes long, since keys are derived: fewer seeds and fewer flipped bits. Default false. */
  readonly isSlow?: boolean;
  /** Options that make() must refuse. */
  readonly badOptions?: readonly Readonly<Record<string, unknown>>[];
}

const SIZE = 512 * KiB;

/** One image of the format, in memory. */
class Bench extends TestGraph {
  readonly #manifest: FormatManifest;
  readonly #wrap: (node: string) => NodeSpec | undefined;

  constructor(manifest: FormatManifest, wrap: (node: string) => NodeSpec | undefined) {
    super();
    this.#manifest = manifest;
    this.#wrap = wrap;
    this.graph.register(manifest.type, copyOnRead);
  }

  /** A new image and its node; `file` is where it lies. */
  async make(more: Record<string, unknown> = {}, file = "file"): Promise<BlockNode> {
    const { type, prepare, createOptions } = this.#manifest;
    await prepare?.(this);
    await this.graph.add({
      driver: "memory",
      "node-name": file,
      size: type.create ? 0 : SIZE,
      discard: "unmap",
    });
    const context = { graph: this.graph, host: this.host };
    await type.create?.(context, { size: SIZE, ...createOptions, ...more, file });
    return this.open({}, file);
  }

  async open(more: Record<string, unknown> = {}, file = "file"): Promise<BlockNode> {
    const { type, openOptions } = this.#manifest;
    const name = `image-${file}`;
    const spec = { driver: type.name, "node-name": name, file, discard: "unmap", ...openOptions, ...more };
    const image = await this.graph.add(spec as NodeSpec);
    const wrapper = this.#wrap(name);
    if (!wrapper) return image;
    return this.graph.add({ "node-name": `top-${file}`, discard: "unmap", ...wrapper });
  }

  async reopen(file = "file"): Promise<BlockNode> {
    if (this.graph.findNode(`top-${file}`)) await this.graph.remove(`top-${file}`);
    await this.graph.remove(`image-${file}`);
    return this.open({}, file);
  }
}

const wrappers: Readonly<Record<string, (node: string) => NodeSpec | undefined>> = {
  bare: () => undefined,
  "under blkdebug": (image) => ({ driver: "blkdebug", image }),
  "under copy-on-read": (file) => ({ driver: "copy-on-read", file }),
};

async function contentOf(node: BlockNode, bytes = node.length): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes).fill(0xee);
  await pread(node, 0, buffer);
  return buffer;
}

/** Random changes beside a model; `known` says which bytes the format must have by the model. */
async function story(bench: Bench, { readsZeroes = true }: FormatManifest, seed: number): Promise<void> {
  const random = randomness(seed);
  let node = await bench.make();
  let edge = await bench.edge(node);
  const model = new Uint8Array(SIZE);
  if (!readsZeroes) await pwrite(node, 0, model);
  for (let step = 1; step <= 60; step++) {
    const offset = 512 * random(SIZE / 512 - 1);
    const bytes = 512 * (1 + random(Math.min(200, (SIZE - offset) / 512)));
    const kind = random(8);
    if (kind === 0) {
      await edge.pwriteZeroes(offset, bytes, random(2) === 0 ? Req.mayUnmap : 0);
      model.fill(0, offset, offset + bytes);
    } else if (kind === 1) {
      await bench.graph.detach(edge);
      node = await bench.reopen();
      edge = await bench.edge(node);
      expect(same(await contentOf(node), model), `reopened after step ${step}`).toBe(true);
    } else if (kind === 2) await flush(node);
    else {
      await pwrite(node, offset, new Uint8Array(bytes).fill(step));
      model.fill(step, offset, offset + bytes);
    }
  }
  expect(same(await contentOf(node), model)).toBe(true);
  await bench.graph.detach(edge);
}

/** The suite. */
export function testFormat(manifest: FormatManifest): void {
  const { name } = manifest.type;
  describe.each(Object.keys(wrappers))(`${name} %s`, (how) => {
    const bench = (): Bench => new Bench(manifest, wrappers[how]!);
    contentCases(manifest, bench);
    changeCases(manifest, bench);
  });
  describe(`${name}: headers and options`, () => headerCases(manifest));
}

function contentCases(manifest: FormatManifest, bench: () => Bench): void {
  const { readsZeroes = true, isSlow = false } = manifest;
  it.each(isSlow ? [1] : [1, 2, 3])("keeps what is written, over reopening (seed %i)", async (seed) => {
    await story(bench(), manifest, seed);
  });

  it("reads and tells what is there, in extents that cover the disk", async () => {
    const at = bench();
    const node = await at.make();
    if (readsZeroes) expect((await contentOf(node)).every((byte) => byte === 0)).toBe(true);
    const edge = await at.edge(node);
    await pwrite(node, 200_192, new Uint8Array(1000).fill(7));
    for (let offset = 0; offset < SIZE;) {
      const status = await blockStatusAbove(node, offset, SIZE - offset);
      expect(status.bytes).toBeGreaterThan(0);
      const holds = offset < 201_192 && offset + status.bytes > 200_192;
      if (holds) expect(status).toMatchObject({ zero: false });
      if (status.zero) {
        const read = new Uint8Array(status.bytes).fill(1);
        await pread(node, offset, read);
        expect(read.every((byte) => byte === 0)).toBe(true);
      }
      offset += status.bytes;
    }
    await at.graph.detach(edge);
  });

  it("writes concurrently, into one cluster and into many", async () => {
    const at = bench();
    const node = await at.make();
    const edge = await at.edge(node);
    const unit = 4 * KiB;
    const writes = Array.from({ length: SIZE / unit }, async (_, index) =>
      pwrite(node, index * unit, new Uint8Array(unit).fill(1 + (index % 250))),
    );
    await Promise.all(writes);
    const content = await contentOf(node);
    for (let index = 0; index < SIZE / unit; index++)
      expect(content[index * unit + 17]).toBe(1 + (index % 250));
    await at.graph.detach(edge);
  });
}

function changeCases({ readsZeroes = true, backing = false }: FormatManifest, bench: () => Bench): void {
  it("discards without touching what lies beside it", async () => {
    const at = bench();
    const node = await at.make();
    const edge = await at.edge(node);
    await pwrite(node, 0, new Uint8Array(SIZE).fill(5));
    await edge.pdiscard(128 * KiB, 128 * KiB);
    const content = await contentOf(node);
    expect(content.subarray(0, 128 * KiB).every((byte) => byte === 5)).toBe(true);
    expect(content.subarray(256 * KiB).every((byte) => byte === 5)).toBe(true);
    await at.graph.detach(edge);
  });

  it("grows with zeroes and shrinks for good", async () => {
    const at = bench();
    const node = await at.make();
    const edge = await at.edge(node, Perm.consistentRead | Perm.write | Perm.resize);
    await pwrite(node, 0, new Uint8Array(SIZE).fill(5));
    const options = { exact: true, preallocation: "off" } as const;
    await edge.truncate(SIZE / 2, options);
    await edge.truncate(2 * SIZE, options);
    expect(node.length).toBe(2 * SIZE);
    const content = await contentOf(node);
    expect(content.subarray(0, SIZE / 2).every((byte) => byte === 5)).toBe(true);
    if (readsZeroes) expect(content.subarray(SIZE / 2).every((byte) => byte === 0)).toBe(true);
    await at.graph.detach(edge);
    const again = await at.reopen();
    expect(again.length).toBe(2 * SIZE);
    expect(same(await contentOf(again), content)).toBe(true);
  });

  it.skipIf(!backing)("shows its backing file, and keeps it as it is", async () => {
    const at = bench();
    await at.disk("base", SIZE);
    await at.fill("base", 0, SIZE, 9);
    const base = await at.content("base");
    await at.make();
    if (at.graph.findNode("top-file")) await at.graph.remove("top-file");
    await at.graph.remove("image-file");
    const node = await at.open({ backing: "base" });
    expect(same(await contentOf(node), base)).toBe(true);
    const edge = await at.edge(node);
    await pwrite(node, 500 * 512, new Uint8Array(512).fill(1));
    await edge.pwriteZeroes(0, 3 * 512);
    await at.graph.detach(edge);
    const model = base.slice();
    model.fill(1, 500 * 512, 501 * 512);
    model.fill(0, 0, 3 * 512);
    expect(same(await contentOf(node), model)).toBe(true);
    expect(same(await at.content("base"), base)).toBe(true);
  });
}

function headerCases(manifest: FormatManifest): void {
  const { type, probes = true, isSlow = false } = manifest;
  it.skipIf(!probes)("is found by its first bytes", async () => {
    const at = new Bench(manifest, () => undefined);
    await at.make();
    await at.graph.remove("image-file");
    const copy = await at.content("file");
    await at.graph.add({ driver: "memory", "node-name": "other", size: copy.byteLength });
    await at.graph.node("other").driver.pwrite!(0, copy, 0);
    expect(type.probe!(copy.subarray(0, 2048))).toBeGreaterThan(0);
    expect(type.probe!(new Uint8Array(2048))).toBe(0);
    const buffer = { driver: "memory", "node-name": "third", buffer: copy } as unknown as NodeSpec;
    await expect(probeFormat(at.graph, buffer)).resolves.toEqual({ driver: type.name });
  });

  it.each(manifest.badOptions ?? [])("refuses %o", async (options) => {
    await expect(new Bench(manifest, () => undefined).make(options)).rejects.toBeInstanceOf(Error);
  });

  it.skipIf(!probes)("opens no header with a flipped bit in a way that breaks an invariant", async () => {
    const at = new Bench(manifest, () => undefined);
    await at.make();
    await at.graph.remove("image-file");
    const head = (await at.content("file")).slice(0, 104);
    for (let bit = 0; bit < head.byteLength * 8; bit += isSlow ? 23 : 5) {
      const hostile = head.slice();
      hostile[bit >>> 3]! ^= 1 << (bit & 7);
      await at.graph.node("file").driver.pwrite!(0, hostile, 0);
      const opened = await at.open({ "read-only": true }).catch((error: unknown) => error);
      if (opened instanceof Error) expect(opened, `bit ${bit}`).toBeInstanceOf(BlockError);
      else await at.graph.remove("image-file");
    }
  });

  it("measures at least what it takes", async () => {
    const at = new Bench(manifest, () => undefined);
    const node = await at.make();
    const edge = await at.edge(node);
    await pwrite(node, 0, new Uint8Array(SIZE).fill(5));
    await at.graph.detach(edge);
    await at.graph.remove("image-file");
    const measured = await type.measure!({ options: { ...manifest.createOptions }, bytes: SIZE });
    expect(at.graph.node("file").length).toBeLessThanOrEqual(measured.fullyAllocatedBytes);
    expect(measured.requiredBytes).toBeLessThanOrEqual(measured.fullyAllocatedBytes);
  });
}
