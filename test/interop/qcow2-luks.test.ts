// Encrypted qcow2 images beside the real tools: LUKS and the old AES, in every kind of image that can be encrypted; each side
// reads and goes on writing what the other made, and the real check is content.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { amend } from "../../src/block/graph/amend.ts";
import { truncate } from "../../src/block/io/io.ts";
import { applySnapshot, check, createImage, createSnapshot, type Engine, openNode } from "../../src/node.ts";
import { randomness } from "../support/random.ts";
import {
  createEncrypted,
  type EncryptedKind,
  engineWithSecrets,
  fileHolds,
  imageOpts,
  ITER_TIME_MS,
  noise,
  objects,
  openEncrypted,
  specOf,
} from "./support/encrypted.ts";
import { inDirectory, must, tool } from "./support/qcow2.ts";

const KiB = 1024;
const SIZE = 700 * KiB + 512;

function kind(
  name: string,
  options: Record<string, unknown>,
  encrypt: Record<string, unknown> = {},
): EncryptedKind {
  const luks = { format: "luks", "key-secret": "s0", "iter-time": ITER_TIME_MS };
  return { name, driver: "qcow2", create: { encrypt: { ...luks, ...encrypt }, ...options } };
}

const luks = kind("luks", {});
const aes: EncryptedKind = {
  name: "aes",
  driver: "qcow2",
  create: { encrypt: { format: "qcow", "key-secret": "s0" } },
};

const kinds: readonly EncryptedKind[] = [
  luks,
  aes,
  { ...aes, name: "aes, version 2", create: { ...aes.create, version: "v2" } },
  kind("luks, version 2", { version: "v2" }),
  kind("luks, clusters of 512 bytes", { "cluster-size": 512 }),
  kind("luks, clusters of 2 MiB", { "cluster-size": 2 ** 21 }),
  kind("luks, subclusters", { "extended-l2": true, "cluster-size": 2 ** 15 }),
  kind("luks, preallocated", { preallocation: "metadata" }),
  kind(
    "luks, cbc-essiv",
    {},
    { "cipher-mode": "cbc", "ivgen-alg": "essiv", "cipher-alg": "aes-128", "hash-alg": "sha1" },
  ),
];

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

function withEngine(body: (engine: Engine, path: (name: string) => string) => Promise<void>): Promise<void> {
  return inDirectory(async (directory) => {
    await using engine = engineWithSecrets();
    await body(engine, (name) => join(directory, name));
  });
}

/** Writes, zeroes and discards at random places; `disk` follows. Preallocated images begin as noise, so all is written once. */
async function changeAtRandom(
  engine: Engine,
  image: EncryptedKind,
  { file, disk, seed }: { file: string; disk: Uint8Array; seed: number },
): Promise<void> {
  await using node = await openEncrypted(engine, image, file);
  const random = randomness(seed);
  for (let step = 0; step < 12; step++) {
    const offset = random(disk.length - 1);
    const bytes = 1 + random(Math.min(disk.length - offset, 150_000));
    if (random(4) === 0) {
      await node.writeZeroes(offset, bytes, { unmap: random(2) === 0 });
      disk.fill(0, offset, offset + bytes);
    } else {
      const data = noise(bytes, seed + step);
      await node.write(offset, data);
      disk.set(data, offset);
    }
  }
  await node.flush();
}

async function expectTheirs(image: EncryptedKind, file: string, disk: Uint8Array): Promise<void> {
  const opts = ["--image-opts", imageOpts(image, file)];
  await must("qemu-img", "convert", ...objects, ...opts, "-O", "raw", `${file}.raw`);
  expect(isSame(await readFile(`${file}.raw`), disk)).toBe(true);
  expect(await must("qemu-img", "check", ...objects, ...opts)).toContain(
    "No errors were found on the image.",
  );
}

