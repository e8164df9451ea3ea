// What lies in a file in memory goes to a peer without being read here: whole, in its turn, also where the peer is slow or goes away.
import * as fs from "node:fs";
import * as net from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { HostConnection, HostFile, HostListener } from "../../../../src/base/host.ts";
import { isPromise } from "../../../../src/base/answer.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { nodeSockets } from "../../../../src/platform/node/sockets.ts";
import { until } from "../../../support/until.ts";
import { hasNative, pattern } from "./support.ts";

const memory = "/dev/shm";
const TMPFS = 0x01_02_19_94;
const hasMemory = hasNative && fs.existsSync(memory) && fs.statfsSync(memory).type === TMPFS;
const MiB = 2 ** 20;
const data = pattern(4 * MiB);

let directory: string;
let file: HostFile;
let listener: HostListener;
let peer: net.Socket;
let own: HostConnection;

async function accepted({ connections }: HostListener): Promise<HostConnection> {
  for await (const connection of connections) return connection;
  throw new Error("nobody came");
}

/** All that the peer gets until the other side ends. */
async function received(): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of peer) pieces.push(piece as Uint8Array);
  return new Uint8Array(Buffer.concat(pieces));
}

function same(got: Uint8Array, ...parts: readonly Uint8Array[]): void {
  const wanted = Buffer.concat(parts);
  expect(got.byteLength).toBe(wanted.byteLength);
  expect(wanted.equals(got)).toBe(true);
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe.runIf(hasMemory)("a range of a file in memory", () => {
  beforeEach(async () => {
    directory = fs.mkdtempSync(join(memory, "blockwright-test-"));
    fs.writeFileSync(join(directory, "file"), data);
    file = await nodeHost().files.open(join(directory, "file"), { write: false });
    listener = await nodeSockets.listen({ type: "unix", path: join(directory, "s") });
    peer = net.connect({ path: join(directory, "s") });
    own = await accepted(listener);
    own.receive!({ take: () => undefined, end: () => undefined });
  });

  afterEach(async () => {
    peer.destroy();
    await own.close();
    await listener.close();
    await file.close();
    fs.rmSync(directory, { recursive: true });
  });

  it("leaves at once where there is room, behind its head and what was written before", async () => {
    await own.write(bytes("before "));
    expect(own.writeFile!(bytes("head "), { file, offset: 5, bytes: 100_000 })).toBeUndefined();
    await own.write(bytes(" after"));
    const all = received();
    await own.close();
    same(await all, bytes("before head "), data.subarray(5, 100_005), bytes(" after"));
  });

  it("leaves in its turn where the peer is slow; what is written or sent meanwhile comes behind it", async () => {
    const sending = own.writeFile!(bytes("head "), { file, offset: 0, bytes: data.byteLength });
    expect(isPromise(sending)).toBe(true);
    const after = [
      own.write(bytes(" one")),
      own.writeFile!(bytes(" head 2 "), { file, offset: 7, bytes: MiB }),
      own.writeFile!(bytes(" head 3 "), { file, offset: 9, bytes: MiB }),
      own.write(pattern(200_000)),
      own.write(bytes(" two")),
    ];
    expect(after.every(isPromise)).toBe(true);
    const all = received();
    await Promise.all([sending, ...after]);
    await own.close();
    const [second, third] = [data.subarray(7, 7 + MiB), data.subarray(9, 9 + MiB)];
    const firsts = [bytes("head "), data, bytes(" one"), bytes(" head 2 "), second, bytes(" head 3 "), third];
    same(await all, ...firsts, pattern(200_000), bytes(" two"));
  });

  it("is zeroes beyond the file's end", async () => {
    const range = { file, offset: data.byteLength - 1000, bytes: 3 * MiB };
    const all = received();
    await own.writeFile!(bytes("head "), range);
    await own.close();
    same(await all, bytes("head "), data.subarray(-1000), new Uint8Array(3 * MiB - 1000));
  });

  it("fails where the peer goes away, and so does what is written then", async () => {
    const sending = own.writeFile!(bytes("head "), { file, offset: 0, bytes: data.byteLength });
    const behind = own.write(pattern(100_000));
    const [first, second] = [expect(sending).rejects.toThrow(), expect(behind).rejects.toThrow()];
    peer.destroy();
    await first;
    await second;
    await until(
      "nothing is sent any more",
      () => own.writeFile!(bytes("x"), { file, offset: 0, bytes: 1 }) === false,
    );
  });

  it("is for others to read where the file is another host's", () => {
    const none = { file: {} as HostFile, offset: 0, bytes: 100_000 };
    expect(own.writeFile!(bytes("x"), none)).toBe(false);
  });
});
