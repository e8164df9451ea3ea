// The s3 driver against a store with conditional requests that fails on demand: errnos, policies, two writers, bytes, secrets.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  backup,
  convert,
  createEngine,
  createImage,
  type Engine,
  type Job,
  mirror,
  type Node,
  openNode,
} from "../../../../src/node.ts";
import type { BlockJob } from "../../../../src/job/core/block-job.ts";
import { parseS3Name, placeOf, plainS3Name, urlOf } from "../../../../src/drivers/protocol/http/s3/names.ts";
import { contentOf } from "../../../support/content.ts";
import { type Fault, TestStore } from "../../../support/s3-store.ts";

const MiB = 2 ** 20;
const SECRET = "hHvery+secret/key";
let store: TestStore;
let engine: Engine;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bw-s3-"));
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "ID", AWS_SECRET_ACCESS_KEY: SECRET });
});

afterAll(() => {
  rmSync(folder, { recursive: true });
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    Reflect.deleteProperty(process.env, name);
});

beforeEach(async () => {
  store = await TestStore.start();
  engine = createEngine();
});

afterEach(async () => {
  store.fault = () => undefined;
  await engine.close().catch(() => undefined);
  await store.stop();
});

function storage(key: string, more: object = {}): object {
  return { driver: "s3", url: `s3://disks/${key}`, endpoint: store.endpoint, ...more };
}

function open(key: string, more: object = {}): Promise<Node> {
  return openNode(storage(key, more) as never, { engine });
}

async function newDisk(key: string, size: number): Promise<void> {
  await createImage({ driver: "raw", file: storage(key), size } as never, { engine });
}

async function content(node: Node): Promise<Buffer> {
  const bytes = Buffer.alloc(node.length);
  await node.read(0, bytes);
  return bytes;
}

/** The first so many requests of a kind. */
function first(
  count: number,
  isIt: (method: string, key: string) => boolean,
  what: ReturnType<Fault>,
): Fault {
  let left = count;
  return ({ method, key }) => (isIt(method, key) && left-- > 0 ? what : undefined);
}

const isPart = (_method: string, key: string): boolean => key.includes(".blockwright/");

describe("names", () => {
  it("are URLs with options, and nothing secret", () => {
    expect(parseS3Name("s3://disks/a%20b/c.img?endpoint=http%3A%2F%2Fh:1&path-style=off").options).toEqual({
      url: "s3://disks/a%20b/c.img",
      endpoint: "http://h:1",
      "path-style": "off",
    });
    expect(placeOf("s3://disks/a%20b%2Bc")).toEqual({ bucket: "disks", key: "a b+c" });
    expect(urlOf({ bucket: "disks", key: "a b+c(1)" })).toBe("s3://disks/a%20b%2Bc%281%29");
    expect(plainS3Name({ url: "s3://d/k", region: "eu-1" })).toBe("s3://d/k?region=eu-1");
    for (const name of [
      "s3://disks",
      "s3:disks/k",
      "s3://u:p@disks/k",
      "s3://disks/a/../b",
      "s3://disks/%zz",
    ])
      expect(() => parseS3Name(name), name).toThrow();
    expect(() => parseS3Name(`s3://disks/k?secret-access-key=${SECRET}`)).toThrow(
      "'s3://disks/k': a name of an object has no option 'secret-access-key'",
    );
  });
});

describe("a plain object", () => {
  it("is read by ranges, and no more of it than is asked for", async () => {
    const bytes = Buffer.from(contentOf(8 * MiB));
    store.put("disks/plain.img", bytes);
    await using node = await open("plain.img", { "read-only": true });
    const some = Buffer.alloc(5000);
    await node.read(4 * MiB + 123, some);
    expect(some.equals(bytes.subarray(4 * MiB + 123, 4 * MiB + 5123))).toBe(true);
    expect(store.sent).toBeLessThan(300_000);
  });

  it("that changes is ESTALE, and never mixed", async () => {
    store.put("disks/plain.img", Buffer.from(contentOf(MiB)));
    await using node = await open("plain.img", { "read-only": true, readahead: 0 });
    store.put("disks/plain.img", Buffer.alloc(MiB, 7));
    await expect(node.read(MiB / 2, Buffer.alloc(512))).rejects.toMatchObject({ code: "ESTALE" });
  });

  it("is not written in place", async () => {
    store.put("disks/plain.img", Buffer.alloc(512));
    await expect(open("plain.img", { "read-only": false, "auto-read-only": false })).rejects.toMatchObject({
      code: "EACCES",
      message: expect.stringContaining(
        "it is a plain object, which can be replaced but not written",
      ) as string,
    });
  });

  it("whose content looks like a head is an object all the same", async () => {
    store.put("disks/plain.img", Buffer.from('{"blockwright-disk":1,"size":1048576}'.padEnd(512)));
    await using node = await open("plain.img", { "read-only": true });
    expect(node.length).toBe(512);
  });
});