describe("an image of ours", () => {
  test.each(kinds)("$name", (image) =>
    withEngine(async (engine, path) => {
      const file = path("a.qcow2");
      const disk = noise(SIZE, 5);
      await createEncrypted(engine, image, { filename: file, size: SIZE });
      {
        await using node = await openEncrypted(engine, image, file);
        if (image.name.includes("preallocated")) await node.write(0, disk);
        else {
          expect(isSame(await node.read(0, SIZE), new Uint8Array(SIZE))).toBe(true);
          disk.fill(0);
        }
      }
      await changeAtRandom(engine, image, { file, disk, seed: 21 });
      await expectTheirs(image, file, disk);
      const write = [
        "-c",
        "write -P 0x5a 100k 70k",
        "-c",
        "write -z 300k 100k",
        "-c",
        "write -P 0x11 77k 512",
      ];
      await must("qemu-io", ...objects, ...write, "--image-opts", imageOpts(image, file));
      disk.fill(0x5a, 100 * KiB, 170 * KiB);
      disk.fill(0, 300 * KiB, 400 * KiB);
      disk.fill(0x11, 77 * KiB, 77 * KiB + 512);
      {
        await using node = await openEncrypted(engine, image, file);
        expect(isSame(await node.read(0, SIZE), disk)).toBe(true);
        expect((await node.blockStatus(100 * KiB, 512)).present).toBe(true);
      }
      const secret = noise(4096, 77);
      {
        await using node = await openEncrypted(engine, image, file);
        await node.write(200 * KiB, secret);
      }
      expect(fileHolds(file, secret.subarray(512, 512 + 32))).toBe(false);
      const found = await check(specOf(image, file), { engine });
      expect(found).toMatchObject({ corruptions: 0, leaks: 0 });
    }),
  );
});

describe("an image of qemu-img", () => {
  test.each([
    ["luks", "encrypt.format=luks,encrypt.iter-time=10,encrypt.ivgen-alg=essiv", luks],
    ["aes", "encrypt.format=aes", aes],
  ])("%s: is written on by us, and described in its words", (_name, options, image) =>
    withEngine(async (engine, path) => {
      const file = path("q.qcow2");
      const disk = noise(SIZE, 6);
      await writeFile(path("in.raw"), disk);
      const target = `encrypt.key-secret=s0,${options}`;
      await must(
        "qemu-img",
        "convert",
        ...objects,
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-o",
        target,
        path("in.raw"),
        file,
      );
      await changeAtRandom(engine, image, { file, disk, seed: 31 });
      await expectTheirs(image, file, disk);
      const theirs = JSON.parse(await must("qemu-img", "info", "--output=json", file)) as Record<
        string,
        unknown
      >;
      await using node = await openNode(
        { driver: "qcow2", file: { driver: "file", filename: file } },
        {
          engine,
          metadataOnly: true,
        },
      );
      const ours = await node.info();
      expect(JSON.parse(JSON.stringify(ours))).toEqual(theirs);
      // The text follows the order of the members.
      const names = (value: unknown): string[] =>
        Object.keys((value as { data: { encrypt: object } }).data.encrypt);
      expect(names(ours["format-specific"])).toEqual(names(theirs["format-specific"]));
    }),
  );
});

test.each([luks, aes])("$name: snapshots are taken by both, and show what they should", (image) =>
  withEngine(async (engine, path) => {
    const file = path("s.qcow2");
    const disk = noise(SIZE, 8);
    await createEncrypted(engine, image, { filename: file, size: SIZE });
    {
      await using node = await openEncrypted(engine, image, file);
      await node.write(0, disk);
      await createSnapshot(node, "ours");
      await node.write(64 * KiB, noise(64 * KiB, 9));
    }
    const opts = ["--image-opts", imageOpts(image, file)];
    await must("qemu-img", "snapshot", ...objects, "-c", "theirs", ...opts);
    await must("qemu-io", ...objects, "-c", "write -P 7 0 300k", ...opts);
    {
      await using node = await openEncrypted(engine, image, file);
      const changed = disk.slice();
      changed.set(noise(64 * KiB, 9), 64 * KiB);
      await applySnapshot(node, "theirs");
      expect(isSame(await node.read(0, SIZE), changed)).toBe(true);
    }
    await must("qemu-img", "snapshot", ...objects, "-a", "ours", ...opts);
    await expectTheirs(image, file, disk);
  }),
);

