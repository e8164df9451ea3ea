// A conversion in a page whose checkpoint lies in IndexedDB: what an engine leaves that is gone, another one goes on with.
import { expect, test } from "vitest";
import { convert, createEngine, createImage, openNode, removeImage, resumeJob } from "../../src/browser.ts";

const MiB = 1024 * 1024;
const SIZE = 8 * MiB;
const source = { driver: "raw", file: { driver: "indexeddb", filename: "tests/checkpoint-source" } } as const;
const target = { driver: "raw", file: { driver: "indexeddb", filename: "tests/checkpoint-target" } } as const;
const checkpoint = { driver: "indexeddb", filename: "tests/checkpoint" } as const;

function content(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SIZE);
  new Uint32Array(bytes.buffer).forEach((_word, at, words) => (words[at] = Math.imul(at + 1, 2654435761)));
  return bytes;
}

test("a checkpoint in IndexedDB: the next page goes on with what is left, and refuses what was changed", async () => {
  {
    await using engine = createEngine();
    for (const disk of [source, target])
      await createImage({ ...disk, size: SIZE }, { engine, overwrite: true });
    const [from, to] = [await openNode(source, { engine }), await openNode(target, { engine })];
    await from.write(0, content());
    await from.flush();
    const over = new AbortController();
    const onProgress = (done: number): void => {
      if (done >= 3 * MiB) over.abort(new Error("the page goes"));
    };
    const options = { checkpoint, speedBytesPerSecond: 8 * MiB, onProgress, signal: over.signal };
    await expect(convert(from, to, options)).rejects.toThrow("the page goes");
  }
  {
    await using engine = createEngine();
    const told: number[] = [];
    const [from, to] = [await openNode(source, { engine }), await openNode(target, { engine })];
    // Nobody can say whether the source was changed, so it is compared where it was copied.
    await from.write(512, Uint8Array.of(1, 2, 3));
    await expect(resumeJob(checkpoint, { engine, source: from, target: to })).rejects.toMatchObject({
      code: "ESTALE",
    });
    await from.write(0, content());
    await convert(from, to, { checkpoint, onProgress: (done) => told.push(done) });
    expect(told[0], "what was copied is not copied again").toBeGreaterThanOrEqual(2 * MiB);
    const wanted = content();
    expect((await to.read(0, SIZE)).every((byte, at) => byte === wanted[at])).toBe(true);
    await expect(resumeJob(checkpoint, { engine })).rejects.toMatchObject({ code: "ENOENT" });
  }
  await using engine = createEngine();
  for (const { file } of [source, target]) await removeImage(file, { engine });
});
