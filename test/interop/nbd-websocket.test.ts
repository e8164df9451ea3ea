// NBD by WebSocket: a page's guest in headless Chromium runs read-write from a node of a daemon, who gets in and who does not, by TLS
// too, and that a client which speaks nonsense or goes away harms nobody else.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type Server, createServer } from "node:http";
import { get } from "node:https";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createEngine, openNode, serveNbd } from "../../src/node.ts";
import { type Daemon, ours, withDaemon } from "../support/daemon.ts";
import { makeCredentials, makeDisk, said, say, Scratch } from "./support/nbd.ts";
import { newPage, startChromium } from "../support/pages.ts";

const MiB = 1024 * 1024;
const scratch = new Scratch();
const build = fileURLToPath(new URL("../../build/", import.meta.url));
const cli = ours.slice(0, 2);
let site: Server;
let origin: string;

/** The package's own files, as a page on an origin of its own gets them. */
function startSite(): Promise<Server> {
  const types: Record<string, string> = { ".js": "text/javascript", ".wasm": "application/wasm" };
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://x").pathname;
    if (path === "/") return void response.setHeader("content-type", "text/html").end("<!doctype html>");
    try {
      const bytes = readFileSync(`${build}${path.slice(1)}`);
      response.setHeader("content-type", types[extname(path)] ?? "text/plain").end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

beforeAll(async () => {
  site = await startSite();
  origin = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
  await makeCredentials(scratch.path);
});

afterAll(() => {
  site.close();
  scratch.remove();
});

/** The arguments of a daemon with a disk that may be written. */
function daemonArgs(file: string, door: string): string[] {
  return [
    ...["--blockdev", `driver=qcow2,node-name=n,file.driver=file,file.filename=${scratch.at(file)}`],
    ...[`--nbd-websocket=${door}`, "--export", "nbd,id=e,node-name=n,name=disk,writable=on,bitmaps.0=b0"],
  ];
}

/** The name by which clients find the export, as the daemon told it. */
function nameOf(daemon: Daemon): string {
  const [, url = ""] = /nbd-websocket: (\S+)/.exec(daemon.errors) ?? [];
  return url.replace("/?", "/disk?");
}

/** The same as the URL of the WebSocket. */
const socketOf = (name: string): string => name.replace("nbd+", "").replace("/disk?", "/nbd?");

/** How a server takes a WebSocket: "open", or the status that it is refused with. */
function taken(url: string, headers: Record<string, string> = {}): Promise<string> {
  const client = new WebSocket(url, { headers });
  return new Promise((resolve) => {
    client.once("open", () => {
      client.terminate();
      resolve("open");
    });
    client.once("error", ({ message }) => resolve(/\d{3}$/.exec(message)?.[0] ?? message));
  });
}

describe("a page in Chromium", () => {
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    browser = await startChromium();
    page = await newPage(browser);
    await page.goto(origin);
  });

  afterAll(() => browser?.close());

  it("runs a guest from a daemon's node, and what it wrote is in the image", async () => {
    await makeDisk(scratch.at("page.qcow2"));
    const told = await withDaemon({ args: daemonArgs("page.qcow2", `0,origin=${origin}`) }, (daemon) =>
      page.evaluate(`(${RUN_GUEST})(${JSON.stringify(nameOf(daemon))})`),
    );
    expect(told).toEqual({ length: 64 * MiB, before: 5, after: 77, hole: true, dirty: 9 });
    const read = ["-c", "read -P 77 8M 1M", "-c", "read -P 5 1M 3M", "-c", "read -P 0 9M 1M"];
    expect(await said("qemu-io", "-f", "qcow2", ...read, scratch.at("page.qcow2"))).not.toContain("failed");
  });

  it("of another origin gets nothing", async () => {
    await makeDisk(scratch.at("other.qcow2"));
    await withDaemon({ args: daemonArgs("other.qcow2", "0") }, async (daemon) => {
      const open = `import("/browser.js").then(({ openNode }) => openNode(${JSON.stringify(nameOf(daemon))}))`;
      const message = await page.evaluate(`${open}.then(() => "opened", (error) => error.message)`);
      expect(message).toContain("an origin that it does not know");
    });
  });
});

