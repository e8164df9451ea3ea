// The scheduler in virtual time, as it would be with many images and many workers that fail: what is promised holds, no worker is idle
// while there is work, and limits are kept. With the budget `all` it is 100 000 images and 1 000 workers, and tells figures for docs/SCALE.md.
import { expect, it } from "vitest";
import { simulateFleet } from "../../support/fleet-simulation.ts";

const isAll = process.env["BLOCKWRIGHT_TEST_BUDGET"] === "all";

it(
  "copies every image once, whoever dies, as fast as workers and stores allow",
  async () => {
    const images = isAll ? 100_000 : 3000;
    const workers = isAll ? 1000 : 64;
    const told = await simulateFleet({ images, workers, stores: 10, perStore: workers / 8, seed: 17 });
    if (isAll) console.log(JSON.stringify(told, undefined, 1));
    expect({ done: told.done, failed: told.failed, published: told.published }).toEqual({
      done: images - told.poison,
      failed: told.poison,
      published: images - told.poison,
    });
    expect(told.deaths).toBeGreaterThan(0);
    expect(told.mostAtStore).toBeLessThanOrEqual(workers / 8);
    expect(told.movedBytes / told.dataBytes).toBeLessThanOrEqual(1.1);
    // The sum of all work over all workers is the least that it can take; the largest image, or the last attempt at one, may end last.
    expect(told.tookMs).toBeLessThanOrEqual(1.1 * told.leastMs + told.longestMs + 300_000);
  },
  isAll ? 1_200_000 : 60_000,
);
