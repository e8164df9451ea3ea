// The world of the n-th I/O: images in faulty files under a guest, a record of the graph, and its judge.
import { expect } from "vitest";
import { BlockBackend, guestPermissions } from "../../src/block/graph/backend.ts";
import type { BlockNode } from "../../src/block/model/node.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import { copyOnRead } from "../../src/drivers/filter/copy-on-read.ts";
import { checkedQcow2 as qcow2 } from "../../src/drivers/format/qcow2/checked.ts";
import { commitTop } from "../../src/job/commit/top.ts";
import type { BlockJob } from "../../src/job/core/block-job.ts";
import type { Job } from "../../src/job/core/job.ts";
import { jobsOf } from "../../src/job/core/registry.ts";
import { mirrorTop } from "../../src/job/mirror/top.ts";
import { KiB, TestGraph, pattern, same } from "../unit/support/graph.ts";
import { FaultyFiles } from "./faulty-files.ts";

export const SIZE = 512 * KiB;
const CLUSTER = 64 * KiB;

/** A turn of the event loop without a delay. */
function turn(): Promise<void> {
  if (typeof setImmediate === "function") return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

/** base <- mid <- top (qcow2), a raw disk `src` and a raw target `dst`; the guest has the disk of the story. */
export class World {
  readonly test = new TestGraph(4 * 1024 * KiB);
  readonly files = new FaultyFiles();
  /** What the guest sees. */
  seen = new Uint8Array(SIZE);
  /** The same before the guest wrote during a job. */
  atFirst = new Uint8Array(SIZE);
  guest!: BlockBackend;
  #before: unknown;

  constructor() {
    this.test.host.clock.turn = turn;
    this.test.graph.register(this.files.driver, qcow2, copyOnRead, mirrorTop, commitTop);
  }

  node(name: string): BlockNode {
    return this.test.graph.node(name);
  }

  /** A chain of qcow2 images of this length; read-only below the top, as a chain is. */
  async chain(): Promise<void> {
    const names = ["base", "mid", "top"];
    for (const [index, name] of names.entries()) {
      await this.#image(name, names[index - 1]);
      await this.#fill(name, [index, index + 2, 7 - index], 0x11 * (index + 1));
    }
    await this.#guest("top");
  }

  /** Raw disks. */
  async disks(): Promise<void> {
    for (const name of ["src", "dst"]) {
      this.files.make(name, SIZE);
      const file = { driver: "file", filename: name };
      await this.test.graph.add({ driver: "raw", "node-name": name, file, discard: "unmap" });
    }
    this.files.content("dst").bytes.fill(0xee);
    await this.#fill("src", [0, 2, 3, 7], 0x11);
    await this.#guest("src");
  }

  /** An empty file, for an image to come. */
  async storage(): Promise<void> {
    this.files.make("new");
    await this.test.graph.add({ driver: "file", "node-name": "new", filename: "new" });
  }

  async #image(name: string, backing: string | undefined): Promise<void> {
    const { graph, host } = this.test;
    this.files.make(name);
    const file = { driver: "file", filename: name };
    const link = backing === undefined ? {} : { "backing-file": backing, "backing-fmt": "qcow2" };
    await qcow2.create!({ graph, host }, { driver: "qcow2", file, size: SIZE, ...link });
    const spec = { driver: "qcow2", "node-name": name, file, backing: backing ?? null };
    await graph.add(spec);
  }

  async #fill(name: string, clusters: readonly number[], value: number): Promise<void> {
    const edge = await this.test.edge(name);
    for (const cluster of clusters) {
      const bytes = pattern(CLUSTER, value + cluster);
      await edge.pwrite(cluster * CLUSTER, bytes);
      this.seen.set(bytes, cluster * CLUSTER);
    }
    await edge.flush();
    await this.test.graph.detach(edge);
    const below = this.node(name).backing?.node;
    if (below) await this.test.graph.setReadOnly(below, true);
  }

  async #guest(name: string): Promise<void> {
    this.guest = new BlockBackend(this.test.graph, "guest");
    await this.guest.attach(this.node(name), guestPermissions);
    this.#before = this.#record();
  }

  /** The guest overwrites, and writes anew, while a job runs. A write that fails may have changed its bytes or not. */
  async guestWrites(): Promise<void> {
    this.atFirst = this.seen.slice();
    for (const cluster of [2, 5]) {
      const bytes = pattern(4096, 0x77 + cluster);
      const write = async (): Promise<void> => this.guest.pwrite(cluster * CLUSTER + 4096, bytes);
      const done = await this.test.host.clock.settle(
        write().then(
          () => true,
          () => false,
        ),
      );
      if (done) this.seen.set(bytes, cluster * CLUSTER + 4096);
    }
  }

  /** All that a job takes for a while, as it is now. */
  #record(): unknown {
    return this.test.graph.nodes.map((node) => ({
      name: node.name,
      readOnly: node.readOnly,
      references: node.references,
      edges: [...node.parents]
        .map(
          ({ name, parent, perm, shared, frozen }) =>
            `${parent.describe()} ${name} ${perm} ${shared} ${frozen}`,
        )
        .toSorted(),
    }));
  }

  /** Lets the job go to its end; `then` acts when it is ready. Returns its error, if one. */
  async follow(job: Job, then: (job: Job) => Promise<void>): Promise<unknown> {
    const { clock } = this.test.host;
    let result: { error?: unknown } | undefined;
    job.done.then(
      () => (result = {}),
      (error: unknown) => (result = { error }),
    );
    const from = clock.nowMs();
    let resumed = 0;
    let acted = false;
    for (let steps = 0; !result || job.status !== "null"; steps++) {
      expect(steps, `${job.id} stands still in ${job.status}`).toBeLessThan(5000);
      if (job.status === "concluded" && !job.autoDismiss) await job.dismiss();
      const late = clock.nowMs() - from > 3000;
      if (late && !job.isCompleted && !job.isCancelled) await job.cancel();
      else if (job.userPaused && resumed++ < 3) job.resume();
      else if (job.userPaused) await job.cancel();
      else if (job.isReady && !acted) {
        acted = true;
        await then(job).catch(() => job.cancel());
      }
      await clock.step();
    }
    return result.error;
  }

  /** Nothing of a job is left, and what only it changed is as it was. */
  expectNothingLeft({ asBefore }: { asBefore: boolean }): void {
    const { graph } = this.test;
    expect(jobsOf(graph).jobs).toEqual([]);
    expect(graph.arena.inUse).toBe(0);
    for (const node of graph.nodes) {
      expect(["raw", "qcow2", "file"]).toContain(node.type.name);
      const { quiesceCounter, inFlight, references, dirtyBitmaps } = node;
      const state = { quiesceCounter, inFlight, references, bitmaps: dirtyBitmaps.length };
      expect(state, node.name).toEqual({ quiesceCounter: 0, inFlight: 0, references: 0, bitmaps: 0 });
      expect(node.requests.anySerialising).toBe(false);
      expect(node.blockedBy("resize") ?? "").not.toContain("job");
      for (const edge of node.parents) {
        expect([edge.frozen, edge.parent.describe()]).toEqual([false, expect.not.stringMatching(/ job /)]);
        expect(edge.quiescedParent).toBe(false);
      }
    }
    if (asBefore) expect(this.#record()).toEqual(this.#before);
  }

  /** What the guest sees is what it has written. */
  async expectGuestContent(): Promise<void> {
    const buffer = new Uint8Array(SIZE);
    await this.guest.pread(0, buffer);
    expect(same(buffer, this.seen)).toBe(true);
  }

  async content(name: string): Promise<Uint8Array> {
    const edge = await this.test.edge(name, Perm.consistentRead);
    const buffer = new Uint8Array(SIZE);
    await edge.pread(0, buffer);
    await this.test.graph.detach(edge);
    return buffer;
  }

  /** Everything is closed, and the chain that the files' own headers make shows what the guest had written. */
  async expectDurable(name: string): Promise<void> {
    const { graph } = this.test;
    await this.guest.close();
    await graph.close();
    expect([graph.nodes, graph.arena.inUse]).toEqual([[], 0]);
    const node = await this.#reopen(name);
    expect(same(await this.content(node.name), this.seen)).toBe(true);
    await graph.close();
  }

  async #reopen(name: string): Promise<BlockNode> {
    const { graph } = this.test;
    const file = { driver: "file", filename: name, "read-only": true };
    if (name === "src" || name === "dst") return graph.add({ driver: "raw", "node-name": name, file });
    const alone = await graph.open({ driver: "qcow2", file, backing: null, "read-only": true });
    const header = alone.driver.headerBacking?.filename();
    await graph.release(alone);
    const backing = header === undefined || header === "" ? null : (await this.#reopen(header)).name;
    return graph.add({ driver: "qcow2", "node-name": name, file, backing, "read-only": true });
  }
}

export type Policy = "report" | "ignore" | "stop";

/** A job and what its end means. */
export interface Story {
  make(world: World): Promise<void>;
  start(world: World, policy: Policy): Promise<Job | BlockJob>;
  ready?(job: Job): Promise<void>;
  /** The image that shows the guest's disk when the job has succeeded; before, and after a failure, it is `disk`. */
  disk: string;
  after?: string;
  /** Another image that must hold the same after a success. */
  copy?: string;
  /** The copy shows the disk as it was when the job began. */
  pointInTime?: boolean;
  /** False: what has failed can't be tried again. */
  again?: boolean;
}