describe("errors of opening", () => {
  it.each([
    [404, "NoSuchBucket", "ENOENT"],
    [403, "AccessDenied", "EACCES"],
    [400, "ExpiredToken", "EACCES"],
    [301, "PermanentRedirect", "EACCES"],
    [503, "SlowDown", "EIO"],
    [429, "", "EIO"],
    [507, "", "ENOSPC"],
    [501, "NotImplemented", "ENOTSUP"],
  ])("%i %s is %s", async (status, code, errno) => {
    store.fault = ({ method }) =>
      method === "GET" ? { status, code, headers: { Location: "http://127.0.0.1:9/" } } : undefined;
    store.put("disks/a", Buffer.alloc(512));
    const failed = open("a", { "read-only": true, retries: 1 });
    await expect(failed).rejects.toMatchObject({ code: errno });
    const message = await failed.catch((error: unknown) => (error as Error).message);
    expect(message).toContain("s3://disks/a");
    expect(message).not.toContain(SECRET);
  });

  it.each([
    [{ status: 400, code: "ExpiredToken" }, "the credentials have expired"],
    [{ status: 403, code: "InvalidAccessKeyId" }, "the store knows no such access key"],
    [{ status: 403, code: "SignatureDoesNotMatch" }, "the secret access key is wrong"],
    [{ status: 403, code: "RequestTimeTooSkewed" }, "the clock of this machine is wrong"],
    [
      { status: 400, code: "AuthorizationHeaderMalformed", region: "eu-central-1" },
      "the bucket is in another region: give 'region=eu-central-1'",
    ],
    [
      { status: 301, headers: { "x-amz-bucket-region": "eu-central-1", Location: "http://127.0.0.1:9/" } },
      "which is refused (give 'region=eu-central-1')",
    ],
  ])("says why, though answers to HEAD have no body: %j", async (fault, why) => {
    store.put("disks/a", Buffer.alloc(512));
    store.fault = () => fault;
    const failed = open("a", { "read-only": true, retries: 0 });
    await expect(failed).rejects.toMatchObject({ code: "EACCES" });
    await expect(failed).rejects.toThrow(why);
    await expect(newDisk("a", MiB)).rejects.toThrow(why);
  });

  it("is told of a store that says nothing, within bounds", async () => {
    store.put("disks/a", Buffer.alloc(512));
    store.fault = () => ({ hang: true });
    await expect(open("a", { "read-only": true, timeout: 1, retries: 0 })).rejects.toMatchObject({
      code: "EIO",
    });
  });

  it("tries a passing 503 again", async () => {
    store.put("disks/a", Buffer.alloc(512));
    store.fault = first(2, () => true, { status: 503, code: "SlowDown" });
    await using node = await open("a", { "read-only": true });
    expect(node.length).toBe(512);
  });
});

describe("credentials", () => {
  it("come from secrets, and a new secret takes over from one that has expired", async () => {
    await newDisk("disk", MiB);
    engine.graph.secrets.set("key", Buffer.from(SECRET));
    await using node = await open("disk", { "access-key-id": "OTHER", "secret-access-key": "key" });
    await node.write(0, Buffer.alloc(4096, 1));
    store.fault = () => ({ status: 403, code: "ExpiredToken" });
    await expect(node.flush()).rejects.toMatchObject({ code: "EACCES" });
    store.fault = () => undefined;
    const signatures = (): Set<string> => new Set(store.seen.map(({ authorization }) => authorization));
    expect([...signatures()].at(-1)).toContain("Credential=OTHER/");
    engine.graph.secrets.delete("key");
    await expect(node.flush()).rejects.toThrow("No secret with id 'key'");
    engine.graph.secrets.set("key", Buffer.from("another"));
    await node.flush();
    await using again = await open("disk");
    expect((await content(again))[4095]).toBe(1);
  });
});

