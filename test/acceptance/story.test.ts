// A guest of v86 in Chromium boots over HTTP while its overlay is filled, loses the network, gets it back, writes
// meanwhile, is reloaded and boots offline.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ImageServer } from "../support/image-server.ts";
import { guestChecksum, guestPattern } from "../support/v86/monitor-guest.ts";
import { monitorSector } from "../support/v86/node.ts";
import { AppServer } from "./support/app.ts";
import { Browser, Profile, type Tab } from "./support/browser.ts";
import { diskImage } from "./support/image.ts";

const MiB = 1024 * 1024;
const SIZE = 16 * MiB;

let app: AppServer;
let server: ImageServer;
let profile: Profile;
let browser: Browser;
/** What the disk holds: the image with the guest's writes. */
const expected = diskImage(SIZE);
const image = expected.slice();

beforeAll(async () => {
  expected.set(monitorSector());
  image.set(monitorSector());
  app = await AppServer.start();
  server = await ImageServer.start(image);
  profile = new Profile();
  browser = await Browser.start(profile);
});

afterAll(async () => {
  await browser?.kill();
  profile?.remove();
  await server?.stop();
  app?.stop();
});

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function write(tab: Tab, lba: number, seed: number, count: number): Promise<void> {
  const data = guestPattern(seed, count * 512);
  expect(await tab.call("guestWrite", lba, seed, count)).toEqual({
    status: 0,
    checksum: guestChecksum(data),
  });
  expected.set(data, lba * 512);
}

/** Lets the guest read, and compares. */
async function read(tab: Tab, lba: number, count: number): Promise<void> {
  const data = expected.subarray(lba * 512, (lba + count) * 512);
  expect(await tab.call("guestRead", lba, count)).toEqual({ status: 0, checksum: guestChecksum(data) });
}

test("boot over HTTP, fill, lose the network, stop, go on, finish; reload offline", async () => {
  const base = { url: server.url, size: SIZE };
  let tab = await browser.open(app.origin);
  await tab.call("create", base);
  expect(await tab.call("open", base)).toBe(false);

  // 1. The guest boots while the overlay is filled.
  await tab.call("fill", { speed: 3 * MiB, onError: "stop" });
  await tab.call("boot", {});
  await write(tab, 100, 1, 16);
  await read(tab, SIZE / 512 - 64, 32);
  await write(tab, SIZE / 512 - 64, 2, 5);
  const filling = await tab.until("under way", ({ job }) => job!.offset >= 2 * MiB);
  expect(filling.job).toMatchObject({ status: "running", ioStatus: "ok" });

  // 2. The server dies: the job pauses, the guest ticks on.
  await server.stop();
  const paused = await tab.until("paused", ({ job }) => job?.status === "paused");
  expect(paused.job).toMatchObject({ ioStatus: "failed", error: undefined });
  expect(paused.job!.offset).toBeLessThan(SIZE);
  await write(tab, 200, 3, 8);
  const ticks = paused.guest.ticks + 10;
  const ticking = await tab.until("ticking", ({ guest }) => guest.ticks >= ticks);
  expect(ticking.guest).toMatchObject({ errors: 0, runs: true });
  expect(ticking.machine).toBe("running");

  // 3. The guest reads what is not there: it stops, and knows nothing of it.
  const missing = SIZE / 512 - 4096;
  const answer = read(tab, missing, 64);
  const stopped = await tab.until("stopped", ({ guest }) => !guest.runs, 20_000);
  expect(stopped.machine).toBe("io-error");
  expect(stopped.events.slice(-2)).toEqual(["BLOCK_IO_ERROR read stop", "STOP"]);

  // 4. The server is back: both go on.
  await server.listen();
  await tab.call("cont");
  await answer;
  await tab.call("resumeJob");
  const resumed = await tab.until("running", ({ guest }) => guest.runs);
  expect(resumed.guest.errors).toBe(0);
  await write(tab, missing, 4, 3);
  const done = await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(done.job).toMatchObject({ error: undefined, offset: SIZE });
  expect(done.guest.errors).toBe(0);

  // 5. The overlay is the source with the guest's writes; so is the exported file.
  expect(await tab.call("digest")).toBe(sha256(expected));
  await tab.call("upload", "file", "/export.qcow2");
  compare(app.take("/export.qcow2"));

  // 6. Reload with the server down.
  await tab.call("close");
  await server.stop();
  server.seen.length = 0;
  await tab.page.reload();
  await tab.page.waitForFunction(() => typeof globalThis.call === "function");
  expect(await tab.call("open", base)).toBe(true);
  await tab.call("boot", {});
  await read(tab, missing, 64);
  await read(tab, 96, 64);
  expect(await tab.call("digest")).toBe(sha256(expected));
  expect(server.seen).toEqual([]);

  // 10. A second tab does not get the disk.
  const second = await browser.open(app.origin);
  await expect(second.call("open", base)).rejects.toThrow("it is already open, in another tab or worker");
  await read(tab, 0, 8);
  await second.page.close();
});

/** Holds an exported image against qemu-img. */
function compare(file: Uint8Array): void {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-acceptance-"));
  try {
    const [qcow2, raw] = [join(folder, "export.qcow2"), join(folder, "expected.raw")];
    writeFileSync(qcow2, file);
    writeFileSync(raw, expected);
    execFileSync("qemu-img", ["check", "-f", "qcow2", qcow2]);
    const words = execFileSync("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", qcow2, raw], {
      encoding: "utf8",
    });
    expect(words).toContain("Images are identical");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
