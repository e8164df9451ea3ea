// An engine that has no synchronous handles in OPFS: the same guest over an overlay in IndexedDB, with v86 on the page and the
// engine in a worker; a reload, and kills while it writes.
import { expect } from "vitest";
import { guestChecksum, guestPattern } from "../../support/v86/monitor-guest.ts";
import { Bench, MiB, compareWithQemu, diskImage, sha256 } from "../support/bench.ts";
import { Browser, type EngineName, type Tab } from "../support/browser.ts";

const SIZE = 8 * MiB;
const PAGE = "/remote.html?store=indexeddb";
const FILE = { driver: "indexeddb", filename: "remote.qcow2" };

/** Boot over HTTP and fill; what the guest writes is there after a reload with the server down, and qemu-img finds it sound. */
export async function storedInIndexedDb(engine: EngineName): Promise<void> {
  await using bench = await Bench.start(diskImage(SIZE), engine);
  const { base, server, expected } = bench;
  const tab = await bench.tab(PAGE);
  const { missing } = await bench.throughALoss(tab);
  // The engine has no byte streams, and the page is not cross-origin isolated.
  expect(sha256(await tab.upload(bench.app, "streamed"))).toBe(sha256(expected));
  expect(await tab.callOther("shared")).toEqual({ isShared: false, first: [...expected.subarray(0, 512)] });

  await server.stop();
  await tab.reload();
  await tab.call("open", base);
  await tab.call("boot", {});
  await bench.read(tab, { lba: missing, count: 16 });
  await bench.read(tab, { lba: 96, count: 32 });
  expect(sha256(await tab.content(bench.app, "disk"))).toBe(sha256(expected));
  // Nothing has it open in the next page.
  await tab.reload();
  compareWithQemu(await tab.upload(bench.app, "file", FILE), expected);
}

/** The guest writes to places in turn until the browser dies; `onAnswer` hears of each write that was answered. */
async function writeUntilDeath(tab: Tab, lba: number, onAnswer: (seed: number) => void): Promise<number> {
  for (let seed = 1; ; seed++) {
    const answer = await tab.call("guestWrite", lba + seed * 16, seed, 8).catch(() => undefined);
    if (!answer) return seed - 1;
    expect(answer.status).toBe(0);
    onAnswer(seed);
  }
}

/** Killed under a fill and writes: every write that was answered is there, and the rest is as it was. */
export async function killedInIndexedDb(engine: EngineName, times: number): Promise<void> {
  const image = diskImage(SIZE);
  await using bench = await Bench.start(image, engine);
  const read = async (tab: Tab, lba: number): Promise<number> =>
    (await tab.call("guestRead", lba, 8)).checksum;
  for (let round = 0; round < times; round++) {
    const first = 1024 + round * 4096;
    const tab = await bench.tab(PAGE);
    if (round === 0) await tab.call("create", bench.base);
    await tab.call("open", bench.base);
    await tab.call("fill", { speed: 64 * 1024, onError: "stop" });
    await tab.call("boot", {});
    let writing: Promise<number> | undefined;
    await new Promise<void>((resolve) => {
      writing = writeUntilDeath(tab, first, (seed) => seed === 5 && resolve());
    });
    await bench.browser.kill();
    const answered = await writing!;
    expect(answered).toBeGreaterThanOrEqual(5);
    bench.browser = await Browser.start(bench.profile);
    const again = await bench.tab(PAGE);
    await again.call("open", bench.base);
    await again.call("boot", {});
    for (let seed = 1; seed <= answered; seed++)
      expect(await read(again, first + seed * 16)).toBe(guestChecksum(guestPattern(seed, 4096)));
    await bench.read(again, { lba: SIZE / 512 - 64, count: 32 });
    await bench.browser.kill();
    bench.browser = await Browser.start(bench.profile);
  }
}
