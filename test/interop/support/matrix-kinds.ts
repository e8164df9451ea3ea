// The table of the matrix: every kind of image is a set of options with a history. To add a format or an option, add a row
// to `images`; which histories it can't have is said by its flags.
import type { BlockGraph } from "../../../src/block/graph/graph.ts";
import { luks as luksDriver } from "../../../src/drivers/format/luks/index.ts";
import { secrets, secretWords } from "./encrypted.ts";

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
  /** What never was written is noise: all of it (luks, where discards do nothing), or what is allocated ahead. */
  readonly noise?: "all" | "preallocated";
  /** Takes 4 TiB without tables of many megabytes. */
  readonly huge?: boolean;
  /** Gets every history; others get three. */
  readonly core?: boolean;
  /** Gets these of the histories. Real tools take a second of computing to make a LUKS header. */
  readonly only?: readonly History[];
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

/** What an image needs that is opened with the secret s0. */
const withSecrets: Pick<ImageOptions, "objects" | "prepare"> = {
  objects: secretWords,
  prepare: (graph) => {
    graph.register(luksDriver);
    const utf8 = new TextEncoder();
    for (const [id, data] of Object.entries(secrets)) graph.secrets.set(id, utf8.encode(data));
  },
};
const key = { "key-secret": "s0" };
const slow = { ...key, "iter-time": 10 };

function luks(name: string, only: readonly History[], create: Record<string, unknown> = {}): ImageOptions {
  const format = { driver: "luks", snapshots: false, backing: false, clusterSize: 512 };
  const options = { create: { ...slow, ...create }, open: key, noise: "all", only } as const;
  return { name: `luks, ${name}`, ...format, ...options, ...withSecrets };
}

/** An encrypted qcow2 image; `encrypt` goes into the options of its creation. */
function encrypted(
  name: string,
  only: readonly History[],
  create: Record<string, unknown>,
  encrypt: Record<string, unknown> = {},
): ImageOptions {
  const format = encrypt["format"] === "qcow" ? "aes" : "luks";
  const options = { ...create, encrypt: format === "aes" ? encrypt : { format, ...slow, ...encrypt } };
  const open = { encrypt: { format, ...key } };
  return qcow2(`${format}, ${name}`, options, { open, only, noise: "preallocated", ...withSecrets });
}

const aes = { format: "qcow", ...key };
const cbc = { "cipher-mode": "cbc", "ivgen-alg": "essiv", "ivgen-hash-alg": "sha256" };
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
  luks("xts plain64 sha256", [
    "fresh",
    "rewritten at random",
    "grown",
    "shrunk and grown again",
    "of 512 bytes",
  ]),
  luks("aes-128 cbc essiv sha1", ["rewritten at random", "shrunk and grown again"], {
    ...cbc,
    "cipher-alg": "aes-128",
    "hash-alg": "sha1",
  }),
  luks("cbc plain sha512", ["rewritten at random"], {
    "cipher-mode": "cbc",
    "ivgen-alg": "plain",
    "hash-alg": "sha512",
  }),
  luks("aes-128 xts plain", ["rewritten at random"], { "cipher-alg": "aes-128", "ivgen-alg": "plain" }),
  encrypted(
    "clusters of 64 KiB",
    ["fresh", "snapshotted", "discarded", "grown with preallocation", "over one of its kind"],
    {},
  ),
  encrypted(
    "clusters of 512",
    ["rewritten at random", "a snapshot applied", "over a shorter backing file"],
    { "cluster-size": 512 },
    { "cipher-alg": "aes-128", "hash-alg": "sha1" },
  ),
  encrypted(
    "clusters of 4096, cbc essiv sha512",
    ["rewritten at random", "shrunk and grown again"],
    { "cluster-size": 4096 },
    { ...cbc, "hash-alg": "sha512" },
  ),
  encrypted("clusters of 2 MiB", ["snapshotted", "shrunk and grown again"], { "cluster-size": 2 * MiB }),
  encrypted("subclusters", ["discarded", "over a longer backing file"], { "extended-l2": true }),
  encrypted("clusters of 64 KiB", ["rewritten at random", "snapshotted", "chained nine deep"], {}, aes),
  encrypted(
    "version 2, clusters of 512",
    ["discarded", "over a longer backing file"],
    { version: "v2", "cluster-size": 512 },
    aes,
  ),
];

/** A tail of three sectors, so that no size is whole clusters. */
const usual = 4 * MiB + 3 * 512;

const histories = [
  { name: "fresh", takes: always, everyone: false },
  { name: "rewritten at random", takes: always, everyone: true },
  { name: "discarded", takes: (image: ImageOptions) => image.noise !== "all", everyone: true },
  { name: "snapshotted", takes: (image: ImageOptions) => image.snapshots, everyone: true },
  { name: "a snapshot applied", takes: (image: ImageOptions) => image.snapshots, everyone: false },
  { name: "grown", takes: always, everyone: false },
  {
    name: "grown with preallocation",
    takes: (image: ImageOptions) => image.driver === "qcow2",
    everyone: false,
  },
  { name: "shrunk and grown again", takes: always, everyone: true },
  { name: "chained nine deep", takes: (image: ImageOptions) => image.backing, everyone: false },
  {
    name: "over one of its kind",
    takes: (image: ImageOptions) => image.backing && image.open !== undefined,
    everyone: false,
  },
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
    .filter(({ takes, everyone, name }) =>
      image.only ? image.only.includes(name) : takes(image) && (image.core === true || everyone),
    )
    .map(({ name: history }) => ({
      name: `${image.name}, ${history}`,
      image,
      history,
      size: sizeOf(image, history),
    })),
);
