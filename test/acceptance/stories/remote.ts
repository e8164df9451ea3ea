// v86 on the page, its disk in an engine in a worker: the same story by messages and QMP.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { guestPattern } from "../../support/v86/monitor-guest.ts";
import { Bench, MiB, compareWithQemu, diskImage, sha256 } from "../support/bench.ts";
import type { EngineName, Tab } from "../support/browser.ts";

const SIZE = 8 * MiB;

/** A saved machine goes on after a reload, unless its disk was written to since. */
export async function savedMachine(engine: EngineName): Promise<void> {
  await using bench = await Bench.start(diskImage(SIZE), engine);
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
}

/** Boot, fill, lose the network, stop, go on, finish, with v86 on the page. */
export async function onThePage(engine: EngineName): Promise<void> {
  await using bench = await Bench.start(diskImage(SIZE), engine);
  await bench.throughALoss(await bench.tab("/remote.html"));
}

/** A guest with a filled disk. */
interface Filled {
  readonly bench: Bench;
  readonly tab: Tab;
}

/** What a guest with a filled disk is given, and what jobs are started by. */
async function fill(bench: Bench): Promise<Tab> {
  const { base } = bench;
  const tab = await bench.tab("/remote.html");
  await tab.call("create", base);
  await tab.call("open", base);
  await tab.call("fill", { speed: 0, onError: "stop" });
  await tab.callOther("boot", {});
  await concluded(tab, "fill");
  return tab;
}

/** Waits until the job is over without an error, and lets it go. */
async function concluded(tab: Tab, id: string): Promise<void> {
  const { job } = await tab.until(`concluded: ${id}`, (state) => state.job?.status === "concluded");
  expect(job).toMatchObject({ error: null });
  await tab.callOther("qmp", "job-dismiss", { id });
}

/** The guest writes in several places, those that the job has passed and those that it has not. */
async function writes(bench: Bench, tab: Tab, seed: number): Promise<void> {
  for (let i = 0; i < 5; i++)
    await bench.write(tab, { lba: 64 + 3001 * i + seed, seed: seed + i, count: 40 });
}

const SLOW = { speed: 4 * MiB, "auto-dismiss": false };

const exports = [{ format: "raw" }, { format: "qcow2" }, { format: "qcow2", compress: true }] as const;

/** A backup has what the guest's disk held when it began. */
async function backup({ bench, tab }: Filled, compress: boolean): Promise<void> {
  await writes(bench, tab, 1);
  const file = { driver: "opfs", filename: `backup-${compress}.qcow2` };
  await tab.callOther("createImage", { driver: "qcow2", file, size: SIZE });
  await tab.callOther("qmp", "blockdev-add", { driver: "qcow2", "node-name": "copy", file });
  const then = bench.expected.slice();
  const job = { device: "disk", target: "copy", "job-id": "copy", sync: "full", compress, ...SLOW };
  await tab.callOther("qmp", "blockdev-backup", job);
  await tab.until("under way", (state) => state.job!.offset > 0);
  await writes(bench, tab, 100);
  await tab.callOther("qmp", "block-job-set-speed", { device: "copy", speed: 0 });
  await concluded(tab, "copy");
  await tab.callOther("qmp", "blockdev-del", { "node-name": "copy" });
  const image = await tab.upload(bench.app, "file", file);
  compareWithQemu(image, then);
  expect(sha256(await tab.content(bench.app, "disk"))).toBe(sha256(bench.expected));
}

/** A mirror to another store follows the guest until it is finished. */
async function mirror({ bench, tab }: Filled): Promise<void> {
  const file = { driver: "indexeddb", filename: "mirror" };
  await tab.callOther("createImage", { driver: "qcow2", file, size: SIZE });
  await tab.callOther("qmp", "blockdev-add", { driver: "qcow2", "node-name": "copy", file });
  const job = { device: "disk", target: "copy", "job-id": "copy", sync: "full", ...SLOW };
  await tab.callOther("qmp", "blockdev-mirror", job);
  await tab.until("under way", (state) => state.job!.offset > 0);
  await writes(bench, tab, 1);
  await tab.callOther("qmp", "block-job-set-speed", { device: "copy", speed: 0 });
  await tab.until("ready", (state) => state.job?.status === "ready");
  await writes(bench, tab, 200);
  const then = bench.expected.slice();
  await tab.callOther("qmp", "block-job-cancel", { device: "copy" });
  await concluded(tab, "copy");
  await writes(bench, tab, 300);
  await tab.callOther("qmp", "blockdev-del", { "node-name": "copy" });
  compareWithQemu(await tab.upload(bench.app, "file", file), then);
  expect(sha256(await tab.content(bench.app, "disk"))).toBe(sha256(bench.expected));
}

/** A layer under the running guest is committed while it writes. */
async function layer({ bench, tab }: Filled): Promise<void> {
  const file = { driver: "opfs", filename: "layer.qcow2" };
  await tab.callOther("createImage", { driver: "qcow2", file, size: SIZE });
  await tab.callOther("qmp", "blockdev-add", {
    driver: "qcow2",
    "node-name": "layer",
    file,
    backing: null,
  });
  await tab.callOther("qmp", "blockdev-snapshot", { node: "disk", overlay: "layer" });
  await writes(bench, tab, 1);
  const job = { device: "layer", "job-id": "commit", "base-node": "disk", ...SLOW, speed: MiB / 4 };
  await tab.callOther("qmp", "block-commit", job);
  await writes(bench, tab, 100);
  await tab.callOther("qmp", "block-job-set-speed", { device: "commit", speed: 0 });
  await tab.until("ready", (state) => state.job?.status === "ready");
  await writes(bench, tab, 200);
  await tab.callOther("qmp", "block-job-complete", { device: "commit" });
  await concluded(tab, "commit");
  await writes(bench, tab, 300);
  await tab.callOther("qmp", "blockdev-del", { "node-name": "layer" });
  await bench.read(tab, { lba: 0, count: 127 });
  expect(sha256(await tab.content(bench.app, "disk"))).toBe(sha256(bench.expected));
}

/** An export is the disk of its moment, though the guest writes under it. */
async function exported({ bench, tab }: Filled): Promise<void> {
  for (const [i, options] of exports.entries()) {
    const then = bench.expected.slice();
    const lba = 500 + 5000 * i;
    const bytes = await tab.upload(bench.app, "exported", options, lba);
    for (let n = 0; n < 3; n++) bench.expected.set(guestPattern(77 + n, 9 * 512), (lba + 700 * n) * 512);
    if (options.format === "raw") expect(sha256(bytes)).toBe(sha256(then));
    else compareWithQemu(bytes, then);
  }
  expect(sha256(await tab.content(bench.app, "disk"))).toBe(sha256(bench.expected));
}

/** Jobs behind a guest that writes. */
export function behindWriter(engine: EngineName): void {
  describe("behind a guest that writes", () => {
    let filled: Filled;

    beforeAll(async () => {
      const bench = await Bench.start(diskImage(SIZE), engine);
      filled = { bench, tab: await fill(bench) };
    });

    afterAll(() => filled.bench[Symbol.asyncDispose]());

    test.each([false, true])(
      "a backup (compressed: %s) has what the guest's disk held when it began",
      (compress) => backup(filled, compress),
    );
    test("a mirror to another store follows the guest until it is finished", () => mirror(filled));
    test("a layer under the running guest is committed while it writes", () => layer(filled));
    test("an export is the disk of its moment, though the guest writes under it", () => exported(filled));
  });
}
