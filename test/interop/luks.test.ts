// LUKS1 volumes beside qemu-img, qemu-io and cryptsetup: each reads and goes on writing what the other made, with every
// cipher that both have; key slots, damaged headers, and what is said of wrong and missing passphrases.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { amend } from "../../src/block/graph/amend.ts";
import { truncate } from "../../src/block/io/io.ts";
import { nodeOf } from "../../src/block/model/node.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import type { Engine, Node } from "../../src/node.ts";
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
  secrets,
} from "./support/encrypted.ts";
import { inDirectory, must, tool } from "./support/qcow2.ts";

const KiB = 1024;
const SIZE = 300 * KiB + 512;

function kind(options: Record<string, unknown>): EncryptedKind {
  const name = Object.values(options).join(" ");
  return {
    name,
    driver: "luks",
    create: { "key-secret": "s0", "iter-time": ITER_TIME_MS, ...options },
  };
}

const plain = kind({});

/** Every mode with every IV generator, every key length, every hash. */
const kinds: readonly EncryptedKind[] = [
  ...["xts", "cbc", "ctr"].flatMap((mode) =>
    ["plain", "plain64", "essiv"].map((generator) => kind({ "cipher-mode": mode, "ivgen-alg": generator })),
  ),
  kind({ "cipher-mode": "ecb" }),
  kind({ "cipher-alg": "aes-128" }),
  kind({ "cipher-alg": "aes-192" }),
  kind({ "cipher-alg": "aes-128", "cipher-mode": "cbc", "ivgen-alg": "essiv", "ivgen-hash-alg": "md5" }),
  ...["md5", "sha1", "sha224", "sha384", "sha512", "ripemd160"].map((hash) => kind({ "hash-alg": hash })),
];

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

/** Runs `body` in a directory with an engine that is closed after it. */
function withEngine(body: (engine: Engine, path: (name: string) => string) => Promise<void>): Promise<void> {
  return inDirectory(async (directory) => {
    await using engine = engineWithSecrets();
    await body(engine, (name) => join(directory, name));
  });
}

function change(node: Node, options: Record<string, unknown>, force = false): Promise<void> {
  const iterTime = options["state"] === "active" ? { "iter-time": ITER_TIME_MS } : {};
  return amend(node.blockNode, { ...iterTime, ...options }, { force });
}

describe("a volume of ours", () => {
  test.each(kinds)("$name", (volume) =>
    withEngine(async (engine, path) => {
      const disk = noise(SIZE, 7);
      const file = path("a.luks");
      await createEncrypted(engine, volume, { filename: file, size: SIZE });
      {
        await using node = await openEncrypted(engine, volume, file);
        await node.write(0, disk);
        // Sectors are read, changed and written again.
        const piece = noise(3000, 8);
        await node.write(1000, piece);
        disk.set(piece, 1000);
      }
      expect(fileHolds(file, disk.subarray(8192, 8192 + 32))).toBe(false);
      const opts = imageOpts(volume, file);
      const write = ["-c", "write -P 0x5a 100k 70k", "-c", "write -P 0x11 77k 512"];
      await must("qemu-img", "convert", ...objects, "--image-opts", opts, "-O", "raw", path("a.raw"));
      expect(isSame(await readFile(path("a.raw")), disk)).toBe(true);
      await must("qemu-io", ...objects, ...write, "--image-opts", opts);
      disk.fill(0x5a, 100 * KiB, 170 * KiB);
      disk.fill(0x11, 77 * KiB, 77 * KiB + 512);
      await using node = await openEncrypted(engine, volume, file);
      expect(isSame(await node.read(0, SIZE), disk)).toBe(true);
    }),
  );
});

