// A guest's disk over an image on a server, opened in one call: what an earlier visit left, versions, stores, the filling, and
// what the status says in words. Storage and server in memory, in virtual time.
import { afterEach, describe, expect, test } from "vitest";
import { BlockError } from "../../../src/base/errors.ts";
import type { Host } from "../../../src/base/host.ts";
import { makeEngine } from "../../../src/api/engine.ts";
import type { OpenedGuestDisk } from "../../../src/api/guest-disk/disk.ts";
import { openGuestDiskIn } from "../../../src/api/guest-disk/open.ts";
import type { OpenGuestDiskOptions } from "../../../src/api/guest-disk/options.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { indexedDb } from "../../../src/drivers/protocol/indexeddb.ts";
import { opfs } from "../../../src/drivers/protocol/opfs/index.ts";
import type { Engine } from "../../../src/machine/engine.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";
import { ModelHttp } from "../support/model-http.ts";
import { ModelStorage } from "../support/private-directory.ts";
import { VirtualHost } from "../support/virtual-host.ts";

const SIZE = 2 * MiB;
const url = "http://images.test/disk.img?token=secret";

/** A browser with its storage, which outlives its visits to the page. */
class Browser {
  readonly host = new VirtualHost();
  readonly http = new ModelHttp(pattern(SIZE, 1), this.host.clock);
  readonly storage = new ModelStorage();
  room: number | undefined;
  readonly #engines: Engine[] = [];

  constructor() {
    this.http.mostDelayMs = 0;
    this.http.faults = ["refuse"];
  }

  engine(more: Partial<Host> = {}): Engine {
    const { http, storage } = this;
    const roomBytes = (): Promise<number | undefined> => Promise.resolve(this.room);
    const host: Host = Object.assign(
      Object.create(this.host) as Host,
      { http, privateStorage: storage, roomBytes },
      more,
    );
    const engine = makeEngine(
      { host, drivers: [...portableDrivers, opfs, indexedDb] },
      { arenaBytes: 8 * MiB },
    );
    this.#engines.push(engine);
    return engine;
  }

  /** Opens the disk as a visit to the page does. */
  visit(options: Partial<OpenGuestDiskOptions> = {}, host: Partial<Host> = {}): Promise<OpenedGuestDisk> {
    return this.settle(openGuestDiskIn(this.engine(host), { url, name: "guest", fill: false, ...options }));
  }

  settle<T>(work: Promise<T>): Promise<T> {
    return this.host.clock.settle(work);
  }

  set isAway(away: boolean) {
    this.http.faultEvery = away ? 1 : 0;
  }

  async read(opened: OpenedGuestDisk, offset: number, bytes: number): Promise<Uint8Array> {
    return this.settle(Promise.resolve(opened.disk.read(offset, bytes)));
  }

  async end(): Promise<void> {
    this.isAway = false;
    for (const engine of this.#engines) await this.settle(engine.close());
  }
}

let browser = new Browser();

afterEach(async () => {
  await browser.end();
  browser = new Browser();
});

async function failure(work: Promise<unknown>): Promise<BlockError> {
  const error = await work.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BlockError);
  return error as BlockError;
}

const own = pattern(4 * KiB, 77);

/** A first visit that writes at 1 MiB. */
async function firstVisit(): Promise<void> {
  const opened = await browser.visit();
  await browser.settle(opened.disk.write(MiB, own));
  await browser.settle(opened.close());
}

describe("over reloads", () => {
  test("what the guest wrote is there again, over what the server has", async () => {
    const first = await browser.visit();
    expect(first.status).toMatchObject({
      isNew: true,
      store: "opfs",
      guest: "running",
      fill: "off",
      length: SIZE,
    });
    expect(same(await browser.read(first, 0, 4 * KiB), browser.http.content.subarray(0, 4 * KiB))).toBe(true);
    await browser.settle(first.disk.write(MiB, own));
    await browser.settle(first.close());
    const second = await browser.visit();
    expect(second.status.isNew).toBe(false);
    expect(same(await browser.read(second, MiB, 4 * KiB), own)).toBe(true);
    const beside = browser.http.content.subarray(MiB + 4 * KiB, MiB + 8 * KiB);
    expect(same(await browser.read(second, MiB + 4 * KiB, 4 * KiB), beside)).toBe(true);
  });

  test("it boots while the server is away, without its size having been given", async () => {
    await firstVisit();
    browser.isAway = true;
    const opened = await browser.visit();
    expect(opened.disk.length).toBe(SIZE);
    expect(same(await browser.read(opened, MiB, 4 * KiB), own)).toBe(true);
  });

  test("what is whole needs no server, not even an image on it", async () => {
    const first = await browser.visit({ fill: true });
    await browser.settle(whenFill(first, "done"));
    expect(first.status.text).toBe("All of the disk is here: it works without the network.");
    await browser.settle(first.close());
    browser.http.content = new Uint8Array(0);
    browser.http.etag = '"other"';
    const asked = browser.http.log.length;
    const second = await browser.visit({ fill: true });
    expect(second.status).toMatchObject({ fill: "done", hereBytes: SIZE });
    expect(same(await browser.read(second, 0, SIZE), pattern(SIZE, 1))).toBe(true);
    expect(browser.http.log.length).toBe(asked);
  });

  test("a fresh one forgets, and removing it leaves nothing", async () => {
    await firstVisit();
    const opened = await browser.visit({ fresh: true });
    expect(opened.status.isNew).toBe(true);
    expect(same(await browser.read(opened, MiB, 512), own.subarray(0, 512))).toBe(false);
    await browser.settle(opened.remove());
    expect(browser.storage.used).toBe(0);
  });

  test("no secret of the URL is kept", async () => {
    await firstVisit();
    const kept = new TextDecoder("latin1").decode(browser.storage.content("guest.qcow2", "data"));
    expect(kept).toContain("http://images.test/disk.img");
    expect(kept).not.toContain("secret");
  });
});