/** In the page, out of the v86 entry: a guest of v86 reads and writes. Out of the browser's: the same disk by its name, and its map. */
const RUN_GUEST = `async (name) => {
  const MiB = 1024 * 1024;
  const { createEngine, nbd, openNode, toV86Disk } = await import("/v86.js");
  const engine = createEngine({ drivers: [nbd] });
  const server = { type: "websocket", url: name.replace("nbd+", "").replace("/disk?", "/nbd?") };
  const node = await openNode(engine, { driver: "nbd", server, export: "disk", "node-name": "disk" });
  const hda = await toV86Disk(node);
  hda.attach({ add_listener() {}, remove_listener() {}, is_running: () => true, run: async () => {}, stop: async () => {} });
  const get = (offset, bytes) => new Promise((resolve) => hda.get(offset, bytes, resolve));
  const before = (await get(MiB, 4096))[17];
  for (let at = 8 * MiB; at < 9 * MiB; at += 65536)
    await new Promise((resolve) => hda.set(at, new Uint8Array(65536).fill(77), resolve));
  const after = (await get(8.5 * MiB, 4096))[5];
  const browser = await import("/browser.js");
  const again = await browser.openNode(name, { readOnly: true });
  let hole = false;
  for await (const { offset, bytes, zero } of again.map()) hole ||= zero && offset <= 9 * MiB && offset + bytes > 9 * MiB;
  const buffer = new Uint8Array(4096);
  await again.read(20 * MiB, buffer);
  const { length } = node;
  await again.close();
  await hda.close();
  await engine.close();
  return { length, before, after, hole, dirty: buffer[0] };
}`;

describe("who gets in", () => {
  it("is whoever has the token, under a name of the server's, and no page of another origin", async () => {
    await makeDisk(scratch.at("door.qcow2"));
    await withDaemon({ args: daemonArgs("door.qcow2", "0,origin=https://page.example") }, async (daemon) => {
      const url = socketOf(nameOf(daemon));
      const bare = url.replace(/\?.*/, "");
      expect(await taken(bare)).toBe("401");
      expect(await taken(`${url}x`)).toBe("401");
      expect(await taken(url.replace("/nbd?", "/other?"))).toBe("404");
      expect(await taken(url, { origin: "https://evil.example" })).toBe("403");
      expect(await taken(url, { host: "evil.example" })).toBe("421");
      expect(await taken(url, { origin: "https://page.example" })).toBe("open");
      expect(await taken(url)).toBe("open");
      const token = /token=(\w+)/.exec(url)![1]!;
      expect(await taken(bare, { authorization: `Bearer ${token}` })).toBe("open");
    });
  });

  it("is nobody from other machines without TLS or leave", async () => {
    for (const args of [
      ["daemon", "--nbd-websocket=0.0.0.0:0"],
      ["nbd", "--websocket=0.0.0.0:0", "-f", "raw", scratch.at("door.qcow2")],
    ]) {
      const { status, stderr } = await say(cli[0]!, [cli[1]!, ...args]);
      expect([status, stderr]).toEqual([1, expect.stringContaining("--allow-plain-tcp")]);
    }
  });
});

describe("a client that speaks nonsense", () => {
  it("is dropped, and the others go on", async () => {
    await makeDisk(scratch.at("bad.qcow2"));
    await withDaemon({ args: daemonArgs("bad.qcow2", "0") }, async (daemon) => {
      const name = nameOf(daemon);
      const engine = createEngine();
      const good = await openNode(name, { engine });
      const ends = ["text, which is bytes all the same", new Uint8Array(4096).fill(0xff), ""].map(
        (what) =>
          new Promise<void>((resolve) => {
            const bad = new WebSocket(socketOf(name));
            bad.once("open", () => (what === "" ? bad.terminate() : bad.send(what)));
            bad.on("close", resolve);
          }),
      );
      await Promise.all(ends);
      await good.write(2 * MiB, new Uint8Array(4096).fill(3));
      const buffer = new Uint8Array(4096);
      await good.read(2 * MiB, buffer);
      expect(buffer[4095]).toBe(3);
      await good.close();
      await engine.close();
    });
  });
});

