// IndexedDB and the browser's quota. In a file of its own, since the browser may go on for half a minute by how much room there
// was when a page has used it.
import { afterEach, expect, test } from "vitest";
import { cdp } from "vitest/browser";
import { createEngine, createImage, openNode, removeImage } from "../../src/browser.ts";

const MiB = 1024 * 1024;
const file = { driver: "indexeddb", filename: "tests/quota" } as const;
const raw = { driver: "raw", file } as const;

/** Chromium's own quota for this origin, bytes; undefined: as it was. */
async function setQuota(quotaSize?: number): Promise<void> {
  const session = cdp() as { send(method: string, params: object): Promise<unknown> };
  const { origin } = location;
  await session.send(
    "Storage.overrideQuotaForOrigin",
    quotaSize === undefined ? { origin } : { origin, quotaSize },
  );
}

afterEach(() => setQuota());

test("a used up quota is ENOSPC and changes nothing; then there is room again", async () => {
  await using engine = createEngine();
  await setQuota(24 * MiB);
  await createImage({ ...raw, size: 64 * MiB }, { engine });
  const disk = await openNode({ ...raw, discard: "unmap" }, { engine });
  await disk.write(0, new Uint8Array(MiB).fill(1));
  // The browser compresses what it can.
  const noise = new Uint8Array(32 * MiB);
  for (let at = 0; at < noise.byteLength; at += 65_536)
    crypto.getRandomValues(noise.subarray(at, at + 65_536));
  const write = (): Promise<unknown> => disk.write(8 * MiB, noise).catch((error: unknown) => error);
  await expect.poll(write, { interval: 1000 }).toMatchObject({ code: "ENOSPC" });
  await disk.discard(8 * MiB, 32 * MiB);
  expect(await disk.read(8 * MiB, 4)).toEqual(new Uint8Array(4));
  expect(await disk.read(MiB - 2, 4)).toEqual(Uint8Array.of(1, 1, 0, 0));
  await setQuota();
  await disk.write(8 * MiB, noise);
  expect(await disk.read(9 * MiB, 4)).toEqual(noise.slice(MiB, MiB + 4));
  await disk.close();
  await removeImage(file, { engine });
});
