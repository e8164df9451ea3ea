/**
 * The images of a story: created and filled in a first engine without faults or latency, then opened in the one that the
 * story runs in, and opened once more at the end by what their headers say.
 */
import type { NodeSpec } from "../block/model/contract.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { fileGate } from "../block/model/gate.ts";
import type { BlockNode } from "../block/model/node.ts";
import { Perm } from "../block/model/permissions.ts";
import { portableDrivers } from "../drivers/index.ts";
import { checkedQcow2 as qcow2 } from "../drivers/format/qcow2/checked.ts";
import { file } from "../drivers/protocol/file.ts";
import { Arena } from "../kernels/arena.ts";
import { loadKernels } from "../kernels/load.ts";
import type { Kernels } from "../kernels/kernels.ts";
import { Engine } from "../machine/engine.ts";
import type { Dice } from "./dice.ts";
import type { SimHost } from "./host.ts";
import { Model, contentOf, stamp } from "./model.ts";
import { type ImagePlan, type StoryPlan, pathOf, rootOf } from "./plan.ts";
import { throttleGroupsOf } from "../block/throttle/throttle.ts";

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

/** A node and its graph. */
interface Opened {
  readonly graph: BlockGraph;
  readonly node: BlockNode;
}

function rootBelow(image: ImagePlan | undefined): string | null {
  return image ? rootOf(image) : null;
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

  /** Makes the throttle groups that nodes name. */
  addThrottleGroups(engine: Engine): void {
    for (const { id, limits } of this.plan.throttleGroups ?? [])
      throttleGroupsOf(engine.graph).add(id, limits);
  }

  /** Creates and fills all images. */
  async create(): Promise<void> {
    const { chain, target } = this.plan;
    const engine = makeEngine(this.host, 2 ** 20);
    this.addThrottleGroups(engine);
    for (const [layer, image] of chain.entries()) {
      await this.#createImage(engine, image, chain[layer - 1]);
      const node = await engine.graph.add(this.#spec(image, rootBelow(chain[layer - 1]), true));
      const model = this.models.at(-1)?.resized(image.size) ?? new Model(new Uint8Array(image.size));
      await this.#fill({ graph: engine.graph, node }, image, model);
      this.models.push(model);
    }
    if (target) await this.#createTarget(engine, target);
    await engine.close();
  }

  async #createTarget(engine: Engine, target: ImagePlan): Promise<void> {
    const { chain, job } = this.plan;
    const backing = job.sync === "top" ? chain.at(-2) : undefined;
    await this.#createImage(engine, target, backing);
    const node = await engine.graph.add(this.#spec(target, rootBelow(backing), true));
    let model = new Model(new Uint8Array(target.size));
    if (backing) model = this.models.at(-2)!.resized(target.size);
    if (job.sync === "incremental" || (job.sync === "none" && job.kind === "mirror")) {
      await this.#write({ graph: engine.graph, node }, 0, this.top.content);
      model = this.top.copy();
    } else if (job.sync === "none") {
      const garbage = stamp(0, target.size, 77);
      await this.#write({ graph: engine.graph, node }, 0, garbage);
      model.write(0, garbage);
    } else await this.#fill({ graph: engine.graph, node }, target, model);
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

  async #fill({ graph, node }: Opened, image: ImagePlan, model: Model): Promise<void> {
    const dice = this.#dice;
    for (let count = image.fill; count > 0; count--) {
      const bytes = 512 * dice.between(1, Math.min(image.size / 512, image.fillSectors));
      const offset = 512 * dice.between(0, (image.size - bytes) / 512);
      const backend = new BlockBackend(graph);
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

  async #write({ graph, node }: Opened, offset: number, data: Uint8Array): Promise<void> {
    const backend = new BlockBackend(graph);
    await backend.attach(node, anyone);
    await backend.pwrite(offset, data);
    await backend.close();
  }

  /** Opens chain and target for the story. The nodes bear the images' names. */
  async open(engine: Engine): Promise<void> {
    const { chain, target, job } = this.plan;
    this.addThrottleGroups(engine);
    let spec: NodeSpec | null = null;
    for (const image of chain) spec = this.#spec(image, spec, image === chain.at(-1));
    await engine.graph.add(spec!);
    if (target)
      await engine.graph.add(this.#spec(target, job.sync === "top" ? rootBelow(chain.at(-2)) : null, true));
  }

  /** A node of a described graph: its file is the simulated one. */
  #placed(spec: NodeSpec, image: ImagePlan): NodeSpec {
    const { driver } = spec;
    if (driver === "file") return { ...spec, filename: pathOf(image.name) };
    if (driver === "memory") return { ...spec, buffer: this.#buffers.get(image.name) };
    const key = driver === "blkdebug" ? "image" : "file";
    return { ...spec, [key]: this.#placed(spec[key] as NodeSpec, image) };
  }

  #described(image: ImagePlan, backing: NodeSpec | string | null, top: boolean): NodeSpec {
    const { spec, filters, format } = image.description!;
    const writable = top ? { "read-only": false } : {};
    let node: NodeSpec = {
      discard: image.discard,
      "detect-zeroes": image.detectZeroes,
      ...this.#placed(spec, image),
      ...(format === "qcow2" ? { backing } : {}),
      ...writable,
    };
    for (const filter of filters) {
      const key = filter.driver === "blkdebug" ? "image" : "file";
      node = { ...filter, [key]: node, ...writable };
    }
    return node;
  }

  #spec(image: ImagePlan, backing: NodeSpec | string | null, top: boolean): NodeSpec {
    if (image.description) return this.#described(image, backing, top);
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
    const content = await contentOf(engine.graph, node);
    await engine.close();
    return content;
  }
}