describe("when the image on the server has changed", () => {
  const other = pattern(SIZE, 2);

  async function changed(): Promise<void> {
    await firstVisit();
    browser.http.content = other;
    browser.http.etag = '"v2"';
  }

  test("the disk is refused, and the page is told what it can do", async () => {
    await changed();
    const { code, message } = await failure(browser.visit());
    expect(code).toBe("ESTALE");
    expect(message).toContain("'discard' for a new disk, 'keep-both' for another one beside it, or 'accept'");
  });

  test("discard: a new disk over the new image", async () => {
    await changed();
    const opened = await browser.visit({ whenChanged: "discard" });
    expect(opened.status.isNew).toBe(true);
    expect(same(await browser.read(opened, MiB, 4 * KiB), other.subarray(MiB, MiB + 4 * KiB))).toBe(true);
  });

  test("keep-both: each version has its own, over reloads", async () => {
    await changed();
    const more = pattern(512, 5);
    const beside = await browser.visit({ whenChanged: "keep-both" });
    await browser.settle(beside.disk.write(0, more));
    await browser.settle(beside.close());
    const again = await browser.visit({ whenChanged: "keep-both" });
    expect(same(await browser.read(again, 0, 512), more)).toBe(true);
    await browser.settle(again.close());
    browser.http.content = pattern(SIZE, 1);
    browser.http.etag = '"v1"';
    const old = await browser.visit({ whenChanged: "keep-both" });
    expect(same(await browser.read(old, MiB, 4 * KiB), own)).toBe(true);
    expect(same(await browser.read(old, 0, 512), pattern(SIZE, 1).subarray(0, 512))).toBe(true);
  });

  test("accept: what was written stays over the image as it is now", async () => {
    await changed();
    const opened = await browser.visit({ whenChanged: "accept" });
    expect(same(await browser.read(opened, MiB, 4 * KiB), own)).toBe(true);
    expect(same(await browser.read(opened, 0, 512), other.subarray(0, 512))).toBe(true);
  });

  test("the same image at another place is the same", async () => {
    await firstVisit();
    const opened = await browser.visit({ url: "https://cdn.test/moved/disk.img" });
    expect(same(await browser.read(opened, MiB, 4 * KiB), own)).toBe(true);
  });
});

describe("stores", () => {
  test("without one that keeps disks: ENOTSUP, with the reason of each", async () => {
    const privateStorage = {
      open: () =>
        Promise.reject(new BlockError({ code: "ENOTSUP", op: "open", message: "a private window" })),
      remove: () => Promise.resolve(),
    };
    const { code, message } = await failure(browser.visit({}, { privateStorage }));
    expect(code).toBe("ENOTSUP");
    expect(message).toContain("a private window");
    expect(message).toContain("indexeddb: ");
  });

  test("open elsewhere: EAGAIN in words", async () => {
    await browser.visit();
    const { code, message } = await failure(browser.visit());
    expect(code).toBe("EAGAIN");
    expect(message).toContain("open in another tab or window of this browser");
  });
});

/** Resolves when the filling is in that state. */
function whenFill(opened: OpenedGuestDisk, state: string): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (opened.status.fill === state) resolve();
    };
    opened.watch(look);
    look();
  });
}

