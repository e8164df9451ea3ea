// serveNbd(): a disk over NBD in a few words, its clients, and what it refuses. The protocol itself is tested elsewhere.
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Engine, addBitmap, createEngine, enableBitmap, openNode, serveNbd } from "../../../src/node.ts";

const MiB = 2 ** 20;
let folder: string;
let engine: Engine;
let address: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-serve-"));
  address = `unix:${join(folder, "a socket")}`;
  engine = createEngine();
});

afterEach(async () => {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a client in another engine reads and writes by the service's URL", async () => {
  const disk = await openNode({ driver: "memory", size: 8 * MiB }, { engine });
  await disk.write(MiB, new Uint8Array(MiB).fill(7));
  const counts: number[] = [];
  const onClients = (clients: number): void => void counts.push(clients);
  const service = await serveNbd(disk, { address, name: "disk 1", writable: true, onClients });
  expect(service.url).toBe(`nbd+unix:///disk%201?socket=${encodeURIComponent(join(folder, "a socket"))}`);
  expect(statSync(join(folder, "a socket")).mode & 0o777).toBe(0o600);
  const other = createEngine();
  const seen = await openNode(service.url, { engine: other });
  expect(seen.length).toBe(8 * MiB);
  expect(service.clients).toBe(1);
  expect(await seen.read(MiB, 4096)).toEqual(new Uint8Array(4096).fill(7));
  await seen.write(0, new Uint8Array(512).fill(9));
  await other.close();
  await service.close();
  await service.close();
  // Finding the format of a name is a client of its own.
  expect([counts[0], counts.at(-1)]).toEqual([1, 0]);
  expect(await disk.read(0, 512)).toEqual(new Uint8Array(512).fill(9));
  expect(existsSync(join(folder, "a socket"))).toBe(false);
});

test("what is not writable is read, its bitmaps too, and the engine's end ends the service", async () => {
  const disk = await openNode({ driver: "memory", size: MiB }, { engine });
  addBitmap(disk, "b");
  await disk.write(65536, new Uint8Array(512).fill(1));
  enableBitmap(disk, "b", false);
  const service = await serveNbd(disk, { address, bitmaps: ["b"] });
  const path = join(folder, "a socket");
  await using other = createEngine();
  await expect(openNode(service.url, { engine: other })).rejects.toMatchObject({ code: "EACCES" });
  const plain = await openNode(service.url, { engine: other, readOnly: true });
  expect(plain.readOnly).toBe(true);
  const spec = { driver: "nbd", server: { type: "unix", path }, "read-only": true } as const;
  const changed = await openNode({ ...spec, "x-dirty-bitmap": "qemu:dirty-bitmap:b" }, { engine: other });
  expect(await changed.blockStatus(65536, 65536)).toMatchObject({ bytes: 65536, data: false });
  await engine.close();
  await expect(plain.read(0, 512)).rejects.toMatchObject({ code: "EIO" });
});

test("a raw disk in memory reaches all clients whole, long reads among short ones", async () => {
  const memory = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  const place = mkdtempSync(join(memory, "blockwright-serve-"));
  try {
    const bytes = Uint8Array.from({ length: 8 * MiB }, (_none, at) =>
      at >> 20 === 3 ? 0 : (at * 31 + (at >> 9)) % 251,
    );
    writeFileSync(join(place, "disk"), bytes);
    const file = { driver: "file", filename: join(place, "disk") } as const;
    const disk = await openNode({ driver: "raw", file }, { engine });
    const service = await serveNbd(disk, { address });
    const client = async (): Promise<void> => {
      await using other = createEngine({ warnUnflushed: false });
      const seen = await openNode(
        {
          driver: "raw",
          file: { driver: "nbd", server: { type: "unix", path: join(folder, "a socket") } },
          "read-only": true,
        } as const,
        { engine: other },
      );
      const pieces = Array.from({ length: 8 }, (_none, at) => at * MiB);
      const reads = pieces.flatMap((at) => [seen.read(at, MiB), seen.read(at + 512, 4096)]);
      const got = await Promise.all(reads);
      got.forEach((piece, index) => {
        const from = pieces[index >> 1]! + 512 * (index % 2);
        expect(Buffer.compare(piece, bytes.subarray(from, from + piece.byteLength))).toBe(0);
      });
    };
    await Promise.all([client(), client(), client()]);
    await service.close();
  } finally {
    rmSync(place, { recursive: true });
  }
});

test("refusals leave nothing behind: the disk can be served afterwards", async () => {
  const disk = await openNode({ driver: "memory", size: MiB, "read-only": true }, { engine });
  await expect(serveNbd(disk, { address: "somewhere" })).rejects.toThrow(
    "'somewhere' is no address to listen on: unix:PATH, HOST:PORT or ws:HOST:PORT",
  );
  await expect(serveNbd(disk, { address: "0.0.0.0:10809" })).rejects.toMatchObject({ code: "EPERM" });
  await expect(serveNbd(disk, { address, writable: true })).rejects.toThrow(
    "Cannot export read-only node as writable",
  );
  await expect(serveNbd(disk, { address, bitmaps: ["none"] })).rejects.toThrow("Bitmap 'none' is not found");
  await expect(serveNbd(disk, { address, tlsCreds: "none" })).rejects.toThrow(
    "No TLS credentials with id 'none'",
  );
  await expect(serveNbd(disk, { address, port: 1 } as never)).rejects.toThrow("port");
  const service = await serveNbd(disk, { address });
  await service.close();
});
