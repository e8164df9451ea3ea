// v86 on the page, its disk in an engine in a worker: the same story by messages and QMP.
import { expect, test } from "vitest";
import { Bench, MiB, diskImage, sha256 } from "./support/bench.ts";

const SIZE = 8 * MiB;

test("a saved machine goes on after a reload, unless its disk was written to since", async () => {
  await using bench = await Bench.start(diskImage(SIZE));
  const { base } = bench;
  const tab = await bench.tab("/remote.html");
  const boot = async (isOn: boolean): Promise<void> => {
    await tab.call("open", base);
    await tab.callOther("boot", { isOn });
  };
  const again = async (): Promise<void> => {
    await tab.reload();
    await boot(false);
  };
  await tab.call("create", base);
  await boot(true);
  await bench.write(tab, { lba: 100, seed: 1, count: 16 });
  await tab.callOther("save");

  // No BIOS runs here: the machine goes on where it was, and its disk is the one that it knows.
  await again();
  await tab.callOther("restore");
  await bench.read(tab, { lba: 96, count: 32 });
  await bench.write(tab, { lba: 200, seed: 2, count: 8 });

  const isStale = "was written to since the state was saved";
  await again();
  await expect(tab.callOther("restore")).rejects.toThrow(isStale);
  await tab.callOther("forget");
  await again();
  await expect(tab.callOther("restore")).rejects.toThrow(isStale);
});

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
