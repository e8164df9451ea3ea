// The daemon's dashboard in headless Chromium, and its metrics: who gets in, a job that ENOSPC stopped is resumed from the page.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { Daemon } from "../support/daemon.ts";
import { parseOpenMetrics } from "../support/open-metrics.ts";
import { must, tool } from "../support/tools.ts";
import { violations } from "./support/accessible.ts";
import { newPage, startChromium } from "../support/pages.ts";

const MiB = 1024 * 1024;

let folder: string;
let daemon: Daemon;
let url: URL;
let browser: Browser;
let page: Page;
const faults: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-dashboard-"));
  await must("qemu-img", "create", "-q", "-f", "qcow2", join(folder, "disk.qcow2"), "64M");
  await must(
    "qemu-io",
    "-f",
    "qcow2",
    "-c",
    "write -P 7 0 8M",
    "-c",
    "write -P 8 32M 4M",
    join(folder, "disk.qcow2"),
  );
  await must("qemu-img", "create", "-q", "-f", "raw", join(folder, "copy.raw"), "64M");
  const full = {
    driver: "raw",
    "node-name": "copy",
    file: {
      driver: "blkdebug",
      "inject-error": [{ event: "none", iotype: "write", errno: 28, sector: (33 * MiB) / 512, once: true }],
      image: { driver: "file", filename: "copy.raw" },
    },
  };
  daemon = await Daemon.start({
    cwd: folder,
    args: [
      ...["--blockdev", "driver=qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2"],
      ...["--blockdev", JSON.stringify(full)],
      ...["--nbd-server", "addr.type=unix,addr.path=nbd.sock"],
      ...["--export", "nbd,id=out,node-name=disk,name=disk"],
      "--dashboard",
    ],
  });
  url = new URL(/dashboard: (\S+)/.exec(daemon.errors)?.[1] ?? "");
  browser = await startChromium();
  page = await newPage(browser, { viewport: { width: 1280, height: 900 } });
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(message.text());
  });
  await page.goto(url.href);
});

afterAll(async () => {
  await browser?.close();
  await daemon?.quit();
  rmSync(folder, { recursive: true, force: true });
});

function metrics(): Promise<Response> {
  return fetch(new URL(`/metrics${url.search}`, url));
}

/** How the server takes a WebSocket: "open", or the status that it is refused with. */
function socket(path: string, headers: Record<string, string> = {}): Promise<string> {
  const target = new URL(path, url);
  target.protocol = "ws:";
  const client = new WebSocket(target.href, { headers });
  return new Promise((resolve) => {
    client.once("open", () => {
      client.terminate();
      resolve("open");
    });
    client.once("error", ({ message }) => resolve(/\d{3}$/.exec(message)?.[0] ?? message));
  });
}

function fits(): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
}

const text = (id: string): Promise<string> => page.locator(`#${id}`).innerText();