describe("other files", () => {
  test("an encrypted overlay over an encrypted backing file, and over a shorter plain one", () =>
    withEngine(async (engine, path) => {
      const base = path("base.qcow2");
      const disk = noise(SIZE, 11);
      await createEncrypted(engine, aes, { filename: base, size: SIZE });
      {
        await using node = await openEncrypted(engine, aes, base);
        await node.write(0, disk);
      }
      await writeFile(path("base.raw"), disk.subarray(0, 300 * KiB + 512));
      for (const [name, format] of [
        ["base.qcow2", "qcow2"],
        ["base.raw", "raw"],
      ] as const) {
        const file = path(`over-${format}.qcow2`);
        const want = format === "raw" ? disk.slice().fill(0, 300 * KiB + 512) : disk.slice();
        const over = kind("over", { "backing-file": name, "backing-fmt": format });
        await createEncrypted(engine, over, { filename: file, size: SIZE });
        const backing = format === "raw" ? specRaw(path(name)) : specOf(aes, path(name));
        const spec = { ...(specOf(luks, file) as object), backing } as never;
        {
          await using node = await openNode(spec, { engine });
          const data = noise(5000, 12);
          await node.write(299 * KiB + 100, data);
          want.set(data, 299 * KiB + 100);
          expect(isSame(await node.read(0, SIZE), want)).toBe(true);
        }
        const opts = `${imageOpts(luks, file)},backing.driver=${format},backing.file.filename=${path(name)}`;
        const key = format === "raw" ? "" : ",backing.encrypt.key-secret=s0";
        await must("qemu-img", "convert", ...objects, "--image-opts", opts + key, "-O", "raw", `${file}.raw`);
        expect(isSame(await readFile(`${file}.raw`), want)).toBe(true);
      }
    }));

  test("an external data file holds nothing in plain", () =>
    withEngine(async (engine, path) => {
      const file = path("d.qcow2");
      const options = `encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10,data_file=${path("d.raw")}`;
      await must("qemu-img", "create", ...objects, "-q", "-f", "qcow2", "-o", options, file, String(SIZE));
      const disk = new Uint8Array(SIZE);
      await changeAtRandom(engine, luks, { file, disk, seed: 41 });
      await expectTheirs(luks, file, disk);
      const secret = noise(4096, 78);
      {
        await using node = await openEncrypted(engine, luks, file);
        await node.write(4096, secret);
      }
      expect(fileHolds(path("d.raw"), secret.subarray(0, 32))).toBe(false);
    }));
});

describe("key slots", () => {
  test("are added and erased by us and by qemu-img", () =>
    withEngine(async (engine, path) => {
      const file = path("k.qcow2");
      await createEncrypted(engine, luks, { filename: file, size: SIZE });
      const encrypt = { state: "active", "new-secret": "s1", "iter-time": ITER_TIME_MS };
      {
        await using node = await openEncrypted(engine, luks, file);
        await amend(node.blockNode, { encrypt: { format: "luks", ...encrypt } });
      }
      const opts = (secret: string): string[] => ["--image-opts", imageOpts(luks, file, secret)];
      const erase = "encrypt.state=inactive,encrypt.old-secret=s0";
      await must("qemu-img", "amend", ...objects, "-o", erase, ...opts("s1"));
      await expect(openEncrypted(engine, luks, file)).rejects.toThrow(
        "Invalid password, cannot unlock any keyslot",
      );
      await using node = await openEncrypted(engine, luks, file, "s1");
      const last = { encrypt: { state: "inactive", keyslot: 1 } };
      await expect(amend(node.blockNode, last)).rejects.toThrow("Attempt to erase the only active keyslot 1");
      expect(await must("qemu-img", "check", ...objects, ...opts("s1"), "-U")).toContain("No errors");
    }));

  test("are refused where there are none", () =>
    withEngine(async (engine, path) => {
      const encrypt = { state: "active", "new-secret": "s1" };
      await createEncrypted(engine, aes, { filename: path("aes"), size: SIZE });
      await using node = await openEncrypted(engine, aes, path("aes"));
      await expect(amend(node.blockNode, { encrypt })).rejects.toThrow(
        "Only LUKS encryption options can be amended",
      );
      await expect(amend(node.blockNode, { encrypt: { format: "luks", ...encrypt } })).rejects.toThrow(
        "Amend can't be used to change the qcow2 encryption format",
      );
      await createImage(
        { driver: "qcow2", file: { driver: "file", filename: path("p") }, size: SIZE },
        { engine },
      );
      const plain = { driver: "qcow2", file: { driver: "file", filename: path("p") } } as const;
      await using open = await openNode(plain, { engine });
      await expect(amend(open.blockNode, { encrypt })).rejects.toThrow(
        "Can't amend encryption options - encryption not present",
      );
    }));
});

