// The page of a fleet in headless Chromium, and its OpenMetrics: who gets in, what is shown, a queue that is away for a while.
import { writeFileSync } from "node:fs";
import type { Browser, Page } from "playwright";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { parseOpenMetrics } from "../support/open-metrics.ts";
import { ended, FleetFolder } from "./support/fleet.ts";
import { violations } from "./support/accessible.ts";
import { until } from "../support/until.ts";
import { newPage, startChromium } from "../support/pages.ts";

const MiB = 2 ** 20;
const TOKEN = "a-token-of-the-tests.1";
let folder: FleetFolder;
let browser: Browser;
let page: Page;
const faults: string[] = [];

beforeAll(async () => {
  browser = await startChromium();
});

afterAll(() => browser.close());

beforeEach(async () => {
  folder = new FleetFolder();
  page = await newPage(browser);
  page.on("pageerror", (error) => faults.push(error.message));
});

afterEach(async () => {
  await page.close();
  await folder[Symbol.asyncDispose]();
});

const text = (id: string): Promise<string | null> => page.textContent(`#${id}`);

it("shows a run: what is done, what runs, and why a job failed; nothing without the token", async () => {
  const slow = { sourceFormat: "raw", targetFormat: "qcow2", speedBytesPerSecond: MiB / 4 };
  const source = folder.image("a.raw", 64);
  const list = folder.list([
    {
      id: "<b>lost</b>",
      kind: "convert",
      source: folder.in("none.raw"),
      target: folder.in("none"),
      priority: 2,
    },
    { id: "quick", kind: "verify", source: folder.image("q.raw", 1), priority: 1 },
    { id: "slow", kind: "convert", source, target: folder.in("a.qcow2"), options: slow },
    { id: "later", kind: "verify", source, priority: -1 },
  ]);
  const child = folder.start("run", list, "--workers", "1", "--dashboard", "0");
  await until("the URL", () => folder.said(child).includes("dashboard: "));
  const url = new URL(/dashboard: (\S+)/.exec(folder.said(child))?.[1] ?? "");
  expect(url.hostname).toBe("127.0.0.1");
  for (const path of ["", "fleet.json", "metrics"])
    expect((await fetch(new URL(path, url.origin))).status).toBe(401);
  await page.goto(url.href);
  await expect.poll(() => text("counts")).toContain("1 waiting, 1 running, 1 done, 1 failed");
  expect(await text("running")).toContain("slow");
  expect(await text("queued")).toContain("later");
  // What a job is called is a text, whatever is in it.
  expect(await text("failed")).toContain("<b>lost</b>");
  expect(await text("failed")).toContain("No such file or directory");
  await expect.poll(() => text("counts")).toMatch(/MiB moved, \d.*\/s/);
  expect(await violations(page)).toEqual([]);
  const answer = await fetch(new URL(`metrics${url.search}`, url));
  const jobs = parseOpenMetrics(await answer.text()).get("blockwright_fleet_jobs");
  expect(jobs?.samples.find(({ labels }) => labels["state"] === "running")?.value).toBe(1);
  child.kill("SIGTERM");
  await ended(child);
  await expect.poll(() => text("trouble")).toContain("does not answer");
  expect(faults).toEqual([]);
});

it("shows a queue, and goes on when that has been away", async () => {
  const { url: queue, stop, start } = await folder.redis();
  const list = folder.list([{ id: "a", kind: "verify", source: folder.image("a.raw", 1) }]);
  await folder.fleet("submit", list, "--queue", queue);
  writeFileSync(folder.in("token"), `${TOKEN}\n`);
  const words = ["--queue", queue, "--dashboard", "127.0.0.1:0", "--token-file", folder.in("token")];
  const child = folder.start("status", ...words);
  await until("the URL", () => folder.said(child).includes("dashboard: "));
  const url = new URL(/dashboard: (\S+)/.exec(folder.said(child))?.[1] ?? "");
  expect(url.search).toBe(`?token=${TOKEN}`);
  await page.goto(url.href);
  await expect.poll(() => text("counts")).toContain("1 waiting, 0 running");
  await stop();
  await expect.poll(() => text("trouble")).toContain("the queue does not answer");
  const { status } = await fetch(new URL(`metrics${url.search}`, url));
  expect(status).toBe(503);
  await start();
  await expect.poll(() => text("trouble")).toBe("");
  await ended(folder.start("worker", "--queue", queue, "--idle-exit"));
  await expect.poll(() => text("counts")).toContain("0 waiting, 0 running, 1 done, 0 failed");
  child.kill("SIGINT");
  await ended(child);
  expect(child.exitCode).toBe(130);
});

it.each([
  [["--dashboard", "here"], "is no address to listen on"],
  [["--dashboard", "0", "--token-file", "none"], "--token-file"],
  [["--dashboard", "0", "--token-file", "short"], "holds no token"],
])("refuses %j", async (words, said) => {
  writeFileSync(folder.in("short"), "short\n");
  const list = folder.list([]);
  const at = words.map((word) => (/^(none|short)$/.test(word) ? folder.in(word) : word));
  const { status, stderr } = await folder.fleet("run", list, ...at);
  expect({ status, isSaid: stderr.includes(said) }, stderr).toEqual({ status: 2, isSaid: true });
});