describe("a disk in chunks", () => {
  it("keeps what was written at any place, length and order, across openings", async () => {
    await newDisk("disk", 3 * MiB + 512);
    const model = Buffer.alloc(3 * MiB + 512);
    let seed = 17;
    const below = (limit: number): number => (seed = (seed * 48_271) % 2_147_483_647) % limit;
    for (let round = 0; round < 4; round++) {
      await using node = await open("disk", round % 2 ? { "cache-size": 0 } : {});
      for (let i = 0; i < 25; i++) {
        const offset = 512 * below(model.byteLength / 512);
        const bytes = Math.min(512 * (1 + below(i % 5 === 0 ? 4096 : 64)), model.byteLength - offset);
        const zero = below(5) === 0;
        if (zero) await node.writeZeroes(offset, bytes);
        else await node.write(offset, Buffer.alloc(bytes, 1 + below(255)).fill(i + 1, 0, 7));
        model.fill(0, offset, offset + bytes);
        if (!zero) await node.read(offset, model.subarray(offset, offset + bytes));
        if (i % 9 === 0) await node.flush();
      }
      expect((await content(node)).equals(model)).toBe(true);
    }
    await using node = await open("disk", { "read-only": true });
    expect((await content(node)).equals(model)).toBe(true);
    // Nothing is left that the head does not name: chunks, one page, the head.
    const used = new Set(
      store.objects
        .get("disks/disk")!
        .bytes.toString()
        .match(/[0-9a-z]+-[0-9a-z]+-[0-9a-f]{32}/g),
    );
    for (const name of [...used])
      for (const chunk of store.objects
        .get(`disks/disk.blockwright/${name}`)!
        .bytes.toString()
        .matchAll(/[0-9a-z]+-[0-9a-z]+-[0-9a-f]{32}/g))
        used.add(chunk[0]);
    expect(store.keys()).toEqual(
      ["disks/disk", ...[...used].map((name) => `disks/disk.blockwright/${name}`)].toSorted(),
    );
  });

  it("is not seen half-written: only a flush publishes", async () => {
    await newDisk("disk", 2 * MiB);
    await using writer = await open("disk");
    await writer.write(0, Buffer.alloc(MiB, 9));
    await using before = await open("disk", { "read-only": true });
    expect((await content(before)).every((byte) => byte === 0)).toBe(true);
    await writer.flush();
    await using after = await open("disk", { "read-only": true });
    expect((await content(after)).subarray(0, MiB).every((byte) => byte === 9)).toBe(true);
  });

  it("has one winner of two writers; the other is told, and nothing is mixed", async () => {
    await newDisk("disk", 2 * MiB);
    const one = await open("disk");
    const other = await open("disk");
    await one.write(0, Buffer.alloc(2 * MiB, 1));
    await other.write(0, Buffer.alloc(2 * MiB, 2));
    await one.flush();
    const lost =
      /s3:\/\/disks\/disk: another writer has changed it since it was opened; nothing that was written/;
    await expect(other.flush()).rejects.toMatchObject({
      code: "ESTALE",
      message: expect.stringMatching(lost) as string,
    });
    await expect(other.write(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "ESTALE" });
    await other.close().catch(() => undefined);
    await one.close();
    await using node = await open("disk", { "read-only": true });
    expect((await content(node)).every((byte) => byte === 1)).toBe(true);
    // The loser's own chunks went with it.
    expect(store.keys().length).toBe(1 + 1 + 2);
  });

  it("takes a swap whose answer was lost for its own", async () => {
    await newDisk("disk", MiB);
    await using node = await open("disk");
    await node.write(0, Buffer.alloc(512, 3));
    store.fault = first(1, (method, key) => method === "PUT" && key === "disks/disk", {
      cut: true,
      after: true,
    });
    await node.flush();
    await node.write(512, Buffer.alloc(512, 4));
    await node.flush();
  });

  it("reads damage as EIO, never as data", async () => {
    await newDisk("disk", MiB);
    const node = await open("disk");
    await node.write(0, Buffer.alloc(MiB, 3));
    await node.close();
    const chunk = store.keys().find((key) => store.objects.get(key)!.bytes.byteLength === MiB)!;
    store.objects.get(chunk)!.bytes[77] = 4;
    await using again = await open("disk", { "read-only": true });
    await expect(again.read(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "EIO" });
  });
});

