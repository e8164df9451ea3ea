// What goes wrong with a disk in a browser: no room, another version of the source, a server that shifts its ranges.
import { expect } from "vitest";
import { createEngine, makeManifest, openNode } from "../../../src/node.ts";
import { Bench, MiB, compareWithQemu, diskImage, sha256 } from "../support/bench.ts";
import type { EngineName } from "../support/browser.ts";

const SIZE = 8 * MiB;

/** The quota is used up: the job waits, the guest goes on; with more room it ends. */
export async function quota(engine: EngineName): Promise<void> {
  await using bench = await Bench.start(diskImage(SIZE), engine);
  const tab = await bench.tab();
  await tab.call("create", bench.base);
  await tab.call("open", bench.base);
  await tab.call("boot", {});
  await bench.browser.setQuota(tab, bench.app.origin, 4 * MiB);
  await tab.call("fill", { onError: "enospc" });
  const paused = await tab.until("paused", ({ job }) => job?.status === "paused");
  expect(paused.job).toMatchObject({ ioStatus: "nospace", error: null });
  expect(paused.job!.offset).toBeLessThan(4 * MiB);
  expect(paused.events).toContain("BLOCK_JOB_ERROR read stop");
  const ticks = paused.guest.ticks + 10;
  const ticking = await tab.until("ticking", ({ guest }) => guest.ticks >= ticks);
  expect(ticking).toMatchObject({ machine: "running", guest: { errors: 0, runs: true } });
  await bench.browser.setQuota(tab, bench.app.origin);
  await tab.call("resumeJob");
  const done = await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(done.job).toMatchObject({ ioStatus: "ok", error: null, offset: SIZE });
  await bench.write(tab, { lba: 4096, seed: 1, count: 8 });
  expect(await tab.call("digest")).toBe(sha256(bench.expected));
}

/** Another version of the source: the job fails, and nothing is mixed. */
export async function staleSource(engine: EngineName): Promise<void> {
  const first = diskImage(SIZE);
  await using bench = await Bench.start(first, engine);
  const { server } = bench;
  const tab = await bench.tab();
  await tab.call("create", bench.base);
  await tab.call("open", bench.base);
  await tab.call("fill", { speed: 2 * MiB, onError: "enospc" });
  await tab.until("under way", ({ job }) => job!.offset >= MiB);
  server.content = diskImage(SIZE, 2);
  server.etag = '"v2"';
  const failed = await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(failed.job?.error).toBe("Stale file handle");
  expect(failed.job!.offset).toBeLessThan(SIZE);
  const file = await tab.content(bench.app, "file");
  // Whatever the overlay holds is of the first version: over that one it is the first version.
  expect(file.byteLength).toBeGreaterThan(MiB);
  compareWithQemu(file, first, { base: first });
}

/** A server that shifts its ranges is caught by the manifest, and what it sent is not kept. */
export async function shiftedRanges(engine: EngineName): Promise<void> {
  const image = diskImage(SIZE);
  await using bench = await Bench.start(image, engine);
  await using local = createEngine();
  await using source = await openNode({ driver: "memory", buffer: image }, { engine: local });
  const { server } = bench;
  server.files.set("/disk.manifest", await makeManifest(source));
  const base = { ...bench.base, manifest: new URL("/disk.manifest", server.url).href };
  const tab = await bench.tab();
  await tab.call("create", base);
  await tab.call("open", base);
  await tab.call("fill", { speed: 2 * MiB, onError: "stop" });
  await tab.until("under way", ({ job }) => job!.offset >= MiB);
  server.fault = "shift";
  const paused = await tab.until("paused", ({ job }) => job?.status === "paused");
  expect(paused.job).toMatchObject({ ioStatus: "failed" });
  compareWithQemu(await tab.content(bench.app, "file"), image, { base: image });
  server.fault = "none";
  await tab.call("resumeJob");
  const done = await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(done.job?.error).toBeNull();
  expect(await tab.call("digest")).toBe(sha256(image));
}
