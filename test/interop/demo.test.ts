// The demo page as `npm run demo` serves it, in headless Chromium: the guest boots, the stream fills, the network is cut and
// mended, room ends and comes back, a reload works offline, and the exported disk is the source and what the guest wrote.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { checkFaults, must } from "../support/tools.ts";
import { violations } from "./support/accessible.ts";
import { newPage, startChromium } from "../support/pages.ts";

const MiB = 1024 * 1024;
const MAGIC = 0xb10c0de5;
const SECTOR = 512;
/** Where the guest keeps its state. */
const STATE = 16;

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
  [server, url] = await serve("--no-debian");
  source = Buffer.from(await (await fetch(`${url}disk.img`)).arrayBuffer());
  expect(source.length).toBe(16 * MiB);
  browser = await startChromium();
  page = await newPage(browser, { viewport: { width: 1280, height: 800 }, acceptDownloads: true });
  page.on("pageerror", (error) => faults.push(error.message));
});

afterAll(async () => {
  await browser?.close();
  if (server?.pid) process.kill(-server.pid);
  rmSync(folder, { recursive: true, force: true });
});

/** `npm run demo`, in a process group of its own, and the URL that it prints. */
async function serve(...more: string[]): Promise<[ChildProcess, string]> {
  const words = ["run", "demo", "--", "--skip-build", "--port", "0", "--disk-mib", "16", ...more];
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
  await expect.poll(() => numberOf("Boots of this disk")).toBe(count);
  await expect.poll(() => text("pill-guest")).toBe("Guest: running");
}

/** Whether the page fits its width, and every control is large enough to be touched. */
async function fits(): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
}

/** Whether the map lies within its frame. */
function isMapWhole(): Promise<boolean> {
  return page.evaluate(() => {
    const canvas = document.querySelector("#map")!;
    return canvas.getBoundingClientRect().right <= canvas.parentElement!.getBoundingClientRect().right - 8;
  });
}

