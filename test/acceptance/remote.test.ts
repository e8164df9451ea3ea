// v86 on the page, its disk in an engine in a worker: the same story by messages and QMP.
import { expect, test } from "vitest";
import { Bench, MiB, diskImage, sha256 } from "./support/bench.ts";

const SIZE = 8 * MiB;

test("boot, fill, lose the network, stop, go on, finish, with v86 on the page", async () => {
  await using bench = await Bench.start(diskImage(SIZE));
  const { base, server, expected } = bench;
  const tab = await bench.tab("/remote.html");
  await tab.call("create", base);
  await tab.call("open", base);
  await tab.call("fill", { speed: 2 * MiB, onError: "stop" });
  await tab.call("boot", {});
  await bench.write(tab, { lba: 100, seed: 1, count: 16 });
  await bench.read(tab, { lba: 96, count: 32 });
  await tab.until("under way", ({ job }) => job!.offset >= MiB);

  await server.stop();
  const paused = await tab.until("paused", ({ job }) => job?.status === "paused");
  expect(paused.job).toMatchObject({ ioStatus: "failed" });
  const ticks = paused.guest.ticks + 5;
  await tab.until("ticking", ({ guest }) => guest.ticks >= ticks);
  const missing = SIZE / 512 - 1024;
  const answer = bench.read(tab, { lba: missing, count: 16 });
  const stopped = await tab.until("stopped", ({ guest }) => !guest.runs);
  expect(stopped.machine).toBe("io-error");
  expect(stopped.events).toEqual(["BLOCK_IO_ERROR", "STOP"]);

  await server.listen();
  await tab.call("cont");
  await answer;
  await tab.call("resumeJob");
  await bench.write(tab, { lba: missing + 3, seed: 2, count: 5 });
  const done = await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(done.job).toMatchObject({ error: undefined, offset: SIZE });
  expect(done.guest).toMatchObject({ errors: 0, runs: true });
  expect(sha256(await tab.content(bench.app, "disk"))).toBe(sha256(expected));
});
