// A guest of v86 boots over HTTP while its overlay is filled, loses the network, gets it back, writes
// meanwhile, is reloaded and boots offline.
import { expect } from "vitest";
import { Bench, MiB, compareWithQemu, diskImage, sha256 } from "../support/bench.ts";
import type { EngineName } from "../support/browser.ts";

const SIZE = 16 * MiB;

/** The story of one disk. */
export async function story(engine: EngineName): Promise<void> {
  await using bench = await Bench.start(diskImage(SIZE), engine);
  const { server, base, expected } = bench;
  const tab = await bench.tab();
  await tab.call("create", base);
  expect(await tab.call("open", base)).toBe(false);

  // 1. The guest boots while the overlay is filled.
  await tab.call("fill", { speed: 3 * MiB, onError: "stop" });
  await tab.call("boot", {});
  await bench.write(tab, { lba: 100, seed: 1, count: 16 });
  await bench.read(tab, { lba: SIZE / 512 - 64, count: 32 });
  await bench.write(tab, { lba: SIZE / 512 - 64, seed: 2, count: 5 });
  const filling = await tab.until("under way", ({ job }) => job!.offset >= 2 * MiB);
  expect(filling.job).toMatchObject({ status: "running", ioStatus: "ok" });

  // 2. The server dies: the job pauses, the guest ticks on.
  await server.stop();
  const paused = await tab.until("paused", ({ job }) => job?.status === "paused");
  expect(paused.job).toMatchObject({ ioStatus: "failed", error: null });
  expect(paused.job!.offset).toBeLessThan(SIZE);
  await bench.write(tab, { lba: 200, seed: 3, count: 8 });
  const ticks = paused.guest.ticks + 10;
  const ticking = await tab.until("ticking", ({ guest }) => guest.ticks >= ticks);
  expect(ticking.guest).toMatchObject({ errors: 0, runs: true });
  expect(ticking.machine).toBe("running");

  // 3. The guest reads what is not there: it stops, and knows nothing of it.
  const missing = SIZE / 512 - 4096;
  const answer = bench.read(tab, { lba: missing, count: 64 });
  const stopped = await tab.until("stopped", ({ guest }) => !guest.runs);
  expect(stopped.machine).toBe("io-error");
  expect(stopped.events.slice(-2)).toEqual(["BLOCK_IO_ERROR read stop", "STOP"]);

  // 4. The server is back: both go on.
  await server.listen();
  await tab.call("cont");
  await answer;
  await tab.call("resumeJob");
  const resumed = await tab.until("running", ({ guest }) => guest.runs);
  expect(resumed.guest.errors).toBe(0);
  await bench.write(tab, { lba: missing, seed: 4, count: 3 });
  const done = await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(done.job).toMatchObject({ error: null, offset: SIZE });
  expect(done.guest.errors).toBe(0);

  // 5. The overlay is the source with the guest's writes; so is the exported file.
  expect(await tab.call("digest")).toBe(sha256(expected));
  compareWithQemu(await tab.content(bench.app, "file"), expected);

  // 6. Reload with the server down.
  await tab.call("close");
  await server.stop();
  server.seen.length = 0;
  await tab.reload();
  expect(await tab.call("open", base)).toBe(true);
  await tab.call("boot", {});
  await bench.read(tab, { lba: missing, count: 64 });
  await bench.read(tab, { lba: 96, count: 64 });
  expect(await tab.call("digest")).toBe(sha256(expected));
  expect(server.seen).toEqual([]);

  // 10. A second tab does not get the disk.
  const second = await bench.tab();
  await expect(second.call("open", base)).rejects.toThrow("it is already open, in another tab or worker");
  await bench.read(tab, { lba: 0, count: 8 });
  await second.page.close();
}
