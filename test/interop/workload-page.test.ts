// The page that a run leaves: in headless Chromium its pictures are drawn, tell their values, and ask nothing of the network.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runVerb } from "../support/verb-client.ts";
import { newPage, startChromium } from "../support/pages.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-page-"));
const path = join(folder, "page.html");
const asked: string[] = [];
const faults: string[] = [];
let browser: Browser;
let page: Page;

function workload(...words: string[]): void {
  expect(runVerb(["workload", ...words], { cwd: folder })).toMatchObject({ status: 0, stdout: "" });
}

beforeAll(async () => {
  const load = {
    name: "a <b> & </script>",
    size: "16M",
    workers: [{ mix: { read: 1, write: 1 }, locality: "random", requests: 2000, depth: 4 }],
  };
  writeFileSync(join(folder, "load.json"), JSON.stringify(load));
  for (const device of ["ssd", "cloud"])
    workload("run", "load.json", "--device", device, "-o", `${device}.json`);
  workload("report", "ssd.json", "cloud.json", "-o", "page.html");
  browser = await startChromium();
  page = await newPage(browser, { viewport: { width: 1000, height: 900 } });
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith("data:")) asked.push(request.url());
  });
  await page.goto(pathToFileURL(path).href);
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

it("has uPlot's pictures, the names as they are, and needs nothing else", async () => {
  expect(readFileSync(path).byteLength).toBeLessThan(300 * 1024);
  await expect.poll(() => page.locator("figure.plot canvas").count()).toBe(4);
  expect(await page.locator("h1").textContent()).toBe("a <b> & </script> and a <b> & </script>");
  expect(await page.locator(".u-legend").first().innerText()).toContain("B write");
  expect(asked).toEqual([pathToFileURL(path).href]);
  expect(faults).toEqual([]);
});

it("tells the value under the pointer", async () => {
  const figure = page.locator("figure.plot").first();
  await figure.locator(".u-over").hover({ position: { x: 300, y: 60 } });
  await expect.poll(() => figure.locator(".u-legend").innerText()).toMatch(/A read\s*\d/);
});