describe("the demo page", () => {
  it("boots the guest while the stream fills the disk, and both are shown", async () => {
    await page.goto(url);
    await boots(1);
    await speedOf("stream: fill", "1048576");
    await expect.poll(() => text("jobs")).toMatch(/stream: fill[\s\S]*running · \d+ %.*of 16 MiB/);
    await expect.poll(() => numberOf("Sectors read, and true")).toBeGreaterThan(8);
    expect(await page.locator("#legend li").count()).toBe(6);
  });

  it("has no fault that axe finds, wide and narrow, dark and light", async () => {
    // What follows needs a disk that is not here yet.
    await card("Pause");
    expect(await violations(page)).toEqual([]);
    expect(await fits()).toBe(true);
    await page.setViewportSize({ width: 375, height: 812 });
    expect(await fits()).toBe(true);
    expect(await violations(page)).toEqual([]);
    await page.emulateMedia({ colorScheme: "light" });
    expect(await violations(page)).toEqual([]);
    for (const width of [390, 480, 861, 1000, 1100, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      expect(await fits()).toBe(true);
      await expect.poll(isMapWhole).toBe(true);
    }
    expect(await violations(page)).toEqual([]);
    await page.emulateMedia({ colorScheme: "dark" });
  });

  it("paints the map in the colours of the reader's theme", async () => {
    const ground = (): Promise<string> =>
      page.evaluate(() => {
        const canvas = document.querySelector<HTMLCanvasElement>("#map")!;
        // The gap behind the first cell.
        const cell = canvas.getContext("2d")!.getImageData(0, 0, 60, 1).data;
        return [
          ...new Set(Array.from({ length: 60 }, (_, at) => cell.slice(at * 4, at * 4 + 3).join(","))),
        ].join(" ");
      });
    await page.emulateMedia({ colorScheme: "dark" });
    await expect.poll(ground).toContain("13,19,38");
    await page.emulateMedia({ colorScheme: "light" });
    await expect.poll(ground).toContain("241,244,251");
    await page.emulateMedia({ colorScheme: "dark" });
    await expect.poll(ground).toContain("13,19,38");
  });

  it("says beside a button that can't be pressed why not", async () => {
    expect(await text("revert-why")).toBe("There is no snapshot to go back to yet.");
    await expect.poll(() => text("job-start-why")).toBe("One job at a time: fill is still there.");
    expect(await text("layer-why")).toBe("One job at a time: fill is still there.");
    expect(await page.locator("#job-start").isDisabled()).toBe(true);
    await card("Resume");
  });

  it("pauses the job when the room ends, and goes on by itself when there is some", async () => {
    await press("fill-up");
    await expect.poll(() => text("jobs")).toMatch(/paused, io-status nospace/);
    await expect.poll(() => text("story")).toContain("The stream waits: the storage is full.");
    expect(await text("log")).toMatch(/BLOCK_JOB_ERROR device=fill operation=read action=stop|action=stop/);
    await press("fill-up");
    await expect.poll(() => text("jobs")).toMatch(/stream: fill\s+running/);
  });

  it("begins the stream anew under another policy, and complains of nothing", async () => {
    await page.locator("#speed").selectOption("1048576");
    for (const policy of ["enospc", "stop", "enospc", "stop"]) {
      await page.getByLabel("On an error of stream: fill").selectOption(policy);
      await expect.poll(() => text("jobs")).toMatch(/stream: fill\s+running/);
    }
    expect(await text("trouble")).toBe("");
  });

  it("pauses the job and the guest when the network is cut, says why, and waits for a hand if it is told to", async () => {
    await page.locator("#auto-resume").focus();
    await page.keyboard.press("Space");
    await press("cut");
    await expect.poll(() => text("jobs")).toMatch(/paused, io-status failed/);
    await expect.poll(() => text("pill-guest")).toBe("Guest: stopped");
    await expect.poll(() => text("story")).toMatch(/it wants sector \d+, which is still on the server/);
    expect(await text("story")).toContain('Press "Continue the guest"');
    await press("cut");
    await resume();
    await press("guest-continue");
  });

  it("goes on by itself after a cut, if it is told to", async () => {
    await expect.poll(() => text("pill-guest")).toBe("Guest: running");
    await page.locator("#auto-resume").focus();
    await page.keyboard.press("Space");
    await press("cut");
    await expect.poll(() => text("jobs")).toMatch(/paused, io-status failed/);
    await expect.poll(() => text("pill-guest")).toBe("Guest: stopped");
    await press("cut");
    await expect.poll(() => text("jobs")).toMatch(/stream: fill\s+running/);
    await expect.poll(() => text("pill-guest")).toBe("Guest: running");
    await speedOf("stream: fill", "0");
    await expect.poll(() => text("pill-disk")).toBe("Disk: all here");
    await expect.poll(() => text("log")).toContain("BLOCK_JOB_COMPLETED");
    await expect.poll(() => text("pill-guest")).toBe("Guest: running");
    expect(await numberOf("not true")).toBe(0);
    expect(await numberOf("failed")).toBe(0);
  });

  it("keeps what was typed over a reload, with the server down", async () => {
    await page.locator("#type-text").fill("hello from 2026");
    await page.keyboard.press("Enter");
    await expect.poll(screen).toMatch(/Kept on this disk:\s+hello from 2026/);
    await page.locator("#console").focus();
    await page.keyboard.type("!?");
    await expect.poll(screen).toMatch(/> !\?/);
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("type-text");
    await press("cut");
    await press("reload");
    await boots(2);
    expect(await text("pill-network")).toBe("Network: cut");
    expect(await text("step-reload")).toBe("Done");
    expect(await screen()).toMatch(/Kept on this disk:\s+hello from 2026/);
    const before = await numberOf("Sectors read, and true");
    await expect.poll(() => numberOf("Sectors read, and true")).toBeGreaterThan(before + 64);
    expect(await text("pill-disk")).toBe("Disk: all here");
  });

  it.each(["qcow2-compressed", "qcow2", "raw"])("exports the disk as %s", async (choice) => {
    await page.locator("#export-format").selectOption(choice);
    const downloading = page.waitForEvent("download");
    await press("export");
    const path = join(folder, choice);
    await (await downloading).saveAs(path);
    await expectDisk(path, choice === "raw" ? "raw" : "qcow2");
  });

  it("copies the disk by a backup, which is paused, slowed down and resumed", async () => {
    await page.locator("#speed").selectOption("1048576");
    await start("backup");
    await expect.poll(() => text("jobs")).toMatch(/backup\s+running · \d+ %.*of 16 MiB/);
    expect(await text("jobs")).toContain("on an error: stop");
    expect(await page.locator("#job-start").isDisabled()).toBe(true);
    await card("Pause");
    await expect.poll(() => text("jobs")).toMatch(/backup\s+paused/);
    await card("Resume");
    await speedOf("backup", "0");
    await expectCopy("backup");
  });

  it("mirrors the disk to another store until the copy is finished", async () => {
    await start("mirror");
    await expect.poll(() => text("jobs")).toMatch(/mirror\s+(running|ready)/);
    await speedOf("mirror", "0");
    await expect.poll(() => text("jobs")).toMatch(/mirror\s+ready/);
    expect(await violations(page)).toEqual([]);
    await card("Finish the copy");
    await expectCopy("mirror");
    await page.getByLabel("Remove the mirror").click();
    await expect.poll(() => text("copies")).not.toContain("mirror");
  });

  it("removes what a cancelled job has made so far", async () => {
    await page.locator("#speed").selectOption("1048576");
    await start("mirror");
    await expect.poll(() => text("jobs")).toMatch(/mirror\s+running/);
    await card("Cancel");
    await expect.poll(() => text("jobs")).toBe("");
    expect(await text("copies")).not.toContain("mirror");
  });

  it("commits a layer that was put on top and survives a reload", async () => {
    await press("layer");
    await expect.poll(() => text("log")).toContain("A layer is on top");
    await page.locator("#type-text").fill("in the layer");
    await page.keyboard.press("Enter");
    await expect.poll(screen).toMatch(/Kept on this disk:\s+in the layer/);
    await press("reload");
    await expect.poll(screen).toMatch(/Kept on this disk:\s+in the layer/);
    await expect.poll(() => text("map-facts")).toContain("a layer over");
    expect(await text("pill-disk")).toBe("Disk: all here");
    await start("commit");
    await expect.poll(() => text("jobs")).toMatch(/commit\s+ready/);
    // The facts of the storage are told anew after the map was looked at again.
    await page.locator("#storage-facts").evaluate((facts) => (facts.textContent = "old"));
    await expect.poll(() => text("storage-facts")).not.toBe("old");
    expect(await text("pill-disk")).toBe("Disk: all here");
    expect(await text("legend")).not.toMatch(/on the server\s*[1-9]/);
    await card("Finish the commit");
    await expect.poll(() => text("log")).toContain("The layer is part of the disk now");
    await expect.poll(() => text("map-facts")).not.toContain("layer");
    await press("reload");
    await expect.poll(screen).toMatch(/Kept on this disk:\s+in the layer/);
    await page.locator("#type-text").fill("hello from 2026");
    await page.keyboard.press("Enter");
    await expect.poll(screen).toMatch(/Kept on this disk:\s+hello from 2026/);
  });

  it("goes back to a snapshot, and forgets the disk", async () => {
    await press("snapshot");
    await expect.poll(() => page.locator("#revert").isEnabled()).toBe(true);
    await page.locator("#type-text").fill("later");
    await page.keyboard.press("Enter");
    await expect.poll(screen).toMatch(/Kept on this disk:\s+later/);
    await press("revert");
    await expect.poll(screen).toMatch(/Boots of this disk\s+5\b[\s\S]*hello from 2026/);
    await fetch(`${url}network?state=mended`, { method: "POST" });
    page.once("dialog", (question) => void question.dismiss());
    await press("start-over");
    expect(await screen()).toMatch(/Boots of this disk\s+5\b/);
    expect(await text("pill-guest")).toBe("Guest: running");
    page.once("dialog", (question) => void question.accept());
    await press("start-over");
    await expect.poll(screen).toMatch(/Boots of this disk\s+1\b/);
    expect(faults).toEqual([]);
  });

  it("offers the tiny guest only, and says why, where Debian's can't be made", async () => {
    expect(await page.locator("#guest-kind option[value=debian]").isDisabled()).toBe(true);
    expect(await text("guest-why")).toBe(
      "Debian's Linux is not offered: the server was started with --no-debian.",
    );
  });
});

test("the demo page boots Debian's kernel, which it makes when it is asked to", async () => {
  const [other, address] = await serve();
  try {
    await page.goto(address);
    await page.locator("#guest-kind").selectOption("debian");
    await expect.poll(() => page.url() === address && screen()).toMatch(/Linux|\[ +\d\.\d+\]/);
    expect(await page.locator("#guest-kind").inputValue()).toBe("debian");
    expect(await fits()).toBe(true);
  } finally {
    process.kill(-other.pid!);
  }
});

function speedOf(job: string, speed: string): Promise<unknown> {
  return page.getByLabel(`Speed of ${job}`).selectOption(speed);
}

/** Starts a job by keyboard. */
async function start(kind: string): Promise<void> {
  await expect.poll(() => page.locator("#job-start").isEnabled()).toBe(true);
  await page.locator("#job-kind").selectOption(kind);
  await press("job-start");
}

/** Presses a button of the one job's card. */
async function card(name: string): Promise<void> {
  const button = page.locator("#jobs button", { hasText: name });
  await button.focus();
  await page.keyboard.press("Enter");
}

/** The copy is listed when its job is over, and what is downloaded is the disk. */
async function expectCopy(kind: string): Promise<void> {
  await expect.poll(() => text("copies")).toContain(kind);
  const downloading = page.waitForEvent("download");
  await page.getByLabel(`Download the ${kind}`).click();
  const path = join(folder, `${kind}.qcow2`);
  await (await downloading).saveAs(path);
  await expectDisk(path, "qcow2");
}

/** An image of the disk: sound, and the source with what the guest wrote. */
async function expectDisk(path: string, format: "raw" | "qcow2"): Promise<void> {
  if (format === "qcow2") expect(await checkFaults(path, "refused")).toBeUndefined();
  const plain = join(folder, "plain");
  await must("qemu-img", "convert", "-f", format, "-O", "raw", path, plain);
  const expected = join(folder, "expected");
  writeFileSync(expected, withGuestWrites(readFileSync(plain)));
  expect(await must("qemu-img", "compare", "-f", "raw", "-F", format, expected, path)).toContain("identical");
}

async function resume(): Promise<void> {
  const button = page.locator("#jobs button", { hasText: "Resume" });
  await button.focus();
  await page.keyboard.press("Enter");
  await expect.poll(() => text("jobs")).toMatch(/running|^$/);
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
