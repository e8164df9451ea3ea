// The demo page: `npm run demo` builds the library and the page, makes the guest's disk, and serves all of it on this machine
// with Range and ETag. The page can ask the server to cut the connections of the disk, as
// a network does. Nothing is loaded from elsewhere.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./build.mjs";
import { DebianGuest, debianFolder } from "./demo-debian.mjs";
import { buildLibrary, bundle, diskBytes, firmware, makeDisk, page, v86Folder } from "./demo-parts.mjs";

/** @type {Readonly<Record<string, string>>} */
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".map": "application/json",
  ".svg": "image/svg+xml",
  ".md": "text/plain; charset=utf-8",
  ".ts": "text/plain; charset=utf-8",
};

/**
 * A file that the page may have; undefined where there is none.
 *
 * @param {string} path
 * @param {string} bios
 */
function fileFor(path, bios) {
  /** @type {[prefix: string, folder: string][]} */
  const folders = [
    ["/firmware/", bios],
    ["/linux/", debianFolder],
    ["/v86/", v86Folder],
    ["/built/", join(root, "build", "demo")],
    ["/docs/", join(root, "docs")],
    ["/source/", join(root, "src", "dashboard")],
    ["/", join(root, "src", "dashboard")],
  ];
  const [prefix, folder] = folders.find(([start]) => path.startsWith(start)) ?? [];
  if (prefix === undefined || folder === undefined) return undefined;
  const name = normalize(path === "/" ? "index.html" : path.slice(prefix.length));
  const file = join(folder, name);
  return name.startsWith("..") || !existsSync(file) || name === "." ? undefined : file;
}

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 */

/**
 * Answers a request for the disk: whole, a range, 304, 412 or 416.
 *
 * @param {Request} request
 * @param {Response} response
 * @param {{ disk: Buffer, etag: string }} served
 */
function sendDisk(request, response, { disk, etag }) {
  const headers = { "accept-ranges": "bytes", etag, "content-type": "application/octet-stream" };
  const { range } = request.headers;
  const wanted = request.headers["if-match"];
  if (wanted && wanted !== etag) return response.writeHead(412, headers).end();
  const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
  if (!match) {
    response.writeHead(200, { ...headers, "content-length": disk.length });
    return response.end(request.method === "HEAD" ? undefined : disk);
  }
  const from = Number(match[1]);
  const to = Math.min(match[2] === "" ? disk.length : Number(match[2]) + 1, disk.length);
  if (from >= to) return response.writeHead(416, { "content-range": `bytes */${disk.length}` }).end();
  response.writeHead(206, {
    ...headers,
    "content-length": to - from,
    "content-range": `bytes ${from}-${to - 1}/${disk.length}`,
  });
  return response.end(disk.subarray(from, to));
}

/**
 * Tells of the Debian guest; a POST begins to make it.
 *
 * @param {Request} request
 * @param {Response} response
 * @param {DebianGuest} debian
 */
function tellDebian(request, response, debian) {
  if (request.method === "POST") debian.make();
  return sendJson(response, debian.facts());
}

/**
 * Answers with something that is true now only.
 *
 * @param {Response} response
 * @param {object} value
 */
function sendJson(response, value) {
  response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
  return response.end(JSON.stringify(value));
}

/**
 * Builds the page, makes the disk and serves both. Port 0: any that is free.
 *
 * @param {{ port: number, bytes: number, noDebian: boolean }} options
 */
async function startDemo({ port, bytes, noDebian }) {
  const debian = new DebianGuest(noDebian);
  const bios = firmware();
  const disk = makeDisk(bytes);
  const etag = `"${createHash("sha256").update(disk).digest("hex").slice(0, 32)}"`;
  await bundle("build/demo", page);
  /** @type {Set<import("node:net").Socket>} */
  const diskSockets = new Set();
  let isCut = false;
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
    if (pathname === "/disk.img") {
      if (isCut) return request.socket.destroy();
      const { socket } = request;
      if (!diskSockets.has(socket)) socket.once("close", () => diskSockets.delete(socket));
      diskSockets.add(socket);
      return sendDisk(request, response, { disk, etag });
    }
    if (pathname === "/network") {
      if (request.method !== "POST") return sendJson(response, { isCut });
      isCut = searchParams.get("state") === "cut";
      if (isCut) for (const socket of diskSockets) if (socket !== request.socket) socket.destroy();
      return response.writeHead(204).end();
    }
    if (pathname === "/debian") return tellDebian(request, response, debian);
    const file = fileFor(pathname, bios);
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
    return response.end(readFileSync(file));
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(undefined));
  });
  const { port: own } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${own}/` };
}

const options = /** @type {const} */ ({
  port: { type: "string", default: "8086" },
  "disk-mib": { type: "string", default: "64" },
  "skip-build": { type: "boolean", default: false },
  "no-debian": { type: "boolean", default: false },
});

/** The command: `npm run demo -- [--port PORT] [--disk-mib MIB] [--skip-build] [--no-debian]`. */
async function main() {
  const { values } = parseArgs({ options });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Error(`no port: ${values.port}`);
  const bytes = diskBytes(values["disk-mib"]);
  if (!values["skip-build"]) buildLibrary();
  const { url } = await startDemo({ port, bytes, noDebian: values["no-debian"] }).catch(
    (/** @type {NodeJS.ErrnoException} */ error) => {
      if (error.code !== "EADDRINUSE") throw error;
      throw new Error(`port ${port} is in use: npm run demo -- --port ${port + 1}`);
    },
  );
  console.log(`The demo is at ${url}  (Ctrl+C ends it)`);
}

try {
  await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
