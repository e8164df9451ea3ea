// The demo page as `npm run demo` serves it, in headless Chromium: the guest boots, the stream fills, the network is cut and
// mended, room ends and comes back, a reload works offline, and the exported disk is the source and what the guest wrote.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, type Page, chromium } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkFaults, must } from "../support/tools.ts";

const MiB = 1024 * 1024;
const MAGIC = 0xb10c0de5;
const SECTOR = 512;
/** Where the guest keeps its state. */
const STATE = 16;
const PATIENCE = { timeout: 20_000, interval: 100 };
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let server: ChildProcess;
let url: string;
/** The disk as the server has it. */
let source: Buffer;
let browser: Browser;
let page: Page;
let folder: string;
const faults: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-demo-test-"));
  [server, url] = await serve();
  source = Buffer.from(await (await fetch(`${url}disk.img`)).arrayBuffer());
  expect(source.length).toBe(16 * MiB);
  browser = await chromium.launch({
    executablePath: process.env["BLOCKWRIGHT_CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
  });
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, acceptDownloads: true });
  page.on("pageerror", (error) => faults.push(error.message));
});

afterAll(async () => {
  await browser?.close();
  if (server?.pid) process.kill(-server.pid);
  rmSync(folder, { recursive: true, force: true });
});

/** `npm run demo`, in a process group of its own, and the URL that it prints. */
async function serve(): Promise<[ChildProcess, string]> {
  const words = ["run", "demo", "--", "--skip-build", "--port", "0", "--disk-mib", "16"];
  const cwd = fileURLToPath(new URL("../../", import.meta.url));
  const child = spawn("npm", words, { cwd, detached: true, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    said += chunk.toString();
    const found = /The demo is at (http:\S+)/.exec(said)?.[1];
    if (found) return [child, found];
  }
  throw new Error(`npm run demo ended: ${said}`);
}

/** The guest's screen as text. */
async function screen(): Promise<string> {
  return (await page.locator("#console .text").innerText()).replaceAll("\u00a0", " ");
}

async function numberOf(label: string): Promise<number> {
  return Number(new RegExp(`${label}\\s+(\\d+)`).exec(await screen())?.[1] ?? -1);
}

function text(id: string): Promise<string> {
  return page.locator(`#${id}`).innerText();
}

/** Presses a button by keyboard only. */
async function press(id: string): Promise<void> {
  await page.locator(`#${id}`).focus();
  await page.keyboard.press("Enter");
}

async function boots(count: number): Promise<void> {
  await expect.poll(() => numberOf("Boots of this disk"), PATIENCE).toBe(count);
  await expect.poll(() => text("pill-guest"), PATIENCE).toBe("Guest: running");
}

async function violations(): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { run } = (globalThis as unknown as { axe: { run(): Promise<AxeResult> } }).axe;
    const { violations: found } = await run();
    return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  });
}

interface AxeResult {
  violations: { id: string; nodes: { html: string }[] }[];
}

/** Whether the page fits its width, and every control is large enough to be touched. */
async function fits(): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
}

