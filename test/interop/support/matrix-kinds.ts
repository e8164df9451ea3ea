// The table of the matrix: every kind of image is a set of options with a history. To add a format or an option, add a row
// to `images`; which histories it can't have is said by its flags.
import type { BlockGraph } from "../../../src/block/graph.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** An image as the real tools and we create and open it. */
export interface ImageOptions {
  /** Speaking. */
  readonly name: string;
  readonly driver: string;
  /** Options of its creation as QAPI has them (`cluster-size`, nested objects); `-o` is derived from them. */
  readonly create: Readonly<Record<string, unknown>>;
  /** Options of opening it, as QAPI has them; `--image-opts` is derived from them. */
  readonly open?: Readonly<Record<string, unknown>>;
  /** `--object` arguments of the real tools. */
  readonly objects?: readonly string[];
  /** Readies our graph: what `objects` is to the real tools. */
  readonly prepare?: (graph: BlockGraph) => void | Promise<void>;
  /** Data lies in a file of its own, raw or not. */
  readonly dataFile?: "plain" | "raw";
  /** Unit of discards and compressed writes, bytes. */
  readonly clusterSize: number;
  /** Everything is written compressed where that can be. */
  readonly compressed?: boolean;
  /** What the format can have. */
  readonly snapshots: boolean;
  readonly backing: boolean;
  /** Discards let a longer backing file shine through, or do nothing (version 2). */
  readonly vagueDiscard?: boolean;
  /** Takes 4 TiB without tables of many megabytes. */
  readonly huge?: boolean;
  /** Gets every history; others get three. */
  readonly core?: boolean;
}

/** What happens to an image; see matrix.ts. */
export type History = (typeof histories)[number]["name"];

/** One kind. */
export interface Kind {
  readonly name: string;
  readonly image: ImageOptions;
  readonly history: History;
  readonly size: number;
}

function qcow2(
  name: string,
  create: Record<string, unknown>,
  more: Partial<ImageOptions> = {},
): ImageOptions {
  const clusterSize = Number(create["cluster-size"] ?? 64 * KiB);
  const bits = Number(create["refcount-bits"] ?? 16);
  const preallocated = create["preallocation"] !== undefined;
  return {
    name: `qcow2, ${name}`,
    driver: "qcow2",
    create,
    clusterSize,
    snapshots: more.dataFile === undefined && bits >= 8,
    backing: more.dataFile !== "raw" && (!preallocated || create["extended-l2"] === true),
    vagueDiscard: create["version"] === "v2",
    huge: clusterSize >= 64 * KiB && !preallocated && more.dataFile !== "raw",
    ...more,
  };
}

function raw(name: string, create: Record<string, unknown>, more: Partial<ImageOptions> = {}): ImageOptions {
  return { name, driver: "raw", create, clusterSize: 4096, snapshots: false, backing: false, ...more };
}

const core = { core: true } as const;
const sizes = [1024, 2048, 8192, 16384, 32768, 128 * KiB, 256 * KiB, 512 * KiB, MiB];

