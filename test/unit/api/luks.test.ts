// LUKS1 volumes in memory over the browser's Host, in Node and in Chromium: making, reading and writing them, their key
// slots in QEMU's words, what needs a secret and what does not, and that no secret shows.
import { afterAll, describe, expect, test } from "vitest";
import { amend } from "../../../src/block/graph/amend.ts";
import { createEngine, createImage, type Engine, type Node, openNode } from "../../../src/browser.ts";

const MiB = 2 ** 20;
const PAYLOAD = 2_068_480;
const secrets = { s0: "abc", s1: new TextEncoder().encode("pass ü"), s2: "ghi", bad: new Uint8Array([0xff]) };
const engines: Engine[] = [];

afterAll(async () => {
  for (const engine of engines) await engine.close();
});

/** An engine with a volume in the node `file`. */
async function withVolume(size = MiB, more: Record<string, unknown> = {}): Promise<Engine> {
  const engine = createEngine({ secrets, arenaBytes: 2 ** 22 });
  engines.push(engine);
  await engine.graph.add({ driver: "memory", "node-name": "file", size: PAYLOAD });
  await createImage(
    { driver: "luks", file: "file", size, "key-secret": "s0", "iter-time": 1, ...more },
    { engine },
  );
  return engine;
}

function open(engine: Engine, secret: string | undefined = "s0", metadataOnly = false): Promise<Node> {
  const key = secret === "" ? {} : { "key-secret": secret };
  return openNode({ driver: "luks", file: "file", ...key }, { engine, metadataOnly });
}

async function activeSlots(node: Node): Promise<number[]> {
  const info = await node.info();
  const specific = info["format-specific"];
  if (specific?.type !== "luks") throw new Error("no LUKS information");
  return specific.data.slots.flatMap(({ active }, index) => (active ? [index] : []));
}

function change(node: Node, options: Record<string, unknown>, force = false): Promise<void> {
  return amend(node.blockNode, options, { force });
}

const add = { state: "active", "iter-time": 1 };

describe("a volume", () => {
  test("keeps what is written, also to parts of sectors, and stores it encrypted", async () => {
    const engine = await withVolume();
    const data = Uint8Array.from({ length: 5000 }, (_, at) => (at * 7) & 255);
    {
      await using node = await open(engine);
      expect(node.length).toBe(MiB);
      await node.write(1234, data);
      await node.writeZeroes(2000, 1000);
    }
    data.fill(0, 2000 - 1234, 3000 - 1234);
    await using node = await open(engine);
    expect(await node.read(1234, data.length)).toEqual(data);
    await node.release();
    await using file = await openNode({ driver: "raw", file: "file" }, { engine });
    const stored = await file.read(PAYLOAD + 1024, 4096);
    // Of zeroes too there is nothing to see.
    expect(new Set(stored).size).toBeGreaterThan(200);
  });

  test("takes a write larger than what is encrypted at once", async () => {
    const engine = await withVolume(3 * MiB);
    await using node = await open(engine);
    const data = new Uint8Array(5 * (MiB / 2) + 512).map((_, at) => (at ^ (at >> 9)) & 255);
    await node.write(MiB / 4, data);
    const back = await node.read(MiB / 4, data.length);
    expect(back.findIndex((byte, at) => byte !== data[at])).toBe(-1);
  });

  test("is described without a secret, and not read", async () => {
    const engine = await withVolume();
    await using node = await open(engine, "", true);
    expect(await node.info()).toMatchObject({
      format: "luks",
      encrypted: true,
      "virtual-size": MiB,
      "format-specific": {
        data: { "cipher-alg": "aes-256", "cipher-mode": "xts", "ivgen-alg": "plain64", "hash-alg": "sha256" },
      },
    });
    await expect(node.read(0, 512)).rejects.toMatchObject({ code: "EPERM" });
  });

  test.each([
    ["", "Parameter 'key-secret' is required for cipher"],
    ["nope", "No secret with id 'nope'"],
    ["s1", "Invalid password, cannot unlock any keyslot"],
    ["bad", "Data from secret bad is not valid UTF-8"],
  ])("does not open with the secret '%s'", async (secret, message) => {
    const engine = await withVolume();
    const error = await open(engine, secret).then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(error?.message).toBe(message);
    // No passphrase in anything that could be logged.
    for (const text of [error?.stack, JSON.stringify(error), String(error?.cause)]) {
      for (const hidden of ["abc", "pass ü"]) expect(text).not.toContain(hidden);
    }
  });

  test("can't be made without the secret, and a file is left as it was", async () => {
    const engine = await withVolume();
    const spec = { driver: "luks", file: "file", size: MiB } as const;
    await expect(createImage(spec, { engine })).rejects.toThrow(
      "Parameter 'key-secret' is required for cipher",
    );
    await expect(
      createImage({ ...spec, "key-secret": "s0", "cipher-alg": "twofish-256" }, { engine }),
    ).rejects.toThrow("Algorithm 'twofish-256' not supported");
    await (await open(engine)).close();
  });
});

