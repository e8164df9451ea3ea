/**
 * How much a page and its worker grow while a script reads and writes a guest's disk of 64 GiB in headless Chromium, the base over
 * HTTP and the overlay in the private file system, whose profile needs the room of what is written: `npm run bench:guest-memory
 * [-- --mib READ] [--folder DIR] [--only bare]`, a quarter of what is read being written. With `--only bare` a worker fetches, keeps and
 * posts as much with nothing of ours: what the process grows by then is the browser's. A program without asserts.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright";
import { CHROMIUM, CHROMIUM_ARGUMENTS } from "../support/chromium.ts";
import { PageServer, pageScript } from "./support/page-server.ts";
import { benchOptions } from "./support/options.ts";

const MiB = 2 ** 20;
const options = benchOptions({ mebibytes: 8192, pairs: 1 });
const STEP = 256 * MiB;

/** MiB of memory that is a process's own, shared parts by their share. */
function residentMiB(pid: number): number {
  const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(match?.[1] ?? 0) / 1024;
}

await using server = await PageServer.start();
server.diskBytes = 65_536 * MiB;
for (const name of ["guest-memory", "guest-worker", "bare-worker"])
  server.files.set(`/${name}.js`, await pageScript(name));
const html = '<!doctype html><title>memory</title><script type="module" src="/guest-memory.js"></script>';
server.files.set("/", new TextEncoder().encode(html));

const profile = mkdtempSync(join(options.folder ?? tmpdir(), "blockwright-memory-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: CHROMIUM,
  args: CHROMIUM_ARGUMENTS,
});
try {
  const page = await context.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.origin}/${options.only === "bare" ? "?bare" : ""}`);
  await page.waitForFunction(() => typeof globalThis.call === "function");
  const session = await context.browser()!.newBrowserCDPSession();
  const call = (name: string, ...args: number[]): Promise<unknown> =>
    page.evaluate(([what, given]) => globalThis.call(what, given), [name, args] as const);
  const sample = async (): Promise<{ counted: number; resident: number }> => {
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    const resident = processInfo
      .filter(({ type }) => type === "renderer")
      .reduce((sum, { id }) => sum + residentMiB(id), 0);
    return { counted: ((await call("memory")) as number) / MiB, resident };
  };
  await call("open");
  await call("read", 0, 16 * MiB);
  const first = await sample();
  const most = { ...first };
  const step = async (what: string): Promise<void> => {
    const now = await sample();
    most.counted = Math.max(most.counted, now.counted);
    most.resident = Math.max(most.resident, now.resident);
    console.log(`${what}: ${now.counted.toFixed(1)} MiB counted, ${now.resident.toFixed(0)} MiB resident`);
  };
  await step("open, 16 MiB read");
  const writes = options.mebibytes / 4;
  for (let done = 0; done < options.mebibytes; done += STEP / MiB) {
    // All over the disk, every read of its own place.
    await call("read", (done * 7 + 1024) * MiB, STEP);
    await step(`${done + STEP / MiB} MiB read`);
  }
  for (let done = 0; done < writes; done += STEP / MiB) {
    await call("write", (done * 24 + 8192) * MiB, STEP);
    await step(`${done + STEP / MiB} MiB written`);
  }
  await call("sync");
  await step("synced");
  const grown = `${(most.counted - first.counted).toFixed(1)} MiB counted, ${(most.resident - first.resident).toFixed(0)} MiB resident`;
  console.log(`page and worker grew by at most ${grown}; goal: 96 MiB`);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
