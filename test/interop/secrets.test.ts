// Secrets that come encrypted under a master key (`keyid`, `iv`): what node:crypto encrypts, we and the real tools decrypt alike,
// so that one passphrase opens a volume for both; what both refuse is refused in the same words.
import { createCipheriv } from "node:crypto";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createEngine, createImage, type Engine, fileGate, nodeHost, openNode } from "../../src/node.ts";
import { noise } from "./support/encrypted.ts";
import { inDirectory, must, tool } from "./support/qcow2.ts";

const SIZE = 64 * 1024;
const master = Buffer.from(noise(32, 1));
const iv = Buffer.from(noise(16, 2));

interface Given {
  readonly key: string;
  readonly iv: string;
  readonly data: string;
}

function encrypted(passphrase: Uint8Array): Given {
  const cipher = createCipheriv("aes-256-cbc", master, iv);
  const data = Buffer.concat([cipher.update(passphrase), cipher.final()]).toString("base64");
  return { key: master.toString("base64"), iv: iv.toString("base64"), data };
}

/** The `--object` words of the real tools. */
function words(given: Given): string[] {
  const secret = `secret,id=s,keyid=m,format=base64,iv=${given.iv},data=${given.data}`;
  return ["--object", `secret,id=m,format=base64,data=${given.key}`, "--object", secret];
}

async function addSecrets(engine: Engine, { key, iv: vector, data }: Given): Promise<void> {
  const type = { "qom-type": "secret", format: "base64" } as const;
  await engine.objects.add({ ...type, id: "m", data: key });
  await engine.objects.add({ ...type, id: "s", keyid: "m", iv: vector, data });
}

function newEngine(): Engine {
  return createEngine({ gate: fileGate("local", nodeHost()) });
}

// Lengths below, at and above a block of the cipher: each has a padding of its own.
test.each([1, 15, 16, 17, 64])("a passphrase of %i bytes opens each other's volumes", (bytes) =>
  inDirectory(async (directory) => {
    await using engine = newEngine();
    // Passphrases are UTF-8 for both.
    const passphrase = noise(bytes, 3).map((byte) => 33 + (byte % 90));
    const given = encrypted(passphrase);
    await addSecrets(engine, given);
    // The same passphrase, told plainly to the other.
    const plain = `secret,id=p,format=base64,data=${Buffer.from(passphrase).toString("base64")}`;
    const file = { driver: "file", filename: join(directory, "a.luks") } as const;
    const volume = { driver: "luks", file, "key-secret": "s" } as const;
    await createImage({ ...volume, size: SIZE, "iter-time": 10 }, { engine });
    const write = ["-c", "write -P 0x5a 0 64k"];
    const named = (secret: string): string[] => [
      "--image-opts",
      `driver=luks,key-secret=${secret},file.filename=${file.filename}`,
    ];
    await must("qemu-io", ...words(given), ...write, ...named("s"));
    await must("qemu-io", "--object", plain, "-c", "read -P 0x5a 0 64k", ...named("p"));
    await using node = await openNode(volume, { engine });
    expect((await node.read(0, SIZE)).every((byte) => byte === 0x5a)).toBe(true);
  }),
);

const good = encrypted(noise(20, 3));
const long = Buffer.from(good.data, "base64");

test.each<[string, Given]>([
  ["a short IV", { ...good, iv: iv.subarray(1).toString("base64") }],
  ["a short key", { ...good, key: master.subarray(1).toString("base64") }],
  ["data that is no whole blocks", { ...good, data: long.subarray(1).toString("base64") }],
  ["the wrong key", { ...good, key: Buffer.from(noise(32, 5)).toString("base64") }],
])("%s is refused in the same words", async (_name, given) => {
  await using engine = newEngine();
  const theirs = await tool(
    "qemu-img",
    "create",
    ...words(given),
    "-f",
    "luks",
    "-o",
    "key-secret=s",
    "x",
    "1k",
  );
  const ours = await addSecrets(engine, given).then(
    () => "taken",
    (error: Error) => error.message,
  );
  expect(theirs.code).not.toBe(0);
  expect(ours).toBe(theirs.output.trim().replace("qemu-img: ", ""));
});
