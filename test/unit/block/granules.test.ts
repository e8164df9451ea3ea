// What a failed piece is split into: every granule that fails, alone, and nothing else.
import { describe, expect, test } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";
import { blockError } from "../../../src/base/errors.ts";
import type { Errno } from "../../../src/base/errno.ts";
import type { ByteRange } from "../../../src/base/ranges.ts";
import { failedGranules } from "../../../src/block/copy/pieces.ts";

/** Granules of ten bytes; those in `bad` fail with their errno. Notes what was copied and what was tried. */
function disk(bad: ReadonlyMap<number, Errno>): {
  copied: Set<number>;
  tries: ByteRange[];
  copy: (part: ByteRange) => void;
} {
  const copied = new Set<number>();
  const tries: ByteRange[] = [];
  const copy = (part: ByteRange): void => {
    tries.push(part);
    const bytes = Array.from({ length: part.bytes }, (_, i) => part.offset + i);
    for (const [granule, code] of bad)
      if (bytes.some((at) => Math.floor(at / 10) === granule)) throw blockError(code, "pread");
    for (const at of bytes) copied.add(at);
  };
  return { copied, tries, copy };
}

const error = blockError("EIO", "pread");
const always = (): boolean => true;

describe("a failed piece", () => {
  test.each([
    [[3], [[30, 10]]],
    [[0], [[5, 5]]],
    [[9], [[90, 7]]],
    [
      [2, 7],
      [
        [20, 10],
        [70, 10],
      ],
    ],
    [[4, 5, 6], [[40, 30]]],
    [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [[5, 92]]],
  ])("with the granules %j bad leaves just these", async (bad, expected) => {
    const { copied, copy } = disk(new Map(bad.map((granule) => [granule, "EIO"])));
    const failed = await failedGranules({ offset: 5, bytes: 92 }, error, {
      granule: 10,
      copy,
      goesOn: always,
    });
    expect(failed.map(({ offset, bytes }) => [offset, bytes])).toEqual(expected);
    for (let at = 5; at < 97; at++)
      expect([at, copied.has(at)]).toEqual([at, !bad.includes(Math.floor(at / 10))]);
  });

  test("tells errors of two kinds side by side as two", async () => {
    const { copy } = disk(
      new Map<number, Errno>([
        [1, "EIO"],
        [2, "ENOSPC"],
      ]),
    );
    const failed = await failedGranules({ offset: 0, bytes: 80 }, error, {
      granule: 10,
      copy,
      goesOn: always,
    });
    expect(failed).toMatchObject([
      { offset: 10, bytes: 10, error: { code: "EIO" } },
      { offset: 20, bytes: 10, error: { code: "ENOSPC" } },
    ]);
  });

  test("is searched in steps that grow with the logarithm of its granules", async () => {
    const { tries, copy } = disk(new Map([[777, "EIO"]]));
    await failedGranules({ offset: 0, bytes: 10_240 }, error, { granule: 10, copy, goesOn: always });
    expect(tries).toHaveLength(20);
  });

  test("whose error does not come again is told whole, with the error that it had", async () => {
    const { copy } = disk(new Map());
    const failed = await failedGranules({ offset: 0, bytes: 80 }, error, {
      granule: 10,
      copy,
      goesOn: always,
    });
    expect(failed).toEqual([{ offset: 0, bytes: 80, error }]);
  });

  test.each<Errno>(["ECONNRESET", "EPERM", "ENOMEDIUM", "ETIMEDOUT"])(
    "is not split for %s, which is of no place",
    async (code) => {
      const { tries, copy } = disk(new Map([[1, code]]));
      const first = blockError(code, "pread");
      const piece = { offset: 0, bytes: 80 };
      expect(await failedGranules(piece, first, { granule: 10, copy, goesOn: always })).toEqual([
        { ...piece, error: first },
      ]);
      expect(tries).toEqual([]);
    },
  );

  test("is not tried again once nothing goes on: what was not tried counts as failed", async () => {
    const { tries, copy } = disk(
      new Map([
        [0, "EIO"],
        [7, "EIO"],
      ]),
    );
    const goesOn = (): boolean => tries.length < 3;
    const failed = await failedGranules({ offset: 0, bytes: 80 }, error, { granule: 10, copy, goesOn });
    expect(tries).toHaveLength(3);
    expect(failed.map(({ offset, bytes }) => [offset, bytes])).toEqual([[0, 80]]);
  });

  test("hands a broken invariant on at once", async () => {
    const broken = new AssertionError("the books don't balance");
    let tries = 0;
    const copy = (): void => {
      tries += 1;
      throw broken;
    };
    const search = { granule: 10, copy, goesOn: always };
    await expect(failedGranules({ offset: 0, bytes: 80 }, error, search)).rejects.toBe(broken);
    expect(tries).toBe(1);
    await expect(failedGranules({ offset: 0, bytes: 80 }, broken, search)).rejects.toBe(broken);
    expect(tries).toBe(1);
  });
});