describe("the demo page", () => {
  it("boots the guest while the stream fills the disk, and both are shown", async () => {
    await page.goto(url);
    await boots(1);
    await page.locator("#speed").selectOption("1048576");
    await expect.poll(() => text("jobs"), PATIENCE).toMatch(/stream: fill[\s\S]*running · \d+ %.*of 16 MiB/);
    await expect.poll(() => numberOf("Sectors read, and true"), PATIENCE).toBeGreaterThan(8);
    expect(await page.locator("#legend li").count()).toBe(6);
  });

  it("has no fault that axe finds, wide and narrow", async () => {
    expect(await violations()).toEqual([]);
    expect(await fits()).toBe(true);
    await page.setViewportSize({ width: 375, height: 812 });
    expect(await fits()).toBe(true);
    expect(await violations()).toEqual([]);
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  it("pauses the job when the room ends, and goes on when there is some", async () => {
    await press("fill-up");
    await expect.poll(() => text("jobs"), PATIENCE).toMatch(/paused, io-status nospace/);
    expect(await text("log")).toMatch(/BLOCK_JOB_ERROR device=fill operation=read action=stop|action=stop/);
    await press("fill-up");
    await resume();
  });

  it("pauses the job and the guest when the network is cut, and both go on when it is mended", async () => {
    await page.locator("#policy").selectOption("stop");
    await expect.poll(() => text("jobs"), PATIENCE).toMatch(/running/);
    await press("cut");
    await expect.poll(() => text("jobs"), PATIENCE).toMatch(/paused, io-status failed/);
    await expect.poll(() => text("pill-guest"), PATIENCE).toBe("Guest: stopped");
    await press("cut");
    await resume();
    await press("guest-continue");
    await page.locator("#speed").selectOption("0");
    await expect.poll(() => text("pill-disk"), PATIENCE).toBe("Disk: all here");
    await expect.poll(() => text("log"), PATIENCE).toContain("BLOCK_JOB_COMPLETED");
    await expect.poll(() => text("pill-guest"), PATIENCE).toBe("Guest: running");
    expect(await numberOf("not true")).toBe(0);
    expect(await numberOf("failed")).toBe(0);
  });

  it("keeps what was typed over a reload, with the server down", async () => {
    await page.locator("#type-text").fill("hello from 2026");
    await page.keyboard.press("Enter");
    await expect.poll(screen, PATIENCE).toMatch(/Kept on this disk:\s+hello from 2026/);
    await page.locator("#console").focus();
    await page.keyboard.type("!?");
    await expect.poll(screen, PATIENCE).toMatch(/> !\?/);
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("type-text");
    await press("cut");
    await press("reload");
    await boots(2);
    expect(await screen()).toMatch(/Kept on this disk:\s+hello from 2026/);
    const before = await numberOf("Sectors read, and true");
    await expect.poll(() => numberOf("Sectors read, and true"), PATIENCE).toBeGreaterThan(before + 64);
    expect(await text("pill-disk")).toBe("Disk: all here");
  });

  it.each(["qcow2-compressed", "qcow2", "raw"])("exports the disk as %s", async (choice) => {
    await page.locator("#export-format").selectOption(choice);
    const downloading = page.waitForEvent("download", { timeout: 60_000 });
    await press("export");
    const path = join(folder, choice);
    await (await downloading).saveAs(path);
    const format = choice === "raw" ? "raw" : "qcow2";
    if (format === "qcow2") expect(await checkFaults(path, "refused")).toBeUndefined();
    const plain = join(folder, "plain");
    await must("qemu-img", "convert", "-f", format, "-O", "raw", path, plain);
    const expected = join(folder, "expected");
    writeFileSync(expected, withGuestWrites(readFileSync(plain)));
    expect(await must("qemu-img", "compare", "-f", "raw", "-F", format, expected, path)).toContain(
      "identical",
    );
  });

  it("goes back to a snapshot, and forgets the disk", async () => {
    await press("snapshot");
    await expect.poll(() => page.locator("#revert").isEnabled(), PATIENCE).toBe(true);
    await page.locator("#type-text").fill("later");
    await page.keyboard.press("Enter");
    await expect.poll(screen, PATIENCE).toMatch(/Kept on this disk:\s+later/);
    await press("revert");
    await expect.poll(screen, PATIENCE).toMatch(/Boots of this disk\s+3\b[\s\S]*hello from 2026/);
    await fetch(`${url}network?state=mended`, { method: "POST" });
    await press("start-over");
    await expect.poll(screen, PATIENCE).toMatch(/Boots of this disk\s+1\b/);
    expect(faults).toEqual([]);
  });
});

async function resume(): Promise<void> {
  const button = page.locator("#jobs button", { hasText: "Resume" });
  await button.focus();
  await page.keyboard.press("Enter");
  await expect.poll(() => text("jobs"), PATIENCE).toMatch(/running|^$/);
}

/** The source with those sectors of `disk` that the guest may have written, and what it wrote there. */
function withGuestWrites(disk: Buffer): Buffer {
  const result = Buffer.from(source);
  let written = 0;
  for (let at = 0; at < disk.length; at += SECTOR) {
    const sector = at / SECTOR;
    const now = disk.subarray(at, at + SECTOR);
    if (now.equals(source.subarray(at, at + SECTOR))) continue;
    const wrote = Buffer.alloc(SECTOR);
    for (let word = 0; word < SECTOR; word += 4) wrote.writeUInt32LE((sector ^ MAGIC) >>> 0, word);
    if (sector !== STATE) wrote.copy(result, at);
    else now.copy(result, at);
    written += 1;
  }
  expect(written).toBeGreaterThan(1);
  return result;
}