describe("the status", () => {
  test("says why the guest waits and what comes next, and both go on by themselves", async () => {
    const opened = await browser.visit({
      fill: true,
      http: { retries: 0 },
      fillSpeedBytesPerSecond: 64 * KiB,
    });
    browser.isAway = true;
    const texts: string[] = [];
    opened.watch(({ text }) => texts.push(text));
    const reading = Promise.resolve(opened.disk.read(SIZE - 4 * KiB, 4 * KiB));
    await browser.settle(whenFill(opened, "waiting"));
    await expect.poll(() => opened.status.guest).toBe("waiting");
    expect(opened.status.text).toContain(
      "The guest waits: it wants 4 KiB at 2 MiB of its disk, which are not here yet, and the server can't be reached (",
    );
    expect(opened.status.text).toContain("fetch failed");
    expect(opened.status.text).toContain("It is tried again every 5 s, and the guest goes on by itself.");
    expect(opened.status.text).toContain("the filling waits: the server can't be reached (");
    expect(opened.status.cause).toMatchObject({ operation: "read", code: "EIO" });
    browser.isAway = false;
    expect(same(await browser.settle(reading), browser.http.content.subarray(SIZE - 4 * KiB))).toBe(true);
    await browser.settle(whenFill(opened, "done"));
    expect(opened.status).toMatchObject({ guest: "running", fill: "done", cause: undefined });
    expect(
      texts.some((text) => / % of 2 MiB is here, and the rest comes in the background\./.test(text)),
    ).toBe(true);
  });

  test("a small write waits for the server too, which has what is around it; only under enospc it fails", async () => {
    const opened = await browser.visit({ http: { retries: 0 } });
    browser.isAway = true;
    const writing = Promise.resolve(opened.disk.write(MiB + 512, own.subarray(0, 512)));
    await expect.poll(() => opened.status.guest).toBe("waiting");
    expect(opened.status.cause).toMatchObject({ operation: "write", code: "EIO" });
    browser.isAway = false;
    await browser.settle(writing);
    expect(same(await browser.read(opened, MiB + 512, 512), own.subarray(0, 512))).toBe(true);
    const told = await browser.visit({ name: "told", http: { retries: 0 }, werror: "enospc" });
    browser.isAway = true;
    const failing = Promise.resolve(told.disk.write(MiB + 512, own.subarray(0, 512)));
    expect((await failure(browser.settle(failing))).code).toBe("EIO");
  });

  test("a pause of the filling lasts until it is resumed", async () => {
    const opened = await browser.visit({ fill: true, fillSpeedBytesPerSecond: 64 * KiB });
    opened.pauseFill();
    expect(opened.status.text).toBe("0 % of 2 MiB is here; the filling is paused.");
    await browser.host.clock.step();
    await browser.host.clock.step();
    expect(opened.status.fill).toBe("paused");
    opened.resumeFill();
    await browser.settle(whenFill(opened, "done"));
  });

  test("the filling leaves room for what the guest writes, and goes on when there is more", async () => {
    browser.room = 10 * MiB;
    const opened = await browser.visit({
      fill: true,
      reserveBytes: 8 * MiB,
      fillSpeedBytesPerSecond: 64 * KiB,
    });
    browser.room = 7 * MiB;
    await browser.settle(whenFill(opened, "waiting"));
    expect(opened.status.text).toContain("the filling waits, to leave room for what the guest writes");
    browser.room = 9 * MiB;
    await browser.settle(whenFill(opened, "done"));
  });
});

describe("options", () => {
  test("v86's own: parts as they are", async () => {
    const { http } = browser;
    const whole = http.content;
    const asked: string[] = [];
    const parts = {
      get: (address: string): ReturnType<ModelHttp["get"]> => {
        asked.push(address);
        const [start = 0, end = 0] = /-(\d+)-(\d+)\.img$/.exec(address)!.slice(1).map(Number);
        const body = new Response(whole.slice(start, end)).body;
        return Promise.resolve({ status: 200, headers: { get: () => null }, body });
      },
    };
    const v86 = {
      url: "http://images.test/disk.img",
      async: true,
      size: SIZE,
      use_parts: true,
      fixed_chunk_size: 256 * KiB,
    };
    const opened = await browser.visit(v86, { http: parts });
    expect(same(await browser.read(opened, 300 * KiB, KiB), whole.subarray(300 * KiB, 301 * KiB))).toBe(true);
    expect(asked).toEqual(["http://images.test/disk-262144-524288.img"]);
  });

  test("what is none is refused in words", async () => {
    const opening = (options: object): Promise<unknown> =>
      openGuestDiskIn(browser.engine(), options as OpenGuestDiskOptions);
    await expect(opening({ url, chunkSize: 1 })).rejects.toThrow("Parameter 'chunkSize' is unexpected");
    await expect(opening({})).rejects.toThrow("Parameter 'url' is missing");
    await expect(opening({ url, use_parts: true, size: 1 })).rejects.toThrow(
      "'use_parts' needs 'fixed_chunk_size'",
    );
    await expect(opening({ url, store: "floppy" })).rejects.toThrow("'store'");
  });
});
