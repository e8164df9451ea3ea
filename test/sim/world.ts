// The images of a story: created and filled in a first engine without faults or latency, then opened in the one that the
// story runs in, and opened once more at the end by what their headers say.
import { graphOf } from "../support/graph-of.ts";
import type { NodeSpec } from "../../src/block/model/contract.ts";
import { BlockBackend } from "../../src/block/graph/backend.ts";
import { fileGate } from "../../src/block/model/gate.ts";
import type { BlockNode } from "../../src/block/model/node.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import { checkedQcow2 as qcow2 } from "../../src/drivers/format/qcow2/checked.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { Arena } from "../../src/kernels/arena.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import type { Kernels } from "../../src/kernels/kernels.ts";
import { Engine } from "../../src/machine/engine.ts";
import type { Dice } from "./dice.ts";
import type { SimHost } from "./host.ts";
import { Model, stamp } from "./model.ts";
import { type ImagePlan, type StoryPlan, pathOf } from "./plan.ts";

const kernelsBySize = new Map<number, Kernels>();

/** Kernels whose arena holds the same garbage at the start of every story. */
function freshKernels(arenaBytes: number): Kernels {
  let kernels = kernelsBySize.get(arenaBytes);
  if (!kernels) kernelsBySize.set(arenaBytes, (kernels = loadKernels({ arenaBytes })));
  const { buffer, start, bytes } = kernels.area;
  new Uint8Array(buffer, start, bytes).fill(0xa7);
  return kernels;
}

/** An engine over the host's files. */
export function makeEngine(host: SimHost, arenaBytes: number): Engine {
  const kernels = freshKernels(arenaBytes);
  const gate = fileGate("local", host);
  return new Engine({ host, kernels, arena: new Arena(kernels), gate, drivers: [...portableDrivers, file] });
}

const anyone = { perm: Perm.consistentRead | Perm.write, shared: Perm.all };

/** All bytes of a node, read as a guest would. */
export async function contentOf(node: BlockNode): Promise<Uint8Array> {
  const backend = new BlockBackend(graphOf(node));
  await backend.attach(node, { perm: Perm.consistentRead, shared: Perm.all });
  try {
    const content = new Uint8Array(node.length);
    for (let at = 0; at < content.byteLength; at += 2 ** 20)
      await backend.pread(at, content.subarray(at, at + 2 ** 20));
    return content;
  } finally {
    await backend.close();
  }
}

/** The images of one story, with what they show. */
export class World {
  readonly host: SimHost;
  readonly plan: StoryPlan;
  /** What each layer of the chain shows, 0 = lowest. */
  readonly models: Model[] = [];
  /** What the target shows before the story. */
  target: Model | undefined;
  readonly #dice: Dice;
  /** The bytes of images that are in memory. */
  readonly #buffers = new Map<string, Uint8Array>();
  #tag = 1;

  constructor(host: SimHost, plan: StoryPlan, dice: Dice) {
    this.host = host;
    this.plan = plan;
    this.#dice = dice;
  }

  /** What the guest sees at first. */
  get top(): Model {
    return this.models.at(-1)!;
  }

  /** Whether an image of the chain is no file. */
  get chainInMemory(): boolean {
    return this.plan.chain.some((image) => image.memory);
  }

