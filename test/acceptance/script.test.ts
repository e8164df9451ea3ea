// The script for pages without modules, as it is built, in headless Chromium: from the page's own host and from another one, whose
// workers no page may start by their address.
import { readFileSync } from "node:fs";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";
import type { Browser } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BlockwrightScript } from "../../src/script.ts";
import { root } from "../support/root.ts";
import { newPage, startChromium } from "../support/pages.ts";

const MiB = 1024 * 1024;
/** What the server's disk holds at each 512 bytes: the number of the sector. */
const image = Buffer.alloc(4 * MiB);
for (let sector = 0; sector < image.length / 512; sector++) image.writeUInt32LE(sector, sector * 512);

let browser: Browser;
let servers: Server[];

/** A host of the build, with a page that has the script of `library` in it, and nothing else. */
async function host(library: () => string): Promise<Server> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    response.setHeader("Access-Control-Allow-Origin", "*");
    if (pathname === "/")
      return void response
        .writeHead(200, { "content-type": "text/html" })
        .end(`<!doctype html><script src="${library()}/script.js"></script>`);
    if (pathname === "/disk.img") {
      const [, from = "0", to = "0"] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
      const range = `bytes ${from}-${to}/${image.length}`;
      const part = image.subarray(Number(from), Number(to) + 1);
      return void response.writeHead(206, { etag: '"1"', "content-range": range }).end(part);
    }
    try {
      const body = readFileSync(join(root, "build", normalize(pathname)));
      response.writeHead(200, { "content-type": "text/javascript" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return server;
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  browser = await startChromium();
  const library = await host(() => "");
  servers = [library, await host(() => urlOf(library))];
});

afterAll(async () => {
  await browser?.close();
  for (const server of servers ?? []) {
    server.closeAllConnections();
    server.close();
  }
});

describe.each(["its own host", "another host"])("a script tag from %s", (where) => {
  const url = (): string => urlOf(servers[where === "another host" ? 1 : 0]!);

  it("sets a global, whose functions can be called at once", async () => {
    const page = await newPage(browser);
    await page.goto(url());
    const told = await page.evaluate(async () => {
      const { Blockwright } = globalThis as unknown as { Blockwright: BlockwrightScript };
      const before = typeof Blockwright.openGuestDisk;
      const disk = await Blockwright.openNode({ driver: "memory", size: 4096 });
      await disk.write(0, new Uint8Array([1, 2, 3]));
      const bytes = [...(await disk.read(0, 4))];
      const refused = await Blockwright.openNode({ driver: "none" } as never).then(
        () => "opened",
        (error: unknown) => String(error),
      );
      const all = await Blockwright.ready;
      return {
        before,
        bytes,
        refused,
        isWhole: Object.keys(all).every((name) => name in Blockwright),
        version: Blockwright.version,
      };
    });
    expect(told).toMatchObject({ before: "function", bytes: [1, 2, 3, 0], isWhole: true });
    expect(told.refused).toContain("none");
    expect(told.version).toMatch(/^\d+\.\d+\.\d+/);
    await page.close();
  });

  it("starts both of the library's workers", async () => {
    const page = await newPage(browser);
    await page.goto(url());
    const told = await page.evaluate(async () => {
      const { Blockwright } = globalThis as unknown as { Blockwright: BlockwrightScript };
      const engine = await Blockwright.connectWorker();
      const { status } = await engine.qmp.execute("query-status");
      await engine.close();
      const disk = await Blockwright.openGuestDisk({ url: "disk.img", name: "script-tag" });
      // What the disk needs of an emulator.
      const [run, none] = [(): void => undefined, (): void => undefined];
      disk.attach({ run, stop: run, add_listener: none, remove_listener: none });
      const sector = await new Promise<number>((resolve) => {
        disk.hda.get(512 * 1000, 512, (data) => resolve(data[0]! + 256 * data[1]!));
      });
      await disk.remove();
      return { status, sector };
    });
    expect(told).toEqual({ status: "running", sector: 1000 });
    await page.close();
  });
});
