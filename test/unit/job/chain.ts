// A chain of three images over a virtual host, and the jobs that run on it.
import type { BlockNode } from "../../../src/block/model/node.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { copyOnRead } from "../../../src/drivers/filter/copy-on-read.ts";
import type { BlockJob } from "../../../src/job/core/block-job.ts";
import { startCommit } from "../../../src/job/commit/commit.ts";
import { startStream } from "../../../src/job/stream/stream.ts";
import { MiB, TestGraph, pattern } from "../support/graph.ts";
import { type CowImage, clusterBytes, cow, images, makeImage } from "./cow-format.ts";

/** base <- mid <- top, 2 MiB each (base: `baseBytes`), with data in each, and what a guest sees in top. */
export class Chain {
  readonly test: TestGraph;
  readonly log: string[] = [];
  readonly base: CowImage;
  readonly mid: CowImage;
  readonly top: CowImage;
  readonly seen = new Uint8Array(2 * MiB);

  constructor(baseBytes = 2 * MiB, options: { strictErrorPolicy?: boolean } = {}) {
    this.test = new TestGraph(undefined, options);
    images.clear();
    this.base = makeImage("base", baseBytes);
    this.mid = makeImage("mid", 2 * MiB, "base");
    this.top = makeImage("top", 2 * MiB, "mid");
    this.test.graph.register(cow, copyOnRead);
    this.test.graph.events.subscribe(({ event, data }) => {
      this.log.push(event === "JOB_STATUS_CHANGE" ? data.status : event);
    });
    this.#put(this.base, [0, 1, 2, 3], 0x11);
    this.#put(this.mid, [2, 9], 0x22);
    this.#put(this.top, [3, 31], 0x33);
  }

  #put(image: CowImage, clusters: readonly number[], value: number): void {
    for (const cluster of clusters) {
      const bytes = pattern(clusterBytes, value + cluster);
      image.clusters.set(cluster, bytes);
      this.seen.set(bytes, cluster * clusterBytes);
    }
  }

  async open(): Promise<this> {
    const { graph } = this.test;
    await graph.add({ driver: "cow", "node-name": "base", backing: null });
    await graph.add({ driver: "cow", "node-name": "mid", backing: "base" });
    await graph.add({ driver: "cow", "node-name": "top", backing: "mid" });
    return this;
  }

  node(name: string): BlockNode {
    return this.test.graph.node(name);
  }

  run(job: BlockJob): Promise<unknown> {
    return this.test.host.clock.settle(job.done.catch((error: unknown) => error));
  }

  async idle(): Promise<void> {
    for (let i = 0; i < 10; i++) await this.test.host.clock.idle();
  }

  /** Offset of the first byte in which top differs from what the guest had written; -1 if none does. */
  async firstDifference(): Promise<number> {
    const edge = await this.test.edge("top", Perm.consistentRead);
    const buffer = new Uint8Array(2 * MiB);
    await edge.pread(0, buffer);
    await this.test.graph.detach(edge);
    return buffer.findIndex((byte, i) => byte !== this.seen[i]);
  }

  stream(args: Record<string, unknown> = {}): ReturnType<typeof startStream> {
    return startStream(this.test.graph, { "job-id": "j", device: "top", ...args });
  }

  commit(args: Record<string, unknown> = {}): Promise<BlockJob> {
    const command = { "job-id": "j", device: "top", "top-node": "mid", "base-node": "base", ...args };
    return startCommit(this.test.graph, command);
  }
}
