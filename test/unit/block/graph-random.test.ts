// Random changes of the graph below a guest that never stops: every byte it wrote is there, and nothing is left over.
import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { prepareSnapshot } from "../../../src/block/graph/change.ts";
import { skipFilters } from "../../../src/block/model/chain.ts";
import { drained } from "../../../src/block/model/drain.ts";
import type { FilterLease } from "../../../src/block/graph/edges.ts";
import { clusterBytes, cow, makeImage } from "../job/cow-format.ts";
import { TestGraph, same } from "../support/graph.ts";

const SIZE = 4 * clusterBytes;
const SLOTS = 8;
const SLOT = SIZE / SLOTS;

/** A guest with one writer for each slot of the disk, and what the disk should hold. */
class BusyGuest {
  readonly model = new Uint8Array(SIZE);
  readonly #backend: BlockBackend;
  readonly #test: TestGraph;
  #on = true;
  #running: Promise<unknown> | undefined;

  constructor(test: TestGraph, backend: BlockBackend) {
    this.#test = test;
    this.#backend = backend;
  }

  start(): void {
    this.#running = Promise.all(Array.from({ length: SLOTS }, (_, slot) => this.#writer(slot)));
  }

  async stop(): Promise<void> {
    this.#on = false;
    await this.#running;
  }

  async #writer(slot: number): Promise<void> {
    const { random, clock } = this.#test.host;
    while (this.#on) {
      const offset = slot * SLOT + random.below(SLOT - 1);
      const bytes = Math.min(1 + random.below(3000), (slot + 1) * SLOT - offset);
      const value = random.below(256);
      if (value % 5 === 0) {
        const buffer = new Uint8Array(bytes);
        await this.#backend.pread(offset, buffer);
        if (!same(buffer, this.model.subarray(offset, offset + bytes)))
          throw new Error(`stale read at ${offset}`);
      } else {
        await this.#backend.pwrite(offset, new Uint8Array(bytes).fill(value));
        this.model.fill(value, offset, offset + bytes);
      }
      await clock.turn();
    }
  }
}

const steps = fc.array(
  fc.constantFrom("filter", "unfilter", "snapshot", "undone", "drain", "drainAll", "wait"),
  {
    minLength: 4,
    maxLength: 24,
  },
);

test("filters, snapshots and drains under a busy guest", async () => {
  const body = fc.asyncProperty(steps, async (list) => {
    const made = new TestGraph();
    made.graph.register(cow);
    makeImage("image0", SIZE);
    const first = await made.graph.add({ driver: "cow", "node-name": "image0", backing: null });
    const backend = new BlockBackend(made.graph, "guest");
    await backend.attach(first, guestPermissions);
    const guest = new BusyGuest(made, backend);
    const filters: FilterLease[] = [];
    guest.start();
    let images = 0;
    for (const step of list) {
      const root = backend.node!;
      if (step === "filter") {
        const name = `filter${images}-${filters.length}-${root.name}`.slice(0, 31);
        const align = { align: 512 << (filters.length % 4) };
        filters.push(
          await made.graph.insertFilter(
            { driver: "blkdebug", image: root.name, "node-name": name, ...align },
            root,
          ),
        );
      } else if (step === "unfilter") {
        const filter = filters.pop();
        await filter?.end();
      } else if (step === "snapshot" || step === "undone") {
        images += 1;
        const overlay = `image${images}`;
        makeImage(overlay, SIZE);
        await made.graph.add({ driver: "cow", "node-name": overlay, backing: null });
        const undone = step === "undone";
        await drained(undone ? made.graph.nodes : [], async () => {
          const change = await prepareSnapshot(made.graph, { node: "guest", overlay });
          await made.host.clock.turn();
          await (undone ? change.abort() : change.commit());
        });
        if (undone) await made.graph.remove(overlay);
      } else if (step === "drain") {
        await drained([skipFilters(root)], () => made.host.clock.turn());
      } else if (step === "drainAll") await made.graph.drainAll();
      else await made.host.clock.idle();
    }
    await guest.stop();
    const whole = new Uint8Array(SIZE);
    await backend.pread(0, whole);
    expect(same(whole, guest.model)).toBe(true);
    for (const node of made.graph.nodes) expect([node.quiesceCounter, node.inFlight]).toEqual([0, 0]);
    for (const filter of filters.toReversed()) await filter.end();
    await backend.close();
    await made.graph.close();
    expect(made.graph.nodes).toEqual([]);
    expect(made.graph.arena.inUse).toBe(0);
  });
  await fc.assert(body, { seed: 11, numRuns: 25 });
});
