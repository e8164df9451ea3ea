// The demo as files alone (`npm run demo:static`), as any web host serves it: a service worker plays the cut network.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { root } from "../../support/root.ts";
import { Browser, type EngineName, Profile } from "../support/browser.ts";
import type { DrivenPage } from "../support/driver.ts";
import { Site } from "../support/site.ts";

function textOf(page: DrivenPage, id: string): Promise<string> {
  return page.evaluate((what) => document.querySelector<HTMLElement>(`#${what}`)?.innerText ?? "", id);
}

function press(page: DrivenPage, id: string): Promise<void> {
  return page.evaluate((what) => document.getElementById(what)!.click(), id);
}

/** A number on the guest's screen. */
async function numberOf(page: DrivenPage, label: string): Promise<number> {
  const screen = (await textOf(page, "console")).replaceAll("\u00a0", " ");
  return Number(new RegExp(`${label}\\s+(\\d+)`).exec(screen)?.[1] ?? -1);
}

async function boots(page: DrivenPage, count: number): Promise<void> {
  await expect.poll(() => numberOf(page, "Boots of this disk")).toBe(count);
}

/** Chooses a speed for the stream's card. */
function setSpeed(page: DrivenPage, speed: string): Promise<void> {
  return page.evaluate((value) => {
    const select = document.querySelector<HTMLSelectElement>("[aria-label='Speed of stream: fill']")!;
    select.value = value;
    select.dispatchEvent(new Event("change"));
  }, speed);
}

/** Boot, cut, what is said, mend, all here; reload while cut; forget only when it is confirmed. */
export async function demo(engine: EngineName): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-site-"));
  const profile = new Profile(engine);
  let browser: Browser | undefined;
  try {
    const words = [".ci/demo-static.mjs", folder, "--skip-build", "--disk-mib", "16"];
    execFileSync(process.execPath, words, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
    await using site = await Site.serve(folder);
    browser = await Browser.start(profile);
    const page = await browser.visit(site.url);
    await boots(page, 1);
    await setSpeed(page, "1048576");
    expect(await textOf(page, "story")).toContain("a stream brings the rest of its disk");
    expect(await textOf(page, "guest-why")).toContain("without the demo's server");

    await press(page, "cut");
    await expect.poll(() => textOf(page, "jobs")).toMatch(/paused, io-status failed/);
    await expect.poll(() => textOf(page, "pill-guest")).toBe("Guest: stopped");
    const said = /The guest waits: it wants sector \d+, .*The stream waits: .*It tries again by itself/;
    await expect.poll(() => textOf(page, "story")).toMatch(said);
    await press(page, "cut");
    await expect.poll(() => textOf(page, "pill-guest")).toBe("Guest: running");
    await expect.poll(() => textOf(page, "jobs")).toMatch(/stream: fill\s+running/);
    await setSpeed(page, "0");
    await expect.poll(() => textOf(page, "pill-disk")).toBe("Disk: all here");
    await expect.poll(() => textOf(page, "story")).toContain("needs no server any more");
    expect([await numberOf(page, "not true"), await numberOf(page, "failed")]).toEqual([0, 0]);

    await press(page, "cut");
    await expect.poll(() => textOf(page, "pill-network")).toBe("Network: cut");
    await page.reload();
    await boots(page, 2);
    expect(await textOf(page, "pill-network")).toBe("Network: cut");
    expect(await textOf(page, "step-plug")).toBe("Done");
    expect(await textOf(page, "trouble")).toBe("");
  } finally {
    await browser?.kill();
    profile.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}