describe("key slots", () => {
  const loss = "will erase all the data in the image irreversibly - refusing operation";
  const refused: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ "new-secret": "s1" }, "Parameter 'state' is missing"],
    [{ state: "foo" }, "Parameter 'state' does not accept value 'foo'"],
    [{ size: 3 }, "Parameter 'size' is unexpected"],
    [{ state: "active" }, "'new-secret' is required to activate a keyslot"],
    [{ ...add, "new-secret": "nope" }, "No secret with id 'nope'"],
    [
      { ...add, "new-secret": "s1", "old-secret": "s0" },
      "'old-secret' must not be given when activating keyslots",
    ],
    [{ ...add, "new-secret": "s1", keyslot: 8 }, "Invalid keyslot 8 specified, must be between 0 and 7"],
    [
      { ...add, "new-secret": "s1", keyslot: -1 },
      "Invalid keyslot 4294967295 specified, must be between 0 and 7",
    ],
    [
      { ...add, "new-secret": "s1", keyslot: 0 },
      "Refusing to overwrite active keyslot 0 - please erase it first",
    ],
    [{ ...add, "new-secret": "s1", secret: "s2" }, "Invalid password, cannot unlock any keyslot"],
    [
      { ...add, "new-secret": "s1", "iter-time": 1e12 },
      "larger than 4294967295: Numerical result out of range",
    ],
    [
      { state: "inactive" },
      "To erase keyslot(s), either explicit keyslot index or the password currently contained",
    ],
    [{ state: "inactive", keyslot: 3 }, "Given keyslot 3 is already erased (inactive) "],
    [{ state: "inactive", "old-secret": "s2" }, "No keyslots match given (old) password for erase operation"],
    [
      { state: "inactive", "old-secret": "s2", keyslot: 0 },
      "Given keyslot 0 doesn't contain the given old password for erase operation",
    ],
    [{ state: "inactive", "new-secret": "s2" }, "'new-secret' must not be given when erasing keyslots"],
    [
      { state: "inactive", "iter-time": 3, keyslot: 0 },
      "'iter-time' must not be given when erasing keyslots",
    ],
    [{ state: "inactive", keyslot: 0 }, `Attempt to erase the only active keyslot 0 which ${loss}`],
    [
      { state: "inactive", "old-secret": "s0" },
      `All the active keyslots match the (old) password that was given and erasing them ${loss}`,
    ],
  ];

  test("what QEMU refuses is refused in its words, and changes nothing", async () => {
    const engine = await withVolume();
    await using node = await open(engine);
    const before = await node.info();
    for (const [options, message] of refused) await expect(change(node, options)).rejects.toThrow(message);
    expect(await node.info()).toEqual(before);
  });

  test("are filled until none is left, and erased", async () => {
    const engine = await withVolume();
    await using node = await open(engine);
    await change(node, { ...add, "new-secret": "s1", keyslot: 5 });
    await change(node, { ...add, "new-secret": "s2" });
    expect(await activeSlots(node)).toEqual([0, 1, 5]);
    for (let index = 0; index < 5; index++) await change(node, { ...add, "new-secret": "s1" });
    const full = change(node, { ...add, "new-secret": "s1" });
    await expect(full).rejects.toThrow("Can't add a keyslot - all keyslots are in use");
    await change(node, { state: "inactive", "old-secret": "s1" });
    expect(await activeSlots(node)).toEqual([0, 1]);
    await change(node, { state: "inactive", keyslot: 0, "old-secret": "s0" });
    await node.close();
    await expect(open(engine)).rejects.toThrow("Invalid password, cannot unlock any keyslot");
    await (await open(engine, "s2")).close();
  });

  test("force overwrites a slot, and erases the last one", async () => {
    const engine = await withVolume();
    await using node = await open(engine);
    await change(node, { ...add, "new-secret": "s1", keyslot: 0 }, true);
    await node.close();
    await using again = await open(engine, "s1");
    await change(again, { state: "inactive", keyslot: 0 }, true);
    expect(await activeSlots(again)).toEqual([]);
    // What is open stays usable.
    await again.write(0, new Uint8Array(512));
    await again.close();
    await expect(open(engine, "s1")).rejects.toThrow("Invalid password, cannot unlock any keyslot");
  });

  test("an erased slot's key material is gone", async () => {
    const engine = await withVolume();
    const material = async (): Promise<Uint8Array> => {
      await using file = await openNode({ driver: "raw", file: "file", "read-only": true }, { engine });
      return await file.read(4096, 256_000);
    };
    const before = await material();
    await using node = await open(engine);
    await change(node, { ...add, "new-secret": "s1" });
    await change(node, { state: "inactive", keyslot: 0 });
    await node.release();
    const after = await material();
    const same = before.reduce((count, byte, at) => count + (byte === after[at] ? 1 : 0), 0);
    // One byte in 256 is the same by chance.
    expect(same).toBeLessThan(256_000 / 128);
  });

  test("a read-only volume is not amended", async () => {
    const engine = await withVolume();
    const spec = { driver: "luks", file: "file", "key-secret": "s0", "read-only": true } as const;
    await using node = await openNode(spec, { engine });
    await expect(change(node, { ...add, "new-secret": "s1" })).rejects.toMatchObject({ code: "EACCES" });
  });
});

test("a header that lies about its payload opens nothing", async () => {
  const engine = await withVolume();
  {
    await using file = await openNode({ driver: "raw", file: "file" }, { engine });
    await file.write(104, new Uint8Array([0xff, 0xff, 0xff, 0xff]));
  }
  await expect(open(engine)).rejects.toThrow("Could not refresh total sector count: Input/output error");
});
