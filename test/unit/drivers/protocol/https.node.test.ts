// The https driver against a server whose certificate nobody has signed.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type Server, createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openNode } from "../../../../src/node.ts";
import { contentOf } from "../../../support/content.ts";
import { temporaryDirectory } from "../../platform/node/support.ts";

const SIZE = 100_352;
const content = contentOf(SIZE);
const path = temporaryDirectory();
let server: Server;
let url: string;
/** The server's answers are broken off in the middle. */
let isCut = false;

beforeAll(async () => {
  const [key, certificate] = [path("key.pem"), path("certificate.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const out = ["-keyout", key, "-out", certificate];
  execFileSync("openssl", ["req", "-x509", ...kind, ...subject, ...out], { stdio: "ignore" });
  server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) => {
    const [start = 0, last = 0] = /(\d+)-(\d+)/.exec(request.headers.range!)!.slice(1).map(Number);
    const part = content.subarray(start, last + 1);
    const range = `bytes ${start}-${start + part.byteLength - 1}/${SIZE}`;
    response.writeHead(206, { "Content-Range": range, "Content-Length": part.byteLength, ETag: '"v1"' });
    if (!isCut) return void response.end(part);
    response.write(part.subarray(0, 100));
    setTimeout(() => response.destroy(), 20);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/disk.img`;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const spec = { driver: "https", "read-only": true, retries: 0 } as const;

test("its certificate is checked", async () => {
  await expect(openNode({ ...spec, url })).rejects.toMatchObject({ code: "EIO" });
  await expect(openNode({ ...spec, url, sslverify: true })).rejects.toMatchObject({ code: "EIO" });
});

test("sslverify=false does without, and is as strict with answers", async () => {
  await using disk = await openNode({ ...spec, url, sslverify: false });
  expect(disk.length).toBe(SIZE);
  expect(Buffer.from(await disk.read(0, SIZE)).equals(content)).toBe(true);
  isCut = true;
  await using other = await openNode({ ...spec, url, sslverify: false, size: SIZE });
  await expect(other.read(0, 512)).rejects.toMatchObject({ code: "EIO" });
  isCut = false;
  expect(Buffer.from(await other.read(0, 512)).equals(content.subarray(0, 512))).toBe(true);
});
