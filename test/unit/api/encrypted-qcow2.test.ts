// Encrypted qcow2 images in memory over the browser's Host, in Node and in Chromium: what is written is read again with
// the secret, is not to be seen in the storage, and is refused without it. Beside the real tools: test/interop/qcow2-luks.
import { expect, test } from "vitest";
import { createEngine, createImage, openNode } from "../../../src/browser.ts";
import { pattern } from "../support/graph.ts";

const MiB = 2 ** 20;
const secrets = { right: "open sesame", wrong: "open barley" };

test.each([
  { format: "luks", make: { format: "luks", "key-secret": "right", "iter-time": 1 } },
  { format: "aes", make: { format: "qcow", "key-secret": "right" } },
] as const)("qcow2 with $format keeps what is written for those who have the secret", async (kind) => {
  await using engine = createEngine({ secrets, arenaBytes: 16 * MiB });
  await engine.graph.add({ driver: "memory", "node-name": "store", size: 0 });
  await createImage({ driver: "qcow2", file: "store", size: 4 * MiB, encrypt: kind.make }, { engine });
  const open = (secret: string): ReturnType<typeof openNode> => {
    const encrypt = { format: kind.format, "key-secret": secret };
    return openNode({ driver: "qcow2", file: "store", encrypt }, { engine });
  };
  const data = pattern(200_000, 3);
  {
    await using disk = await open("right");
    await disk.write(MiB + 100, data);
  }
  {
    await using disk = await open("right");
    expect(await disk.read(MiB + 100, data.length)).toEqual(data);
    expect((await disk.read(0, 65536)).every((byte) => byte === 0)).toBe(true);
  }
  // The old AES has no way to tell a wrong key; it shows noise.
  if (kind.format === "luks") {
    await expect(open("wrong")).rejects.toThrow("Invalid password");
  } else {
    await using disk = await open("wrong");
    expect(await disk.read(MiB + 100, data.length)).not.toEqual(data);
  }
  await using store = await openNode({ driver: "raw", file: "store" }, { engine });
  const stored = await store.read(0, store.length);
  const needle = data.subarray(1000, 1016);
  for (let at = 0; at + 16 <= stored.length; at++)
    if (stored[at] === needle[0] && needle.every((byte, i) => stored[at + i] === byte))
      expect.fail(`the content lies open at ${at}`);
});