/** What a daemon serves that has no uPlot. */
async function saysRatesWithoutPlot(): Promise<void> {
  const plain = await newPage(browser);
  plain.on("pageerror", (error) => faults.push(error.message));
  await plain.route("**/uplot.js", (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
  await plain.goto(url.href);
  await expect.poll(() => plain.locator("#rates-words").innerText()).toMatch(/^Now: slow .*\/s\.$/);
  expect(await plain.locator("#rates").isHidden()).toBe(true);
  expect(faults).toEqual([]);
  await plain.close();
}

describe("who gets in", () => {
  it("is whoever has the token, and no page of another origin", async () => {
    expect((await fetch(new URL("/", url))).status).toBe(401);
    expect((await fetch(new URL("/metrics", url))).status).toBe(401);
    expect((await fetch(url, { method: "POST" })).status).toBe(405);
    expect((await fetch(new URL(`/../package.json${url.search}`, url))).status).toBe(404);
    expect(await socket("/qmp")).toBe("401");
    expect(await socket(`/qmp${url.search}x`)).toBe("401");
    expect(await socket(`/other${url.search}`)).toBe("404");
    expect(await socket(`/qmp${url.search}`, { origin: "http://evil.example" })).toBe("403");
    expect(await socket(`/qmp${url.search}`, { host: "evil.example" })).toBe("421");
    expect(await socket(`/qmp${url.search}`, { origin: url.origin })).toBe("open");
  });

  it("is nobody from other machines without leave", async () => {
    for (const option of ["--dashboard", "--metrics"]) {
      const refused = await tool("node", "build/cli/main.js", "daemon", `${option}=0.0.0.0:0`);
      expect(refused.code).toBe(1);
      expect(refused.output).toContain("--allow-plain-tcp");
    }
  });

  it("does not change what the daemon's other monitors know", async () => {
    const commands = await daemon.execute("query-commands");
    expect(JSON.stringify(commands)).not.toContain("x-blockwright");
  });
});

describe("the page", () => {
  it("shows nodes, disks and exports", async () => {
    await expect.poll(() => text("pill-link")).toBe("Connected");
    await expect.poll(() => text("graph-words")).toBe("5 nodes");
    const map = page.locator('canvas[aria-label^="disk: map of 1024 cells"]');
    await map.waitFor();
    expect(await map.getAttribute("aria-label")).toBe("disk: map of 1024 cells, 832 not allocated, 192 data");
    await expect.poll(() => text("export-rows")).toBe("out\tnbd\tdisk\t0\tthere");
    expect(await text("jobs-none")).toBe("There is no job.");
    expect(faults).toEqual([]);
  });

  it("counts an export's clients", async () => {
    const client = await must(
      "qemu-img",
      "info",
      "--output=json",
      `nbd+unix:///disk?socket=${folder}/nbd.sock`,
    );
    expect(client).toContain('"virtual-size": 67108864');
    const before = parseOpenMetrics(await (await metrics()).text());
    expect(before.get("blockwright_export_clients")?.samples).toEqual([
      { name: "blockwright_export_clients", labels: { export: "out", type: "nbd", node: "disk" }, value: 0 },
    ]);
  });

  it("stays without faults of access where a job has failed, in three widths, dark and light", async () => {
    await daemon.execute("blockdev-mirror", {
      ...{ "job-id": "move", device: "disk", target: "copy", sync: "full" },
      "on-target-error": "enospc",
    });
    const card = page.getByRole("article", { name: "mirror move" });
    await expect.poll(() => card.innerText()).toContain("io-status nospace");
    await expect.poll(() => card.innerText()).toContain("write of copy at 33554432");
    for (const colorScheme of ["dark", "light"] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      for (const width of [1280, 768, 390]) {
        await page.setViewportSize({ width, height: 900 });
        expect(await violations(page)).toEqual([]);
        expect(await fits()).toBe(true);
      }
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  it("shows on the map where it failed, and in the metrics that it is stopped", async () => {
    const map = page.locator('canvas[aria-label^="copy: map of"]');
    await expect.poll(() => map.getAttribute("aria-label")).toMatch(/\d+ failed/);
    const response = await metrics();
    expect(response.headers.get("content-type")).toMatch(/^application\/openmetrics-text; version=1\.0\.0/);
    const families = parseOpenMetrics(await response.text());
    const stopped = families
      .get("blockwright_job_io_status")
      ?.samples.filter(({ value }) => value === 1)
      .map(({ labels }) => labels["blockwright_job_io_status"]);
    expect(stopped).toEqual(["nospace"]);
    const written = families
      .get("blockwright_node_io_bytes")
      ?.samples.find(({ labels }) => labels["node"] === "copy" && labels["operation"] === "write");
    expect(written?.value).toBeGreaterThan(0);
  });

  it("resumes the job by keyboard alone, and ends it", async () => {
    const card = page.getByRole("article", { name: "mirror move" });
    expect(await card.getByRole("button", { name: "Pause" }).count()).toBe(0);
    expect(await card.getByRole("button", { name: "Finalize" }).count()).toBe(0);
    await card.getByRole("button", { name: "Resume mirror move" }).focus();
    await page.keyboard.press("Enter");
    await expect.poll(() => card.innerText()).toContain("ready");
    await card.getByRole("button", { name: "Complete mirror move" }).click();
    await expect.poll(() => text("jobs-none")).toBe("There is no job.");
    await expect.poll(() => text("log")).toContain("BLOCK_JOB_COMPLETED");
    expect(await text("log")).toContain("BLOCK_JOB_ERROR device: move, operation: write, action: stop");
    expect(faults).toEqual([]);
  });

  it("sets a job's speed, pauses it and cancels it", async () => {
    await daemon.execute("blockdev-add", {
      driver: "null-co",
      "node-name": "hole",
      size: 64 * MiB,
      "read-zeroes": false,
    });
    await daemon.execute("blockdev-backup", {
      ...{ "job-id": "slow", device: "disk", target: "hole", sync: "full", speed: 65_536 },
    });
    const card = page.getByRole("article", { name: "backup slow" });
    await card.getByLabel("Speed limit of backup slow").fill("0.5");
    await card.getByRole("button", { name: "Set the speed" }).click();
    await expect
      .poll(async () => JSON.stringify(await daemon.execute("query-block-jobs")))
      .toContain('"speed":524288');
    await expect.poll(() => page.locator("#rates canvas").count()).toBe(1);
    await saysRatesWithoutPlot();
    await card.getByRole("button", { name: "Pause backup slow" }).click();
    await expect.poll(() => card.innerText()).toContain("paused");
    await card.getByRole("button", { name: "Cancel backup slow" }).click();
    await expect.poll(() => text("jobs-none")).toBe("There is no job.");
  });
});

describe("--metrics alone", () => {
  it("serves measurements by the token of a secret, and no page", async () => {
    const alone = await Daemon.start({
      args: [
        ...["--object", "secret,id=t,data=a-token-of-ours-1234"],
        ...["--blockdev", "null-co,node-name=n,size=1048576"],
        ...["--metrics", "127.0.0.1:0,token-secret=t"],
      ],
    });
    try {
      const where = new URL(/metrics: (\S+)/.exec(alone.errors)?.[1] ?? "");
      expect(where.search).toBe("?token=a-token-of-ours-1234");
      const headers = { authorization: "Bearer a-token-of-ours-1234" };
      const families = parseOpenMetrics(await (await fetch(new URL("/metrics", where), { headers })).text());
      expect(families.get("blockwright_node_size_bytes")?.samples[0]?.value).toBe(MiB);
      expect((await fetch(new URL("/", where), { headers })).status).toBe(404);
    } finally {
      await alone.quit();
    }
  });
});