describe("a volume of another program", () => {
  const format = ["luksFormat", "-q", "--type", "luks1", "--iter-time", "10"];

  async function use(engine: Engine, file: string): Promise<Uint8Array> {
    await using node = await openEncrypted(engine, plain, file);
    const disk = noise(node.length, 9);
    await node.write(0, disk);
    return disk;
  }

  test("qemu-img's is read, written on, and told of in its words", () =>
    withEngine(async (engine, path) => {
      const file = path("q.luks");
      const options = "key-secret=s0,iter-time=10,ivgen-alg=essiv";
      await must("qemu-img", "create", ...objects, "-f", "luks", "-o", options, file, String(SIZE));
      const disk = await use(engine, file);
      await must(
        "qemu-img",
        "convert",
        ...objects,
        "--image-opts",
        imageOpts(plain, file),
        "-O",
        "raw",
        `${file}.raw`,
      );
      expect(isSame(await readFile(`${file}.raw`), disk)).toBe(true);
      // With the same options: no plain name opens a volume that wants a secret.
      const info = ["info", ...objects, "--output=json", "--image-opts", imageOpts(plain, file)];
      const theirs = JSON.parse(await must("qemu-img", ...info)) as Record<string, unknown>;
      await using node = await openEncrypted(engine, plain, file);
      expect(JSON.parse(JSON.stringify(await node.info()))).toEqual(theirs);
    }));

  test.each([
    ["", []],
    [
      "with keys that fill no whole sectors, of which QEMU aborts",
      ["-c", "aes-cbc-essiv:sha256", "-s", "192", "-h", "sha1"],
    ],
  ])("cryptsetup's is read and written on %s", (_name, options) =>
    withEngine(async (engine, path) => {
      const file = path("c.luks");
      const key = path("key");
      await writeFile(key, secrets.s0);
      await writeFile(file, new Uint8Array(2 ** 22));
      await must("cryptsetup", ...format, ...options, "--key-file", key, file);
      const disk = await use(engine, file);
      await using node = await openEncrypted(engine, plain, file);
      expect(isSame(await node.read(0, disk.length), disk)).toBe(true);
      await change(node, { state: "active", "new-secret": "s1", keyslot: 3 });
      await writeFile(key, secrets.s1);
      await must("cryptsetup", "open", "--test-passphrase", "--key-slot", "3", "--key-file", key, file);
    }),
  );
});

describe("key slots", () => {
  test("are added and erased by us, and the others agree", () =>
    withEngine(async (engine, path) => {
      const file = path("k.luks");
      const key = path("key");
      await createEncrypted(engine, plain, { filename: file, size: SIZE });
      const opens = async (secret: "s0" | "s1" | "s2"): Promise<boolean> => {
        await writeFile(key, secrets[secret]);
        const { code } = await tool("cryptsetup", "open", "--test-passphrase", "--key-file", key, file);
        const read = ["-r", "-c", "read 0 512", "--image-opts", imageOpts(plain, file, secret)];
        const theirs = await tool("qemu-io", ...objects, ...read);
        expect(theirs.code === 0).toBe(code === 0);
        return code === 0;
      };
      {
        await using node = await openEncrypted(engine, plain, file);
        await change(node, { state: "active", "new-secret": "s1" });
        await change(node, { state: "active", "new-secret": "s2", keyslot: 7 });
      }
      expect([await opens("s0"), await opens("s1"), await opens("s2")]).toEqual([true, true, true]);
      expect(await must("cryptsetup", "luksDump", file)).toMatch(/Key Slot 7: ENABLED/);
      {
        await using node = await openEncrypted(engine, plain, file, "s2");
        await change(node, { state: "inactive", "old-secret": "s0" });
        await change(node, { state: "inactive", keyslot: 1 });
        expect(await node.info()).toMatchObject({ encrypted: true, "format-specific": { type: "luks" } });
      }
      expect([await opens("s0"), await opens("s1"), await opens("s2")]).toEqual([false, false, true]);
    }));

  test("are added by qemu-img and used by us", () =>
    withEngine(async (engine, path) => {
      const file = path("k.luks");
      await createEncrypted(engine, plain, { filename: file, size: SIZE });
      const add = "state=active,new-secret=s1,iter-time=10";
      await must("qemu-img", "amend", ...objects, "-o", add, "--image-opts", imageOpts(plain, file));
      await using node = await openEncrypted(engine, plain, file, "s1");
      await change(node, { state: "inactive", "old-secret": "s0" });
      await node.close();
      await expect(openEncrypted(engine, plain, file)).rejects.toThrow(
        "Invalid password, cannot unlock any keyslot",
      );
    }));
});

