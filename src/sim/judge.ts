/**
 * The judgement at the end of a story: contents, chain, target, leaks, images on disk.
 */
import { lookupBitmap } from "../block/bitmap/commands.ts";
import { layers } from "../block/model/chain.ts";
import { JobCancelledError } from "../job/core/job.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import type { ImageDescription } from "./graph.ts";
import { Model, contentOf } from "./model.ts";
import { type ImagePlan, pathOf } from "./plan.ts";
import { checkQcow2 } from "./qcow2-check.ts";
import type { Story } from "./story.ts";

/** The names of an image's nodes. */
function namesOf({ spec, filters }: ImageDescription): string[] {
  const names = filters.map((filter) => String(filter["node-name"]));
  for (let at: NodeSpec | undefined = spec; at; at = (at["file"] ?? at["image"]) as NodeSpec | undefined)
    names.push(String(at["node-name"]));
  return names;
}

/** Judges one story. */
export class Judge {
  readonly #story: Story;

  constructor(story: Story) {
    this.#story = story;
  }

  async judge(): Promise<void> {
    this.#judgeEnd();
    await this.#judgeDisk();
    await this.#judgeTarget();
    this.#judgeChain();
    const root = this.#rootImage();
    await this.#close();
    this.#judgeImages();
    await this.#judgeReopened(root);
    this.#judgeLeftovers();
  }

