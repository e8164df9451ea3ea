// Mutated qcow2 images: opening, reading, writing, snapshots, resizing, checking and repairing end, with success or an error
// of images; nothing hangs, takes memory that the image merely claims to need, or opens a file that nobody named. A failing
// seed prints the command that replays it.
import { beforeAll, expect, test } from "vitest";
import { inShard } from "../support/shard.ts";
import { tally } from "../support/tally.ts";
import { HANG_MS } from "../support/until.ts";
import { playMutant } from "./support/mutants.ts";
import { type Template, makeTemplates } from "./support/templates.ts";

const only = process.env["FUZZ_SEED"];
const COUNT = Number(process.env["FUZZ_COUNT"] ?? 3000);
const BATCH = 250;
let templates: Template[];
beforeAll(async () => {
  templates = await makeTemplates();
});

async function playInTime(seed: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${HANG_MS} ms`)), HANG_MS);
  });
  try {
    return await Promise.race([playMutant(templates, seed), late]);
  } catch (error) {
    console.error(`replay: FUZZ_SEED=${seed} npx vitest run --project fuzz test/fuzz/qcow2.test.ts`);
    throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

if (only !== undefined) test(`mutated image ${only}`, () => playInTime(Number(only)));
else {
  const batches = Array.from({ length: Math.ceil(COUNT / BATCH) }, (_, index) => index * BATCH);
  for (const first of inShard(batches)) {
    test(`mutated images ${first} to ${first + BATCH - 1} are survived`, async () => {
      let opened = 0;
      for (let seed = first; seed < first + BATCH; seed++) if (await playInTime(seed)) opened += 1;
      tally({ mutants: BATCH });
      // The damage reaches past the header's checks, and those refuse some.
      expect(opened).toBeGreaterThan(BATCH / 4);
      expect(opened).toBeLessThan(BATCH);
    });
  }
}