  /** Creates and fills all images. */
  async create(): Promise<void> {
    const { chain, target } = this.plan;
    const engine = makeEngine(this.host, 2 ** 20);
    for (const [layer, image] of chain.entries()) {
      await this.#createImage(engine, image, chain[layer - 1]);
      const node = await engine.graph.add(this.#spec(image, chain[layer - 1]?.name ?? null, true));
      const model = this.models.at(-1)?.resized(image.size) ?? new Model(new Uint8Array(image.size));
      await this.#fill(node, image, model);
      this.models.push(model);
    }
    if (target) await this.#createTarget(engine, target);
    await engine.close();
  }

  async #createTarget(engine: Engine, target: ImagePlan): Promise<void> {
    const { chain, job } = this.plan;
    const backing = job.sync === "top" ? chain.at(-2) : undefined;
    await this.#createImage(engine, target, backing);
    const node = await engine.graph.add(this.#spec(target, backing?.name ?? null, true));
    let model = new Model(new Uint8Array(target.size));
    if (backing) model = this.models.at(-2)!.resized(target.size);
    if (job.sync === "incremental" || (job.sync === "none" && job.kind === "mirror")) {
      await this.#write(node, 0, this.top.content);
      model = this.top.copy();
    } else if (job.sync === "none") {
      const garbage = stamp(0, target.size, 77);
      await this.#write(node, 0, garbage);
      model.write(0, garbage);
    } else await this.#fill(node, target, model);
    this.target = model;
  }

  async #createImage(engine: Engine, image: ImagePlan, backing: ImagePlan | undefined): Promise<void> {
    const { graph } = engine;
    if (image.memory) image.format = "raw";
    if (image.memory) return void this.#buffers.set(image.name, new Uint8Array(image.size));
    await this.host.files.create(pathOf(image.name), { size: image.format === "raw" ? image.size : 0 });
    if (image.format === "raw") return;
    await qcow2.create!(
      { graph, host: this.host },
      {
        file: { driver: "file", filename: pathOf(image.name) },
        size: image.size,
        version: image.version,
        "cluster-size": image.clusterSize,
        "refcount-bits": image.refcountBits,
        "lazy-refcounts": image.lazyRefcounts,
        ...(backing && !backing.memory
          ? { "backing-file": pathOf(backing.name), "backing-fmt": backing.format }
          : {}),
      },
    );
  }

  async #fill(node: BlockNode, image: ImagePlan, model: Model): Promise<void> {
    const dice = this.#dice;
    for (let count = image.fill; count > 0; count--) {
      const bytes = 512 * dice.between(1, Math.min(image.size / 512, image.fillSectors));
      const offset = 512 * dice.between(0, (image.size - bytes) / 512);
      const backend = new BlockBackend(graphOf(node));
      await backend.attach(node, anyone);
      if (dice.oneIn(6)) {
        await backend.pwriteZeroes(offset, bytes);
        model.zero(offset, bytes);
      } else {
        const data = stamp(offset, bytes, this.#tag++);
        await backend.pwrite(offset, data);
        model.write(offset, data);
      }
      await backend.close();
    }
  }

  async #write(node: BlockNode, offset: number, data: Uint8Array): Promise<void> {
    const backend = new BlockBackend(graphOf(node));
    await backend.attach(node, anyone);
    await backend.pwrite(offset, data);
    await backend.close();
  }

  /** Opens chain and target for the story. The nodes bear the images' names. */
  async open(engine: Engine): Promise<void> {
    const { chain, target, job } = this.plan;
    let spec: NodeSpec | null = null;
    for (const image of chain) spec = this.#spec(image, spec, image === chain.at(-1));
    await engine.graph.add(spec!);
    if (target)
      await engine.graph.add(this.#spec(target, job.sync === "top" ? chain.at(-2)!.name : null, true));
  }

  #spec(image: ImagePlan, backing: NodeSpec | string | null, top: boolean): NodeSpec {
    const storage: NodeSpec = image.memory
      ? { driver: "memory", buffer: this.#buffers.get(image.name) }
      : { driver: "file", filename: pathOf(image.name) };
    let file: NodeSpec = { ...storage, "node-name": `${image.name}-file` };
    if (image.shape)
      file = { driver: "blkdebug", "node-name": `${image.name}-shape`, image: file, ...image.shape };
    return {
      driver: image.format,
      "node-name": image.name,
      file,
      discard: image.discard,
      "detect-zeroes": image.detectZeroes,
      ...(image.format === "qcow2" ? { backing } : {}),
      ...(top ? { "read-only": false } : {}),
    };
  }

  /** What an image shows when it is opened by its file alone, its header naming the rest. */
  async reopened(image: ImagePlan): Promise<Uint8Array> {
    const engine = makeEngine(this.host, 2 ** 20);
    const storage = { driver: "file", filename: pathOf(image.name) };
    const node = await engine.graph.add({
      driver: image.format,
      "node-name": "again",
      file: storage,
      "read-only": true,
    });
    const content = await contentOf(node);
    await engine.close();
    return content;
  }
}