  #bad(text: string): void {
    this.#story.violations.push(text);
  }

  /** A job may fail only for what was injected, or because it was cancelled. */
  #judgeEnd(): void {
    const { jobError, host, user, job } = this.#story;
    if (!job || jobError === undefined) return;
    if (jobError instanceof JobCancelledError) {
      if (!user.cancelled) this.#bad("the job was cancelled, but nobody asked for it");
      return;
    }
    if (host.files.injected.size > 0) return;
    const message = jobError instanceof Error ? (jobError.stack ?? jobError.message) : "";
    this.#bad(`the job failed, but no error was injected: ${message}`);
  }

  /** Whether the job did all that it was asked for. */
  get #succeeded(): boolean {
    const { job, jobError } = this.#story;
    return job !== undefined && jobError === undefined;
  }

  async #judgeDisk(): Promise<void> {
    const { guest, engine } = this.#story;
    const node = guest.device.backend.node!;
    if (node.length !== guest.model.length)
      this.#bad(`the disk has ${node.length} bytes, not ${guest.model.length}`);
    const content = await contentOf(engine.graph, node);
    const at = guest.model.difference(0, content.subarray(0, guest.model.length));
    if (at >= 0) this.#bad(`the guest's disk is wrong at ${at}`);
    await guest.device.flush();
  }

  async #judgeTarget(): Promise<void> {
    const { plan, engine, atStart, atEnd, job } = this.#story;
    const node = plan.target && engine.graph.findNode(plan.target.name);
    if (!node || !job || this.#rootImage() === plan.target) return;
    if (plan.job.kind === "backup" && plan.job.sync === "none") return this.#judgeOldContent();
    if (plan.job.sync === "incremental") await this.#judgeBitmap();
    if (!this.#succeeded) return;
    const model = plan.job.kind === "backup" ? atStart! : atEnd!;
    const at = model.difference(0, await contentOf(engine.graph, node));
    if (at >= 0) this.#bad(`the target is wrong at ${at}`);
  }

  /** sync=none: what the guest changed is on the target as it was. */
  async #judgeOldContent(): Promise<void> {
    const { atStart, changes, engine, world, plan } = this.#story;
    const content = await contentOf(engine.graph, engine.graph.node(plan.target!.name));
    const expected = world.target!.copy();
    const touched = new Uint8Array(content.byteLength);
    for (const { offset, bytes } of changes) {
      // Clusters are copied, so the rest of a sector is old too.
      const from = offset - (offset % 512);
      const to = Math.min(Math.ceil((offset + bytes) / 512) * 512, content.byteLength);
      expected.take(atStart!, from, to - from);
      touched.fill(1, from, to);
    }
    for (let at = 0; at < content.byteLength; at += 512) {
      if (touched[at] === 0) continue;
      if (expected.difference(at, content.subarray(at, at + 512)) < 0) continue;
      return this.#bad(`the target does not hold the old content at ${at}`);
    }
  }

  /** Where disk and target differ, the bitmap is dirty, whatever became of the backup: the next one can mend it. */
  async #judgeBitmap(): Promise<void> {
    const { engine, guest, plan } = this.#story;
    const node = guest.device.backend.node!;
    const { bitmap } = lookupBitmap(engine.graph, { node: node.name, name: "bitmap" });
    const disk = await contentOf(engine.graph, node);
    const target = new Model(await contentOf(engine.graph, engine.graph.node(plan.target!.name)));
    for (let at = 0; at < disk.byteLength; at += 512) {
      if (bitmap.get(at) || target.difference(at, disk.subarray(at, at + 512)) < 0) continue;
      return this.#bad(`disk and target differ at ${at}, but the bitmap is clean there`);
    }
  }

  #judgeChain(): void {
    const { plan, guest, user, job } = this.#story;
    const { kind, top, base, sync } = plan.job;
    const all = plan.chain.map((image) => image.name);
    const images = new Set([...all, plan.target?.name]);
    const found = [...layers(guest.device.backend.node!)]
      .map((node) => node.name)
      .filter((name) => images.has(name) || !this.#described.has(name));
    const names = found.toReversed();
    let expected = all;
    const pivoted = this.#succeeded && user.completed && !job!.cancelRequested;
    if (kind === "stream" || kind === "commit") {
      if (this.#succeeded && kind === "stream") expected = [...all.slice(0, base + 1), ...all.slice(top)];
      if (this.#succeeded && kind === "commit") expected = [...all.slice(0, base + 1), ...all.slice(top + 1)];
      // What fails at the very end may have changed the chain already.
      if (!this.#succeeded && names.length < all.length) return;
    } else if (pivoted && kind === "active-commit") expected = all.slice(0, base + 1);
    else if (pivoted && kind === "mirror")
      expected = [...(sync === "top" ? all.slice(0, -1) : []), plan.target!.name];
    if (names.join() !== expected.join()) this.#bad(`the chain is ${names.join()}, not ${expected.join()}`);
  }

  get #images(): readonly ImagePlan[] {
    const { chain, target } = this.#story.plan;
    return [...chain, ...(target ? [target] : [])];
  }

  /** The names of all nodes that a file describes. */
  get #described(): ReadonlySet<string> {
    return new Set(this.#images.flatMap(({ description }) => (description ? namesOf(description) : [])));
  }

  /** The image at the top of the guest's chain. */
  #rootImage(): ImagePlan | undefined {
    const node = this.#story.guest.device.backend.node;
    const names = node ? [...layers(node)].map(({ name }) => name) : [];
    const [name] = names.filter((one) => this.#images.some((image) => image.name === one));
    return this.#images.find((image) => image.name === name);
  }

  async #close(): Promise<void> {
    const { engine, host, guest } = this.#story;
    const { graph } = engine;
    if (graph.arena.inUse > 0) this.#bad(`${graph.arena.inUse} bytes of the arena are still held`);
    if (graph.arena.waiting > 0) this.#bad("someone waits for the arena");
    if (engine.jobs.jobs.length > 0) this.#bad("a job is left");
    this.#judgeNodes();
    await guest.device.unplug();
    await engine.close();
    if (graph.nodes.length > 0) this.#bad(`nodes are left: ${graph.nodes.map((node) => node.name).join()}`);
    if (host.files.open_ !== 0) this.#bad(`${host.files.open_} files are still open`);
  }

  #judgeNodes(): void {
    const { engine, plan } = this.#story;
    const known = new Set(
      [...plan.chain, ...(plan.target ? [plan.target] : [])].flatMap(({ name }) => [
        name,
        `${name}-file`,
        `${name}-shape`,
      ]),
    );
    for (const name of this.#described) known.add(name);
    for (const node of engine.graph.nodes) {
      if (!known.has(node.name)) this.#bad(`the node ${node.name} (${node.type.name}) is left`);
      if (node.inFlight !== 0) this.#bad(`${node.inFlight} requests are in flight on ${node.name}`);
      if (node.quiesceCounter !== 0) this.#bad(`${node.name} is still drained`);
      if (node.references !== 0) this.#bad(`${node.name} is still referenced`);
      for (const child of node.children)
        if (child.frozen) this.#bad(`the link ${child.name} of ${node.name} is frozen`);
    }
  }

  #judgeImages(): void {
    const { plan, host } = this.#story;
    for (const image of [...plan.chain, ...(plan.target ? [plan.target] : [])]) {
      if (image.format !== "qcow2" || image.memory) continue;
      const data = host.files.data(pathOf(image.name));
      const { errors, leaks } = checkQcow2(data.bytes.subarray(0, data.size));
      for (const error of errors.slice(0, 3)) this.#bad(`${image.name}: ${error}`);
      if (leaks > 0 && host.files.injected.size === 0) this.#bad(`${image.name}: ${leaks} clusters leaked`);
    }
  }

  async #judgeReopened(root: ImagePlan | undefined): Promise<void> {
    const { guest, world } = this.#story;
    if (!root) return this.#bad("the guest's disk is none of the images");
    if (root.memory || world.chainInMemory) return;
    const at = guest.model.difference(0, (await world.reopened(root)).subarray(0, guest.model.length));
    if (at >= 0) this.#bad(`the image ${root.name}, opened again, is wrong at ${at}`);
  }

  #judgeLeftovers(): void {
    const { host } = this.#story;
    if (host.scheduler.pending > 0) this.#bad(`${host.scheduler.pending} timers or requests are left`);
  }
}
