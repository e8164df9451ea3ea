// A C program as Debian's Emscripten compiles it, without Asyncify: its pread and pwrite go to an 8 GiB qcow2 disk, an overlay in OPFS
// over an image on a server. What it has synced is there after the browser was killed.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../support/root.ts";
import { Browser, Profile, Tab } from "./support/browser.ts";
import { Site } from "./support/site.ts";

const MiB = 1024 * 1024;
const app = join(root, "test", "acceptance", "app");
/** In blocks of 4 KiB: the last one of 8 GiB. */
const LAST = 2 * MiB - 1;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-program-"));
  const run = (program: string, ...words: string[]): void =>
    void execFileSync(program, words, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  copyFileSync(join(app, "disk.c"), join(folder, "disk.c"));
  const settings = ["MODULARIZE=1", "EXPORT_ES6=1", "ENVIRONMENT=worker", "FORCE_FILESYSTEM=1"];
  const runtime = "EXPORTED_RUNTIME_METHODS=FS";
  run(
    "emcc",
    "-O1",
    "--no-entry",
    "disk.c",
    "-o",
    "program.js",
    ...[...settings, runtime].map((one) => `-s${one}`),
  );
  run("qemu-img", "create", "-f", "qcow2", "disk.qcow2", "8G");
  run("qemu-io", "-c", "write -P 0x11 4k 4k", "-c", `write -P 0x22 ${LAST * 4}k 4k`, "disk.qcow2");
  const entryPoints = ["emscripten", "emscripten-engine", "emscripten-program"].map((name) =>
    join(app, `${name}.ts`),
  );
  await build({
    entryPoints,
    bundle: true,
    outdir: folder,
    format: "esm",
    target: "chrome120",
    logLevel: "error",
  });
  writeFileSync(
    join(folder, "index.html"),
    '<title>test</title><script type="module" src="emscripten.js"></script>',
  );
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
    expect(await tab.callOther("put", LAST - 15, 61_440, 0x33)).toBe(61_440);
    expect(await tab.callOther("sync_disk")).toBe(0);
    expect(await tab.callOther<number>("heap")).toBeLessThanOrEqual(64 * MiB);
    await browser.kill();

    browser = await Browser.start(profile);
    const { tab: again } = await begin(browser, site);
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
