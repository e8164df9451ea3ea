// What a keeper of checkpoints knows of its target: what was written before a checkpoint that could not be written is in the next one.
import { expect, test } from "vitest";
import { freshState, type CheckpointState } from "../../../src/api/checkpoint/state.ts";
import type { CheckpointFile } from "../../../src/api/checkpoint/file.ts";
import { regionBytes } from "../../../src/api/checkpoint/digests.ts";
import { Keeper } from "../../../src/api/checkpoint/keeper.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { browserHost, openNode, portableDrivers } from "../../../src/browser.ts";
import { createEngine } from "../../../src/index.ts";
import { Bitmap } from "../../../src/kernels/bitmap.ts";
import { KiB, MiB, pattern } from "../support/graph.ts";

test("what was written before a checkpoint that failed is looked at for the next one", async () => {
  const engine = createEngine({ host: browserHost(), drivers: portableDrivers, arenaBytes: 16 * MiB });
  const [length, granularity] = [4 * MiB, 64 * KiB];
  const target = await openNode({ driver: "memory", size: length }, { engine });
  const saved: CheckpointState[] = [];
  let isFull = false;
  const save = (state: CheckpointState): Promise<void> => {
    if (isFull) return Promise.reject(new Error("no room"));
    saved.push(state);
    return Promise.resolve();
  };
  const file = { name: "c", stays: false, save } as unknown as CheckpointFile;
  const region = regionBytes(length, granularity);
  const tables = { sources: [], targets: [], disks: [], work: {}, length, granularity, region };
  const state = freshState({ kind: "mirror", ...tables });
  const node = target.blockNode;
  const keeper = new Keeper({ engine, file, state, roots: { reads: [node], writes: node } });
  const permissions = { perm: Perm.consistentRead, shared: Perm.all };
  await engine.graph.withRoot(node, permissions, async (written) => {
    const job = { written, offset: 0, hasFailed: false, giveUp: () => undefined };
    const outstanding = (): Bitmap => new Bitmap(length, granularity, engine.graph.kernels);
    const turn = (offset: number): Promise<void> => keeper.reached({ ...job, offset, outstanding });
    await turn(2 * MiB);
    await target.write(0, pattern(4096, 1));
    isFull = true;
    await turn(4 * MiB);
    isFull = false;
    await turn(6 * MiB);
    await keeper.workEnded({ ...job, offset: 6 * MiB, outstanding });
  });
  expect(saved).toHaveLength(3);
  expect(saved[1]!.digests[0]).not.toBe(saved[0]!.digests[0]);
  expect(saved[1]!.digests[1]).toBe(saved[0]!.digests[1]);
  await engine.close();
});
