// Power cuts under the qcow2 driver: whatever set of unflushed 512-byte sectors is lost, at any instant, the image opens,
// every reference is counted (leaks are allowed), and the guest finds what it had flushed, or something it wrote later.
import { expect, test } from "vitest";
import { randomness } from "../support/random.ts";
import { tally } from "../support/tally.ts";
import { Journal } from "./support/journal.ts";
import { freshImage, openJournal, playCuts } from "./support/qcow2-cuts.ts";

const only = process.env["POWERCUT_SEED"];
const seeds = only ? [Number(only)] : Array.from({ length: 24 }, (_, index) => index + 1);
const CUTS = Number(process.env["POWERCUT_CUTS"] ?? 60);
const quickSeeds = only ? seeds : seeds.slice(0, 8);

for (const { seed, quick } of [
  ...seeds.map((seed) => ({ seed, quick: false })),
  ...quickSeeds.map((seed) => ({ seed, quick: true })),
]) {
  test(`power cuts, seed ${seed}${quick ? ", written at once" : ""}`, async () => {
    try {
      await playCuts({ seed, quick, cuts: CUTS });
      tally({ crashStates: CUTS });
    } catch (error) {
      console.error(
        `replay: POWERCUT_SEED=${seed} npx vitest run --project crash test/crash/qcow2-powercut.test.ts`,
      );
      throw error;
    }
  });
}

test("power cuts while the backing link changes leave one of the links, and its data", async () => {
  const random = randomness(99);
  for (const clusterSize of [512, 4096, 65536]) {
    const options = {
      size: 2 ** 20,
      "cluster-size": clusterSize,
      "backing-file": "one.raw",
      "backing-fmt": "raw",
    };
    const journal = new Journal(await freshImage(options), random);
    const { graph, disk, driver } = await openJournal(journal);
    const links = [{ filename: "one.raw" }, { filename: "a/longer/name.qcow2", format: "qcow2" }, null];
    for (const [index, link] of links.entries()) {
      if (index === 0) continue;
      await disk.pwrite(0, new Uint8Array(65536).fill(index));
      await driver.headerBacking.change(link);
    }
    await disk.close();
    await graph.close();
    const names = links.map((link) => link?.filename);
    for (let cut = 0; cut < 400; cut++) {
      const at = random(journal.now);
      const left = await openJournal(new Journal(journal.crash(at, [0, 50, 100][cut % 3]!), random));
      const name = left.driver.headerBacking.filename();
      const sector = new Uint8Array(512);
      await left.disk.pread(0, sector);
      expect(names, `cut at ${at}`).toContain(name);
      // The link that lets go of the old file comes after the data that replaces it.
      expect(sector[0]).toBeGreaterThanOrEqual(names.indexOf(name));
      expect((await left.driver.check()).corruptions).toEqual([]);
      await left.disk.close();
      await left.graph.close();
    }
  }
});