describe("what both refuse, in the same words", () => {
  async function refusals(engine: Engine, file: string, secret: string): Promise<[string, string]> {
    const read = ["-r", "-c", "read 0 512", "--image-opts", imageOpts(plain, file, secret)];
    const { output } = await tool("qemu-io", ...objects, ...read);
    const ours = await openEncrypted(engine, plain, file, secret).then(
      (node) => node.close().then(() => "opened"),
      // The library names the file first.
      (error: Error) => error.message.replace(`Could not open '${file}': `, ""),
    );
    return [output.trim().replace("qemu-io: can't open: ", ""), ours];
  }

  test("wrong and missing secrets, damaged headers", () =>
    withEngine(async (engine, path) => {
      const file = path("d.luks");
      await createEncrypted(engine, plain, { filename: file, size: 4096 });
      for (const secret of ["s1", "nope"]) {
        const [theirs, ours] = await refusals(engine, file, secret);
        expect(ours).toBe(theirs);
      }
      const good = await readFile(file);
      const damages: readonly (readonly [number, string])[] = [
        [0, "X"],
        [7, "\x02"],
        [8, "twofish\0"],
        [8, "foo\0"],
        [40, "foo-plain64\0"],
        [40, "xts-essiv:sha1\0"],
        [72, "foo\0"],
        [104, "\0\0\0\x07"],
        [104, "\xff\xff\xff\xff"],
        [108, "\0\0\0\0"],
        [112, "wrong"],
        [164, "\0\0\0\0"],
        [208, "\0\0\0\x05"],
        [208, "\0\0\xde\xad"],
        [212, "\0\0\0\0"],
        [248, "\0\0\0\0"],
        [252, "\xff\xff\xff\xff"],
      ];
      for (const [offset, text] of damages) {
        const copy = Buffer.from(good);
        copy.write(text, offset, "latin1");
        await writeFile(file, copy);
        const [theirs, ours] = await refusals(engine, file, "s0");
        // QEMU opens ciphers that are not here, with a key that is wrong then.
        if (text === "twofish\0")
          expect(ours).toBe("Algorithm 'twofish' with key size 32 bytes not supported");
        else expect(ours, `${offset}: ${theirs}`).toBe(theirs);
      }
      for (const bytes of [0, 7, 100, 592, 5000, 300_000]) {
        await writeFile(file, good.subarray(0, bytes));
        const [theirs, ours] = await refusals(engine, file, "s0");
        if (bytes < 300_000) expect(ours, `${bytes}`).toBe(theirs);
        else expect(ours).toBe("Could not refresh total sector count: Input/output error");
      }
    }));
});

test("a volume is resized by us and by qemu-img", () =>
  withEngine(async (engine, path) => {
    const file = path("r.luks");
    await createEncrypted(engine, plain, { filename: file, size: SIZE });
    const disk = noise(SIZE, 3);
    {
      await using node = await openEncrypted(engine, plain, file);
      await node.write(0, disk);
      await node.release();
      const resizing = { perm: Perm.resize, shared: Perm.all };
      await engine.graph.withRoot(node.blockNode, resizing, (root) =>
        truncate(nodeOf(root.node), 2 * SIZE, { exact: true, preallocation: "off" }),
      );
    }
    const opts = ["--image-opts", imageOpts(plain, file)];
    expect(JSON.parse(await must("qemu-img", "info", "--output=json", file))).toMatchObject({
      "virtual-size": 2 * SIZE,
    });
    await must("qemu-img", "resize", ...objects, "--shrink", ...opts, String(SIZE));
    await using node = await openEncrypted(engine, plain, file);
    expect(node.length).toBe(SIZE);
    expect(isSame(await node.read(0, SIZE), disk)).toBe(true);
  }));