describe("policies", () => {
  const bytes = 12 * MiB;

  async function source(): Promise<Node> {
    writeFileSync(join(folder, "source"), contentOf(bytes));
    return openNode(
      { driver: "raw", file: { driver: "file", filename: join(folder, "source") } },
      { engine },
    );
  }

  async function target(): Promise<Node> {
    await newDisk("target", bytes);
    return open("target", { retries: 0 });
  }

  async function expectEqual(): Promise<void> {
    await engine.close();
    engine = createEngine();
    await using node = await open("target", { "read-only": true });
    expect((await content(node)).equals(Buffer.from(contentOf(bytes)))).toBe(true);
    expect(store.received).toBeLessThan(1.1 * bytes + 64 * 1024);
  }

  async function untilPaused(job: Job): Promise<void> {
    while (job.status !== "paused") await setTimeout(5);
  }

  it("stop: a 503 storm pauses a mirror, which goes on and ends equal", async () => {
    const job = await mirror(await source(), await target(), { sync: "full", onTargetError: "stop" });
    store.fault = ({ method, key }) =>
      method === "PUT" && isPart(method, key) ? { status: 503 } : undefined;
    await untilPaused(job);
    expect((job as BlockJob).ioStatus).toBe("failed");
    store.fault = () => undefined;
    store.received = 0;
    job.resume();
    while (!job.isReady) await setTimeout(5);
    await job.complete();
    await job.done;
    await expectEqual();
  });

  it("ignore: a storm that passes costs nothing but time", async () => {
    store.fault = first(6, (method, key) => method === "PUT" && isPart(method, key), { status: 503 });
    const job = await mirror(await source(), await target(), { sync: "full", onTargetError: "ignore" });
    while (!job.isReady) await setTimeout(5);
    await job.complete();
    await job.done;
    store.received -= 6 * MiB;
    await expectEqual();
  });

  it("enospc: a store without room pauses a backup as `nospace`", async () => {
    const to = await target();
    store.fault = ({ method, key }) =>
      method === "PUT" && isPart(method, key) ? { status: 507 } : undefined;
    const job = await backup(await source(), to, { onTargetError: "enospc" });
    await untilPaused(job);
    expect((job as BlockJob).ioStatus).toBe("nospace");
    store.fault = () => undefined;
    store.received = 0;
    job.resume();
    await job.done;
    await expectEqual();
  });

  it("report: the job ends with the store's error", async () => {
    const to = await target();
    store.fault = ({ method, key }) =>
      method === "PUT" && isPart(method, key) ? { status: 403 } : undefined;
    const job = await backup(await source(), to, { onTargetError: "report" });
    await expect(job.done).rejects.toMatchObject({ code: "EACCES" });
  });
});

describe("convert to and from", () => {
  it("moves each byte once", async () => {
    const bytes = 6 * MiB;
    writeFileSync(join(folder, "source"), contentOf(bytes));
    const source = await openNode(
      { driver: "raw", file: { driver: "file", filename: join(folder, "source") } },
      { engine },
    );
    await newDisk("disk", bytes);
    const target = await open("disk");
    await convert(source, target);
    await target.close();
    expect(store.received).toBeLessThan(1.1 * bytes);
    store.sent = 0;
    await using again = await open("disk", { "read-only": true });
    expect((await content(again)).equals(Buffer.from(contentOf(bytes)))).toBe(true);
    expect(store.sent).toBeLessThan(1.1 * bytes);
  });
});

describe("a disk that was opened by its name, or written by a job", () => {
  it("takes numbers and flags out of its name", async () => {
    await newDisk("a", MiB);
    const name = `s3://disks/a?endpoint=${encodeURIComponent(store.endpoint)}&retries=1&readahead=64K&path-style=on`;
    await using disk = await openNode(name, { engine });
    expect(disk.length).toBe(MiB);
    const refused = openNode(`${name}&timeout=soon`, { engine });
    await expect(refused).rejects.toThrow("timeout");
  });

  it("is durable after a flush of its handle, though another handle wrote", async () => {
    await newDisk("b", 2 * MiB);
    const source = join(folder, "source");
    writeFileSync(source, contentOf(2 * MiB, 3));
    const file = { driver: "file", filename: source } as const;
    await using from = await openNode({ driver: "raw", file }, { engine, readOnly: true });
    await using to = await openNode({ driver: "raw", file: storage("b") } as never, { engine });
    const head = (): string => store.objects.get("disks/b")!.etag;
    const before = head();
    await convert(from, to, { targetIsZero: true });
    expect(head()).toBe(before);
    await to.flush();
    expect(head()).not.toBe(before);
    const flushed = head();
    await to.flush();
    expect(head()).toBe(flushed);
  });
});