const images: readonly ImageOptions[] = [
  raw("raw", {}, { ...core, huge: true }),
  raw("raw, preallocation falloc", { preallocation: "falloc" }),
  raw("raw, preallocation full", { preallocation: "full" }),
  qcow2("version 3", {}, core),
  qcow2("version 2", { version: "v2" }, core),
  qcow2("version 2, clusters of 512", { version: "v2", "cluster-size": 512 }),
  qcow2("version 2, clusters of 2 MiB", { version: "v2", "cluster-size": 2 * MiB }),
  qcow2("clusters of 512", { "cluster-size": 512 }, core),
  qcow2("clusters of 4096", { "cluster-size": 4096 }, core),
  qcow2("clusters of 2 MiB", { "cluster-size": 2 * MiB }, core),
  ...sizes.map((size) => qcow2(`clusters of ${size}`, { "cluster-size": size })),
  ...[1, 2, 4, 8, 32, 64].map((bits) =>
    qcow2(`refcounts of ${bits} bits`, { "refcount-bits": bits, "cluster-size": 4096 }),
  ),
  qcow2("subclusters", { "extended-l2": true }, core),
  ...[16 * KiB, 128 * KiB, 2 * MiB].map((size) =>
    qcow2(`subclusters of ${size / 32}`, { "extended-l2": true, "cluster-size": size }),
  ),
  qcow2("data file", { "cluster-size": 16 * KiB }, { ...core, dataFile: "plain" }),
  qcow2("raw data file", { "cluster-size": 16 * KiB }, { ...core, dataFile: "raw" }),
  qcow2("data file, subclusters", { "extended-l2": true }, { dataFile: "plain" }),
  qcow2("raw data file, subclusters", { "extended-l2": true }, { dataFile: "raw" }),
  qcow2("zlib", { "cluster-size": 16 * KiB }, { ...core, compressed: true }),
  qcow2("zlib, version 2", { version: "v2" }, { compressed: true }),
  qcow2("zlib, clusters of 512", { "cluster-size": 512 }, { compressed: true }),
  qcow2("zlib, subclusters", { "extended-l2": true }, { compressed: true }),
  qcow2("zstd", { "compression-type": "zstd" }, { ...core, compressed: true }),
  qcow2("zstd, clusters of 4096", { "compression-type": "zstd", "cluster-size": 4096 }, { compressed: true }),
  qcow2(
    "zstd, clusters of 2 MiB",
    { "compression-type": "zstd", "cluster-size": 2 * MiB },
    { compressed: true },
  ),
  qcow2("lazy refcounts", { "lazy-refcounts": true, "cluster-size": 8 * KiB }, core),
  qcow2("preallocation metadata", { preallocation: "metadata", "cluster-size": 16 * KiB }, core),
  qcow2("preallocation falloc", { preallocation: "falloc", "cluster-size": 4096 }),
  qcow2("preallocation full", { preallocation: "full" }),
  qcow2("preallocation metadata, subclusters", { preallocation: "metadata", "extended-l2": true }),
];

/** A tail of three sectors, so that no size is whole clusters. */
const usual = 4 * MiB + 3 * 512;

const histories = [
  { name: "fresh", takes: always, everyone: false },
  { name: "rewritten at random", takes: always, everyone: true },
  { name: "discarded", takes: always, everyone: true },
  { name: "snapshotted", takes: (image: ImageOptions) => image.snapshots, everyone: true },
  { name: "a snapshot applied", takes: (image: ImageOptions) => image.snapshots, everyone: false },
  { name: "grown", takes: always, everyone: false },
  {
    name: "grown with preallocation",
    takes: (image: ImageOptions) => image.driver !== "raw",
    everyone: false,
  },
  { name: "shrunk and grown again", takes: always, everyone: true },
  { name: "chained nine deep", takes: (image: ImageOptions) => image.backing, everyone: false },
  { name: "over a shorter backing file", takes: (image: ImageOptions) => image.backing, everyone: false },
  { name: "over a longer backing file", takes: (image: ImageOptions) => image.backing, everyone: true },
  { name: "of 512 bytes", takes: always, everyone: false },
  { name: "of 4 TiB", takes: (image: ImageOptions) => image.huge === true, everyone: false },
] as const;

function always(): boolean {
  return true;
}

function sizeOf(image: ImageOptions, history: History): number {
  if (history === "of 512 bytes") return 512;
  if (history === "of 4 TiB") return 4 * 2 ** 40;
  return image.clusterSize >= MiB ? usual + 5 * MiB : usual;
}

/** All kinds: images with the histories that they can have. */
export const kinds: readonly Kind[] = images.flatMap((image) =>
  histories
    .filter(({ takes, everyone }) => takes(image) && (image.core === true || everyone))
    .map(({ name: history }) => ({
      name: `${image.name}, ${history}`,
      image,
      history,
      size: sizeOf(image, history),
    })),
);
