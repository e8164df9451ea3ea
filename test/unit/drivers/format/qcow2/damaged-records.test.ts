// Records of a header and of the directory of bitmaps: what is written is read back, and each wrong field is refused by its name.
import { describe, expect, test } from "vitest";
import {
  type DirectoryEntry,
  parseDirectory,
  serializeDirectory,
} from "../../../../../src/drivers/format/qcow2/disk/bitmap-directory.ts";
import {
  parseCryptoHeader,
  serializeCryptoHeader,
} from "../../../../../src/drivers/format/qcow2/disk/crypto-header.ts";
import {
  parseExtensions,
  parseFeatureNames,
  serializeExtensions,
  withFeatureNames,
} from "../../../../../src/drivers/format/qcow2/disk/header-extensions.ts";

const CLUSTER = 65_536;
const DISK = 2 ** 30;

describe("the directory of bitmaps", () => {
  const entry: DirectoryEntry = {
    tableOffset: 3 * CLUSTER,
    tableEntries: 1,
    flags: 2,
    granularityBits: 16,
    name: "nightly",
  };
  const read = (bytes: Uint8Array, count = 1) =>
    parseDirectory(bytes, { count, clusterSize: CLUSTER, diskBytes: DISK });
  const changed = (...patches: [at: number, ...bytes: number[]][]): Uint8Array => {
    const bytes = serializeDirectory([entry]);
    for (const [at, ...values] of patches) bytes.set(values, at);
    return bytes;
  };

  test("is read as it was written", () => {
    const two = [entry, { ...entry, name: "b", granularityBits: 20 }];
    expect(read(serializeDirectory(two), 2)).toEqual(two);
    expect(read(new Uint8Array(0), 0)).toEqual([]);
  });

  const unfit = "Bitmap 'nightly' doesn't satisfy the constraints";
  test.each<[string, Uint8Array, string, number?]>([
    ["more than the header counts", changed(), "More bitmaps found than specified in header extension", 0],
    ["fewer", changed(), "Less bitmaps found than specified in header extension", 2],
    ["cut within an entry", changed().subarray(0, 16), "Broken bitmap directory"],
    ["a name beyond the end", changed([18, 1, 0]), "Broken bitmap directory"],
    ["extra data", changed([18, 0, 1], [20, 0, 0, 0, 6]), "Bitmap extra data is not supported"],
    ["another type", changed([16, 2]), unfit],
    ["no name", changed([18, 0, 0]).subarray(0, 24), "Bitmap '' doesn't satisfy the constraints"],
    ["flags that there are not", changed([12, 0, 0, 0, 8]), unfit],
    ["a granularity too fine", changed([17, 8]), unfit],
    ["a granularity too coarse", changed([17, 32]), unfit],
    ["no table", changed([0, 0, 0, 0, 0, 0, 0, 0, 0]), unfit],
    ["a table out of line", changed([7, 1]), unfit],
    ["an empty table", changed([8, 0, 0, 0, 0]), unfit],
    ["a table too long", changed([8, 255, 255, 255, 255]), unfit],
  ])("%s", (_what, bytes, message, count = 1) => {
    expect(() => read(bytes, count)).toThrow(message);
  });

  test("a table too short for the disk, unless nobody knows what it holds", () => {
    const fine = serializeDirectory([{ ...entry, granularityBits: 9 }]);
    expect(() => parseDirectory(fine, { count: 1, clusterSize: CLUSTER, diskBytes: 2 ** 40 })).toThrow(unfit);
    const used = serializeDirectory([{ ...entry, granularityBits: 9, flags: 3 }]);
    expect(parseDirectory(used, { count: 1, clusterSize: CLUSTER, diskBytes: 2 ** 40 })).toHaveLength(1);
  });
});

describe("where the encryption's header lies", () => {
  const place = { offset: 4 * CLUSTER, bytes: 2_068_480 };

  test("is read as it was written", () => {
    expect(parseCryptoHeader(serializeCryptoHeader(place), CLUSTER)).toEqual(place);
  });

  test.each<[string, Uint8Array, string]>([
    ["another length", new Uint8Array(15), "CRYPTO header extension size 15, but expected size 16"],
    [
      "out of line",
      serializeCryptoHeader({ ...place, offset: 512 }),
      "Encryption header offset '512' is not a multiple of cluster size '65536'",
    ],
    ["beyond any file", serializeCryptoHeader({ ...place, offset: 2 ** 60 }), "Volume is not in LUKS format"],
  ])("%s", (_what, data, message) => {
    expect(() => parseCryptoHeader(data, CLUSTER)).toThrow(message);
  });
});

describe("header extensions", () => {
  const records = [
    { type: 0x12345678, data: Uint8Array.of(1, 2, 3) },
    { type: 0x6803f857, data: new Uint8Array(48) },
  ];
  const bytes = serializeExtensions(records);

  test("are read as they were written, up to the end mark", () => {
    expect(parseExtensions(bytes, { from: 0, to: bytes.length })).toEqual(records);
    expect(parseExtensions(bytes, { from: bytes.length, to: bytes.length })).toEqual([]);
  });

  test("that end behind their place, or whose head does", () => {
    for (const to of [4, 10, 20])
      expect(() => parseExtensions(bytes, { from: 0, to }), String(to)).toThrow("Header extension too large");
  });

  test("of names: what is cut, and what has no name, ends the table", () => {
    const named = withFeatureNames([], true);
    expect(withFeatureNames(named, false)).toEqual([]);
    const { data } = named[0]!;
    const all = parseFeatureNames(data);
    expect(all.length).toBeGreaterThan(5);
    const cut = parseFeatureNames(data.subarray(0, 48 + 10));
    expect(cut).toEqual([all[0], { ...all[1]!, name: all[1]!.name.slice(0, 8) }]);
    const ended = data.slice();
    ended.fill(0, 48 + 2, 96);
    expect(parseFeatureNames(ended)).toEqual([all[0]]);
    const full = data.slice(0, 48).fill(0x61, 2);
    expect(parseFeatureNames(full)[0]?.name).toBe("a".repeat(46));
  });
});
