// The header: what is written is read back, and each broken field is refused by name in QEMU's words.
import { expect, test } from "vitest";
import { ImageError } from "../../../../../src/base/errors.ts";
import {
  type Header,
  parseHeader,
  serializeHeader,
  setBackingFormat,
  virtualSize,
  checkSnapshotPlace,
} from "../../../../../src/drivers/format/qcow2/disk/header.ts";
import {
  Extension,
  knownFeatures,
  serializeFeatureNames,
} from "../../../../../src/drivers/format/qcow2/disk/header-extensions.ts";

function valid(): Header {
  return {
    version: 3,
    backingFile: "base.raw",
    backingFormat: undefined,
    backingOffset: 0,
    clusterBits: 16,
    size: 10 * 2 ** 20,
    cryptMethod: 0,
    l1Size: 1,
    l1Offset: 3 * 65536,
    refcountTableOffset: 65536,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible: 0n,
    compatible: 1n,
    autoclear: 0n,
    refcountOrder: 4,
    compressionType: 0,
    headerLength: 112,
    unknownFields: new Uint8Array(0),
    extensions: [
      { type: Extension.featureNames, data: serializeFeatureNames(knownFeatures) },
      { type: 0x12345678, data: Uint8Array.of(1, 2, 3, 4, 5) },
    ],
  };
}

function image(header: Header = valid()): Uint8Array {
  const cluster = new Uint8Array(65536);
  cluster.set(serializeHeader(header).bytes);
  return cluster;
}

function changed(at: number, ...bytes: number[]): Uint8Array {
  const cluster = image();
  cluster.set(bytes, at);
  return cluster;
}

test("a backing format that no header may hold is refused before it is written, as it is when it is read", () => {
  const header = valid();
  setBackingFormat(header, "x".repeat(15));
  expect(parseHeader(image(header)).backingFormat).toHaveLength(15);
  expect(() => setBackingFormat(header, "copy-before-write")).toThrow(
    "ERROR: ext_backing_format: len=17 too large (>=16)",
  );
  expect(header.backingFormat).toHaveLength(15);
});

test("what was written is read back, unknown extensions included", () => {
  const header = valid();
  setBackingFormat(header, "raw");
  const parsed = parseHeader(image(header));
  expect(parsed.backingFile).toBe("base.raw");
  expect(parsed.backingFormat).toBe("raw");
  expect(parsed.extensions.map(({ type }) => type)).toEqual([
    Extension.backingFormat,
    Extension.featureNames,
    0x12345678,
  ]);
  expect([...parsed.extensions[2]!.data]).toEqual([1, 2, 3, 4, 5]);
  expect({ ...parsed, extensions: [], backingOffset: 0 }).toEqual({
    ...header,
    extensions: [],
    backingOffset: 0,
  });
  expect(image(parsed)).toEqual(image(header));
});

test("a version 2 header has 16-bit refcounts and no feature bits", () => {
  const parsed = parseHeader(
    image({ ...valid(), version: 2, compatible: 0n, headerLength: 72, extensions: [] }),
  );
  expect(parsed).toMatchObject({ version: 2, refcountOrder: 4, incompatible: 0n, headerLength: 72 });
});

test("the virtual size is in whole sectors", () => {
  expect(virtualSize({ ...valid(), size: 1000 })).toBe(512);
});

const refused: [string, Uint8Array, string, string][] = [
  ["magic", changed(0, 0x58), "magic", "Image is not in qcow2 format"],
  ["version", changed(7, 4), "version", "Unsupported qcow2 version 4"],
  ["tiny clusters", changed(23, 7), "cluster_bits", "Unsupported cluster size: 2^7"],
  ["huge clusters", changed(23, 22), "cluster_bits", "Unsupported cluster size: 2^22"],
  ["encryption", changed(35, 5), "crypt_method", "Unsupported encryption method 5"],
  ["LUKS", changed(35, 2), "crypt_method", "Missing CRYPTO header for crypt method 2"],
  ["L1 too large", changed(36, 1), "l1_table_offset", "Active L1 table too large"],
  ["L1 too small", changed(39, 0), "l1_size", "L1 table is too small"],
  ["L1 unaligned", changed(46, 1, 1), "l1_table_offset", "Active L1 table offset invalid"],
  ["L1 far away", changed(40, 0x7f), "l1_table_offset", "Active L1 table offset invalid"],
  [
    "refcount table unaligned",
    changed(55, 1),
    "refcount_table_offset",
    "Reference count table offset invalid",
  ],
  [
    "no refcount table",
    changed(59, 0),
    "refcount_table_clusters",
    "Image does not contain a reference count table",
  ],
  ["large refcount table", changed(56, 1), "refcount_table_offset", "Reference count table too large"],
  ["snapshots", changed(60, 1), "nb_snapshots", "Snapshot table too large"],
  ["snapshot offset", changed(71, 1), "snapshots_offset", "Snapshot table offset invalid"],
  [
    "unknown bit",
    changed(72, 0x80),
    "incompatible_features",
    "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000",
  ],
  ["tiny subclusters", changed(79, 16).fill(13, 23, 24), "cluster_bits", "Unsupported subcluster size: 256"],
  [
    "refcount width",
    changed(99, 7),
    "refcount_order",
    "Reference count entry width too large; may not exceed 64 bits",
  ],
  ["short header", changed(103, 72), "header_length", "qcow2 header too short"],
  ["long header", changed(101, 2), "header_length", "qcow2 header exceeds cluster size"],
  [
    "compression type",
    changed(104, 1),
    "compression_type",
    "qcow2: Compression type incompatible feature bit must be set",
  ],
  ["backing offset", changed(11, 1), "backing_file_offset", "Invalid backing file offset"],
  ["backing length", changed(18, 4, 1), "backing_file_size", "Backing file name too long"],
  ["size", changed(24, 0x7f), "size", "Image is too big"],
  ["extension", changed(116, 0x7f), "length", "Header extension too large"],
];

for (const [name, cluster, field, message] of refused) {
  test(`refused by name: ${name}`, () => {
    let thrown: unknown;
    try {
      checkSnapshotPlace(parseHeader(cluster));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ImageError);
    expect((thrown as ImageError).message).toBe(message);
    expect((thrown as ImageError).field).toBe(field);
  });
}

test("an unknown bit that the image names is refused by that name", () => {
  const names = serializeFeatureNames([{ type: 0, bit: 9, name: "time travel" }]);
  const header = {
    ...valid(),
    incompatible: 1n << 9n,
    extensions: [{ type: Extension.featureNames, data: names }],
  };
  expect(() => parseHeader(image(header))).toThrow("Unsupported qcow2 feature(s): time travel");
});

test("an L1 table on the refcount table is refused", () => {
  expect(() => parseHeader(image({ ...valid(), l1Offset: 65536 }))).toThrow("overlaps");
});
