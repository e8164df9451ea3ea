// docs/BROWSER.md as a new user follows it: the packed package in an empty folder, its commands and scripts as they stand,
// real v86 in headless Chromium; then a reload, and what the guest wrote is there. With a bundler under the policy that the page tells, and
// without one on an isolated page.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright";
import { afterAll, beforeAll, expect, it } from "vitest";
import { must } from "../support/tools.ts";
import { guestChecksum, guestPattern } from "../support/v86/monitor-guest.ts";
import { firmware, monitorSector } from "../support/v86/node.ts";
import { runnable, runnableNames } from "../tidy/docs.ts";
import { readText } from "../tidy/source.ts";
import { newPage, startChromium } from "../support/pages.ts";

const MiB = 1024 * 1024;
const PAGE = "docs/BROWSER.md";
const root = fileURLToPath(new URL("../../", import.meta.url));

/** What the test adds to the page: it speaks to the guest over its serial port, and takes the exported image. */
const HOOKS = `
globalThis.serial = [];
emulator.add_listener("serial0-output-byte", (byte) => serial.push(byte));
Object.assign(globalThis, { disk, emulator, image });
`;

let folder: string;
let server: Server;
let browser: Browser;

/** The policy as the page tells it. */
function policy(): string {
  const [, told = ""] = /^\*\*Content security policy\*\*: `([^`]+)`/m.exec(readText(PAGE)) ?? [];
  expect(told).toContain("script-src");
  return told;
}

/** Answers the files of a folder, with Range for all of them. */
function serve(publicFolder: string, more: Record<string, string>): Promise<Server> {
  const types: Record<string, string> = {
    html: "text/html",
    js: "text/javascript",
    mjs: "text/javascript",
    wasm: "application/wasm",
  };
  const made = createServer((request, response) => {
    const name = request.url === "/" ? "index.html" : (request.url ?? "").slice(1);
    const path = join(publicFolder, name);
    if (!/^[\w./-]+$/.test(name) || !existsSync(path)) return void response.writeHead(404).end();
    const body = readFileSync(path);
    const headers = {
      ...more,
      "content-type": types[name.split(".").at(-1) ?? ""] ?? "application/octet-stream",
      etag: '"1"',
    };
    const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    if (!match) return void response.writeHead(200, { ...headers, "content-length": body.length }).end(body);
    const part = body.subarray(Number(match[1]), match[2] ? Number(match[2]) + 1 : undefined);
    const range = `bytes ${match[1]}-${Number(match[1]) + part.length - 1}/${body.length}`;
    response.writeHead(206, { ...headers, "content-length": part.length, "content-range": range }).end(part);
  });
  return new Promise((resolve) => made.listen(0, "127.0.0.1", () => resolve(made)));
}

function shell(name: string): void {
  execFileSync("sh", ["-ec", runnable(PAGE, name)], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
}

/** Puts the page into a folder, with the disk and the firmware. */
function fill(target: string, html: string): void {
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, "index.html"), html);
  copyFileSync(firmware.bios, join(target, "bios.bin"));
  copyFileSync(firmware.vga, join(target, "vgabios.bin"));
  const disk = new Uint8Array(4 * MiB);
  disk.set(monitorSector());
  disk.set(guestPattern(5, 8 * 512), 4096 * 512);
  writeFileSync(join(target, "disk.img"), disk);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-user-"));
  execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], { cwd: root });
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  shell("install");
  writeFileSync(join(folder, "main.js"), runnable(PAGE, "guest") + runnable(PAGE, "export") + HOOKS);
  writeFileSync(join(folder, "worker.js"), runnable(PAGE, "worker"));
  shell("bundle");
  const target = join(folder, "public");
  fill(target, runnable(PAGE, "page"));
  server = await serve(target, { "content-security-policy": policy() });
  browser = await startChromium();
});

afterAll(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface PageGlobals {
  serial: number[];
  image: ReadableStream<Uint8Array<ArrayBuffer>>;
  emulator: { serial_send_bytes(port: number, bytes: Uint8Array): void };
  disk: { status: { fill: string; text: string } };
}

/** Lets the guest read or write 8 sectors at `lba`: its status and its checksum. */
async function command(page: Page, op: "R" | "W", lba: number, seed: number): Promise<[number, number]> {
  const bytes = Buffer.alloc(10);
  bytes.write(op);
  bytes[1] = 8;
  bytes.writeUInt32LE(lba, 2);
  bytes.writeUInt32LE(seed, 6);
  const answer = await page.evaluate(
    async ({ sent, letter }) => {
      const { serial, emulator } = globalThis as unknown as PageGlobals;
      serial.length = 0;
      emulator.serial_send_bytes(0, Uint8Array.from(sent));
      for (;;) {
        const at = serial.indexOf(letter);
        if (at >= 0 && serial.length >= at + 6) return serial.slice(at + 1, at + 6);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    { sent: [...bytes], letter: op.toLowerCase().charCodeAt(0) },
  );
  return [answer[0]!, Buffer.from(answer.slice(1)).readUInt32LE(0)];
}

/** Waits until the guest ticks. */
async function booted(page: Page): Promise<void> {
  await page.waitForFunction(() => (globalThis as Partial<PageGlobals>).serial?.includes(46));
}

it("docs/BROWSER.md: from npm install to a guest that persists, in 20 lines", async () => {
  const code = runnable(PAGE, "guest")
    .split("\n")
    .filter((line) => line.trim() !== "");
  expect(code.length).toBeLessThanOrEqual(20);
  const names = ["install", "page", "guest", "worker", "bundle", "export", "importmap"];
  expect(runnableNames(PAGE)).toEqual(names);
  const context = await browser.newContext();
  const page = await newPage(context);
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(error.message));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await page.goto(url);
  await booted(page);
  const source = guestChecksum(guestPattern(5, 8 * 512));
  expect(await command(page, "R", 4096, 0)).toEqual([0, source]);

  const exported = await page.evaluate(async () => {
    const { image } = globalThis as unknown as PageGlobals;
    return [...new Uint8Array(await new Response(image).arrayBuffer())];
  });
  writeFileSync(join(folder, "exported.qcow2"), Uint8Array.from(exported));
  const [from, to] = [join(folder, "public/disk.img"), join(folder, "exported.qcow2")];
  expect(await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", from, to)).toContain("identical");

  const own = guestChecksum(guestPattern(77, 8 * 512));
  expect(await command(page, "W", 6000, 77)).toEqual([0, own]);
  await page.reload();
  await booted(page);
  expect(await command(page, "R", 6000, 0)).toEqual([0, own]);
  expect(await command(page, "R", 4096, 0)).toEqual([0, source]);
  await expect
    .poll(() => page.evaluate(() => (globalThis as unknown as PageGlobals).disk.status.fill))
    .toBe("done");
  expect(await page.textContent("#status")).toBe("All of the disk is here: it works without the network.");

  const second = await newPage(context);
  await second.goto(url);
  await expect.poll(() => second.textContent("#status")).toContain("open in another tab");
  await second.close();

  // All is here: the image on the server is not asked for any more.
  rmSync(join(folder, "public/disk.img"));
  await page.reload();
  await booted(page);
  expect(await command(page, "R", 4096, 0)).toEqual([0, source]);
  expect(faults).toEqual([]);
});

it("docs/BROWSER.md: without a bundler, on an isolated page, mounted twice as React's StrictMode does", async () => {
  const bare = join(folder, "bare");
  fill(bare, runnable(PAGE, "importmap") + runnable(PAGE, "page"));
  for (const name of ["blockwright", "v86"])
    cpSync(join(folder, "node_modules", name, "build"), join(bare, name), { recursive: true });
  copyFileSync(join(bare, "v86/v86.wasm"), join(bare, "v86.wasm"));
  const twice = `const strict = openGuestDisk({ url: "disk.img", name: "guest" });
strict.then((first) => first.close());\n`;
  const script = runnable(PAGE, "guest").replace(/^ *createWorker:.*\n/m, "");
  writeFileSync(
    join(bare, "main.js"),
    script.replace("const disk =", `${twice}const disk =`) + HOOKS.replace(", image", ""),
  );
  const isolation = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  };
  const site = await serve(bare, isolation);
  const context = await browser.newContext();
  try {
    const page = await newPage(context);
    const faults: string[] = [];
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
    await booted(page);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    const own = guestChecksum(guestPattern(78, 8 * 512));
    expect(await command(page, "W", 6000, 78)).toEqual([0, own]);
    await page.reload();
    await booted(page);
    expect(await command(page, "R", 6000, 0)).toEqual([0, own]);
    expect(faults).toEqual([]);
  } finally {
    await context.close();
    site.closeAllConnections();
    site.close();
  }
});