describe("TLS", () => {
  const creds = (id: string, endpoint: string, verify: string): string[] => [
    "--object",
    `tls-creds-x509,id=${id},endpoint=${endpoint},dir=${scratch.path},verify-peer=${verify}`,
  ];

  it("of the door is wss:, which clients check by the authority that they are given", async () => {
    await makeDisk(scratch.at("tls.qcow2"));
    const args = [...creds("t", "server", "off"), ...daemonArgs("tls.qcow2", "0,tls-creds=t")];
    await withDaemon({ args }, async (daemon) => {
      const name = nameOf(daemon);
      expect(name).toMatch(/^nbd\+wss:/);
      const server = { type: "websocket", url: socketOf(name) };
      const file = { driver: "nbd", server, export: "disk", "tls-creds": "c" };
      const image = JSON.stringify({ driver: "raw", file });
      const io = ["io", ...creds("c", "client", "on"), "-c", "read -P 5 1M 64k"];
      expect(await said(...(cli as [string, string]), ...io, `json:${image}`)).toContain("65536/65536");
      const { status, stderr } = await say(cli[0]!, [cli[1]!, "info", name]);
      expect([status, stderr]).toEqual([1, expect.stringMatching(/certificate|self.signed/i)]);
    });
  });

  it("of the dashboard is https:, its page's WebSocket is of the same origin", async () => {
    const args = [...creds("t", "server", "off"), "--dashboard=0,tls-creds=t"];
    await withDaemon({ args }, async (daemon) => {
      const [, url = ""] = /dashboard: (\S+)/.exec(daemon.errors) ?? [];
      expect(url).toMatch(/^https:/);
      const ca = readFileSync(scratch.at("ca-cert.pem"), "utf8");
      const status = await new Promise((resolve, reject) => {
        get(url, { ca }, (response) => resolve(response.resume().statusCode)).once("error", reject);
      });
      expect(status).toBe(200);
      const target = new URL(url);
      const socket = new WebSocket(`wss://${target.host}/qmp${target.search}`, {
        ca,
        headers: { origin: target.origin },
      });
      const greeting = await new Promise<string>((resolve, reject) => {
        socket.on("message", (data) => resolve(String(data)));
        socket.once("error", reject);
      });
      expect(JSON.parse(greeting)).toHaveProperty("QMP");
      socket.terminate();
    });
  });

  it("takes no shared keys, which browsers have not", async () => {
    const psk = ["--object", `tls-creds-psk,id=t,endpoint=server,dir=${scratch.path}`];
    const { status, stderr } = await say(cli[0]!, [cli[1]!, "daemon", ...psk, "--dashboard=0,tls-creds=t"]);
    expect([status, stderr]).toEqual([1, expect.stringContaining("holds no certificate")]);
  });
});

describe("in programs", () => {
  it("serveNbd() and openNode() find each other, until the service is closed", async () => {
    const engine = createEngine();
    const memory = await openNode({ driver: "memory", size: 4 * MiB }, { engine });
    const service = await serveNbd(memory, { address: "ws:127.0.0.1:0", name: "ä/b", writable: true });
    expect(service.url).toMatch(/^nbd\+ws:\/\/127\.0\.0\.1:\d+\/%C3%A4%2Fb\?token=\w{32}$/);
    const client = createEngine();
    const node = await openNode(service.url, { engine: client });
    const data = new Uint8Array(3 * MiB).map((_byte, at) => at % 251);
    await node.write(MiB, data);
    await node.flush();
    expect(service.clients).toBe(1);
    const buffer = new Uint8Array(3 * MiB);
    await node.read(MiB, buffer);
    expect(Buffer.from(buffer).equals(Buffer.from(data))).toBe(true);
    await service.close();
    await expect(node.read(0, buffer)).rejects.toMatchObject({ code: "EIO" });
    await client.close();
    await engine.close();
  });

  it("a token of one's own is one, or refused", async () => {
    const engine = createEngine();
    const memory = await openNode({ driver: "memory", size: MiB }, { engine });
    const address = "ws:127.0.0.1:0";
    await expect(serveNbd(memory, { address, token: "short" })).rejects.toMatchObject({ code: "EINVAL" });
    const service = await serveNbd(memory, { address, token: "of-my-own-making-1" });
    expect(service.url).toContain("?token=of-my-own-making-1");
    await service.close();
    await engine.close();
  });
});

it("`blockwright nbd --websocket` prints where it is, and ends with its last client", async () => {
  await makeDisk(scratch.at("verb.qcow2"));
  const script = `"${cli[0]}" "${cli[1]}" nbd --websocket -x disk -f qcow2 verb.qcow2 | (read url; "${cli[0]}" "${cli[1]}" io -f raw -c 'write -P 4 50M 1M' "$url"; echo "$url")`;
  const out = execFileSync("/bin/sh", ["-c", script], { cwd: scratch.path, encoding: "utf8" });
  expect(out).toMatch(/wrote 1048576\/1048576[^]*\nnbd\+ws:\/\/127\.0\.0\.1:\d+\/disk\?token=/);
  expect(await said("qemu-io", "-c", "read -P 4 50M 1M", scratch.at("verb.qcow2"))).not.toContain("failed");
});