test("resizing keeps what is there, and the new part reads as zeroes", () =>
  withEngine(async (engine, path) => {
    const file = path("r.qcow2");
    await createEncrypted(engine, luks, { filename: file, size: SIZE });
    const disk = new Uint8Array(2 * SIZE);
    disk.set(noise(SIZE, 13));
    {
      await using node = await openEncrypted(engine, luks, file);
      await node.write(0, disk.subarray(0, SIZE));
      await node.release();
      await truncate(node.blockNode, 2 * SIZE, { exact: true, preallocation: "off" });
      expect(isSame(await node.read(0, 2 * SIZE), disk)).toBe(true);
    }
    await expectTheirs(luks, file, disk);
  }));

describe("what is refused, in qemu-io's words", () => {
  async function refusals(
    engine: Engine,
    file: string,
    { encrypt, secret = "s0" }: { encrypt?: Record<string, unknown>; secret?: string | undefined } = {},
  ): Promise<[string, string]> {
    const words = Object.entries(encrypt ?? { "key-secret": secret }).map(
      ([name, value]) => `encrypt.${name}=${String(value)}`,
    );
    const opts = ["driver=qcow2", ...words, `file.filename=${file}`].join(",");
    const { output } = await tool("qemu-io", ...objects, "-r", "-c", "read 0 512", "--image-opts", opts);
    const given = { driver: "qcow2", "read-only": true, file: { driver: "file", filename: file } };
    const spec = { ...given, encrypt: encrypt ?? { "key-secret": secret } } as never;
    const ours = await openNode(spec, { engine }).then(
      (node) => node.close().then(() => "opened"),
      // The library names the file first.
      (error: Error) => error.message.replace(`Could not open '${file}': `, ""),
    );
    return [output.trim().replace("qemu-io: can't open: ", "").split("\n")[0] ?? "", ours];
  }

  test("formats that do not match, and secrets that are wrong or missing", () =>
    withEngine(async (engine, path) => {
      const plain = path("p.qcow2");
      await must("qemu-img", "create", "-q", "-f", "qcow2", plain, "1M");
      for (const image of [luks, aes])
        await createEncrypted(engine, image, { filename: path(image.name), size: SIZE });
      for (const [file, encrypt] of [
        [plain, { format: "luks", "key-secret": "s0" }],
        [path("luks"), { format: "aes", "key-secret": "s0" }],
        [path("luks"), { format: "luks", "key-secret": "s1" }],
        [path("luks"), { format: "luks", "key-secret": "nope" }],
        [path("luks"), {}],
        [path("aes"), { format: "luks", "key-secret": "s0" }],
        [path("aes"), {}],
      ] as const) {
        const [theirs, ours] = await refusals(engine, file, { encrypt });
        expect(ours).toBe(theirs);
      }
    }));

  test("damaged headers", () =>
    withEngine(async (engine, path) => {
      const file = path("d.qcow2");
      await createEncrypted(engine, luks, { filename: file, size: SIZE });
      const good = await readFile(file);
      const extension = good.indexOf(Buffer.from([0x05, 0x37, 0xbe, 0x77]));
      const header = Number(good.readBigUInt64BE(extension + 8));
      const damages: readonly (readonly [number, number[]])[] = [
        [35, [0]],
        [35, [1]],
        [35, [3]],
        [extension + 7, [15]],
        [extension + 14, [2]],
        [extension + 8, [1]],
        [extension + 16, [0, 0, 0, 0, 0, 0, 0, 100]],
        [extension, [0x12]],
        [header, [0]],
        [header + 104, [0, 0, 0, 0]],
      ];
      for (const [offset, bytes] of damages) {
        const copy = Buffer.from(good);
        copy.set(bytes, offset);
        await writeFile(file, copy);
        const [theirs, ours] = await refusals(engine, file);
        expect(ours, `${offset}: ${theirs}`).toBe(theirs);
      }
    }));

  test("compressed writes", () =>
    withEngine(async (engine, path) => {
      const file = path("c.qcow2");
      await createEncrypted(engine, luks, { filename: file, size: SIZE });
      await using node = await openEncrypted(engine, luks, file);
      const { driver } = node.blockNode;
      await expect(driver.pwrite?.(0, new Uint8Array(65536), 32)).rejects.toThrow(
        "Compression and encryption not supported at the same time",
      );
    }));
});

function specRaw(filename: string): object {
  return { driver: "raw", file: { driver: "file", filename } };
}
