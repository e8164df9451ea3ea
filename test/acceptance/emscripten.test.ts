// A C program as Debian's Emscripten compiles it, without Asyncify: its pread and pwrite go to an 8 GiB qcow2 disk, an overlay in OPFS
// over an image on a server. What it has synced is there after the browser was killed.
import { readdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Browser, Profile, Tab } from "./support/browser.ts";
import { LAST_BLOCK as LAST, cProgramSite } from "./support/c-program.ts";
import { Site } from "./support/site.ts";

const MiB = 1024 * 1024;
let folder: string;

beforeAll(async () => {
  folder = await cProgramSite();
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Opens the page and the disk; the size that the program sees, MiB. */
async function begin(browser: Browser, site: Site): Promise<{ tab: Tab; size: number }> {
  const tab = await Tab.over(await browser.visit(site.url));
  expect(await tab.callOther("open")).toBe("ready");
  return { tab, size: await tab.callOther<number>("mount") };
}

test("pread, pwrite and fsync of an unchanged C program, over a kill", async () => {
  expect(readdirSync(folder)).toContain("program.wasm");
  await using site = await Site.serve(folder, { isIsolated: true });
  const profile = new Profile("chromium");
  let browser = await Browser.start(profile);
  try {
    const { tab, size } = await begin(browser, site);
    expect(size).toBe(8192);
    expect(await tab.callOther("get", 1, 4096)).toBe(0x11 * 4096);
    expect(await tab.callOther("get", LAST, 4096)).toBe(0x22 * 4096);
    expect(await tab.callOther("get", 500_000, 65_536)).toBe(0);
    // Beyond the end: nothing to read, no room to write (ENOSPC of the C library).
    expect(await tab.callOther("get", LAST + 1, 4096)).toBe(0);
    expect(await tab.callOther("put", LAST + 1, 4096, 1)).toBe(-51);
    for (let block = 0; block < 64; block++) {
      const at = (block * 30_011) % LAST;
      expect(await tab.callOther("put", at, 4096, block + 1)).toBe(4096);
    }
    // What it has read or written lately it does not ask for again, unless another has changed the disk.
    for (const value of [0x44, 0x55]) {
      expect(await tab.callOther("change", 30_011 * 4096, value)).toBe("ready");
      expect(await tab.callOther("get", 30_011, 4096)).toBe(value * 4096);
      expect(await tab.callOther("get", 30_011, 4096)).toBe(value * 4096);
    }
    expect(await tab.callOther("put", 30_011, 4096, 2)).toBe(4096);
    expect(await tab.callOther("get", 30_011, 4096)).toBe(2 * 4096);
    expect(await tab.callOther("put", LAST - 15, 61_440, 0x33)).toBe(61_440);
    expect(await tab.callOther("sync_disk")).toBe(0);
    expect(await tab.callOther<number>("heap")).toBeLessThanOrEqual(64 * MiB);
    // What it does not sync may be lost in the kill, block by block, and nothing else with it.
    const unsynced = Array.from({ length: 64 }, (_, index) => 1_000_000 + index * 997);
    for (const at of unsynced) expect(await tab.callOther("put", at, 4096, 0x77)).toBe(4096);
    await browser.kill();

    browser = await Browser.start(profile);
    const { tab: again } = await begin(browser, site);
    for (const at of unsynced) expect([0, 0x77 * 4096]).toContain(await again.callOther("get", at, 4096));
    for (let block = 0; block < 64; block++)
      expect(await again.callOther("get", (block * 30_011) % LAST, 4096)).toBe((block + 1) * 4096);
    expect(await again.callOther("get", LAST - 15, 61_440)).toBe(0x33 * 61_440);
    expect(await again.callOther("get", LAST, 4096)).toBe(0x22 * 4096);
    await again.reload();
    expect(await again.callOther("open")).toBe("ready");
    expect(await again.callOther("mount")).toBe(8192);
    expect(await again.callOther("get", 30_011, 4096)).toBe(2 * 4096);
  } finally {
    await browser.kill();
    profile.remove();
  }
});

test("without shared memory it is refused by name", async () => {
  await using site = await Site.serve(folder);
  const profile = new Profile("chromium");
  const browser = await Browser.start(profile);
  try {
    const tab = await Tab.over(await browser.visit(site.url));
    expect(await tab.callOther("open")).toMatch(/ready|SharedArrayBuffer/);
    await expect(tab.callOther("mount")).rejects.toThrow(
      "without shared memory, which only a cross-origin isolated page has",
    );
  } finally {
    await browser.kill();
    profile.remove();
  }
});
