// serveHttp(): a disk over HTTP, read by fetch and by our own driver; nobody writes to it meanwhile.
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Engine, createEngine, openNode, serveHttp } from "../../../src/node.ts";

const MiB = 2 ** 20;
const ADDRESS = "127.0.0.1:0";
let engine: Engine;

beforeEach(() => {
  engine = createEngine();
});

afterEach(() => engine.close());

async function filled() {
  const disk = await openNode({ driver: "memory", size: 4 * MiB }, { engine });
  for (let at = 0; at < 4; at += 1) await disk.write(at * MiB, new Uint8Array(MiB).fill(at + 1));
  return disk;
}

test("is read whole, in parts, and through the http driver", async () => {
  const disk = await filled();
  const service = await serveHttp(disk, { address: ADDRESS, name: "a disk", etag: "v1" });
  expect(service.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/a%20disk$/);
  const head = await fetch(service.url, { method: "HEAD" });
  expect([head.status, head.headers.get("etag"), head.headers.get("content-length")]).toEqual([
    200,
    '"v1"',
    "4194304",
  ]);
  const part = await fetch(service.url, { headers: { range: "bytes=1048575-1048576" } });
  expect([part.status, [...new Uint8Array(await part.arrayBuffer())]]).toEqual([206, [1, 2]]);
  const whole = new Uint8Array(await (await fetch(service.url)).arrayBuffer());
  expect(Buffer.compare(whole, await disk.read(0, 4 * MiB))).toBe(0);
  await using other = createEngine();
  const seen = await openNode(service.url, { engine: other });
  expect(await seen.read(2 * MiB - 1, 2)).toEqual(Uint8Array.of(2, 3));
  await service.close();
  await expect(fetch(service.url)).rejects.toThrow();
});

test("nobody writes while it is served, and it is not served while somebody may write", async () => {
  const disk = await filled();
  const service = await serveHttp(disk, { address: ADDRESS });
  await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: "EPERM" });
  await service.close();
  await disk.write(0, new Uint8Array(512));
  const writer = await openNode(disk.name, { engine }).catch(() => undefined);
  await writer?.close();
  await using again = await serveHttp(disk, { address: ADDRESS });
  expect((await fetch(again.url, { headers: { range: "bytes=0-0" } })).status).toBe(206);
});

test("a part that can't be read ends the connection, so that nobody takes it for the whole", async () => {
  const faults = { event: "none", errno: 5, sector: 4096 } as const;
  const disk = await openNode(
    {
      driver: "blkdebug",
      image: { driver: "raw", file: { driver: "memory", size: 4 * MiB } },
      "inject-error": [faults],
    },
    { engine },
  );
  const service = await serveHttp(disk, { address: ADDRESS });
  await expect((await fetch(service.url)).arrayBuffer()).rejects.toThrow();
  expect((await fetch(service.url, { headers: { range: "bytes=0-511" } })).status).toBe(206);
  await service.close();
});

test("refuses what would not do, and leaves the disk as it was", async () => {
  const disk = await filled();
  for (const address of ["somewhere", "host:99999", "unix:/tmp/x"])
    await expect(serveHttp(disk, { address })).rejects.toThrow(
      `'${address}' is no address to listen on: HOST:PORT`,
    );
  await expect(serveHttp(disk, { address: "0.0.0.0:0" })).rejects.toMatchObject({ code: "EPERM" });
  await expect(serveHttp(disk, { address: ADDRESS, etag: 'a "b"' })).rejects.toThrow("is no entity tag");
  const first = await serveHttp(disk, { address: ADDRESS });
  const { port } = new URL(first.url);
  await expect(serveHttp(disk, { address: `127.0.0.1:${port}` })).rejects.toMatchObject({
    code: "EADDRINUSE",
  });
  await first.close();
  await disk.write(0, new Uint8Array(512));
});
