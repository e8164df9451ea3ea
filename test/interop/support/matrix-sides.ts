// One image of the matrix in the hands of the real tools or in ours: both can create it, carry out changes, take and apply
// snapshots and resize it.
import { type NodeSpec, Req } from "../../../src/block/model/contract.ts";
import type { ImageOptions } from "./matrix-kinds.ts";
import { fileGraph, must, type OpenImage, openImage } from "./qcow2.ts";

/** A change of a disk. Offsets and bytes suit the kind: whole clusters where that matters. */
export interface Change {
  readonly kind: "write" | "compressed" | "zero" | "unmap" | "discard";
  readonly offset: number;
  readonly bytes: number;
  /** What `write` and `compressed` write. */
  readonly value: number;
}

/** A backing file in creation options. */
export interface Backing {
  readonly file: string;
  readonly format: string;
}

/** What lies below the images that need options to be opened: a header's name can't say those. */
const below = new Map<string, Backing>();

/** What the image in `path` is opened with, and those below it. */
function openOptions(image: ImageOptions, path: string): Readonly<Record<string, unknown>> {
  const backing = below.get(path);
  if (image.open === undefined || backing === undefined) return image.open ?? {};
  const { file: filename, format: driver } = backing;
  const options = driver === image.driver ? openOptions(image, filename) : {};
  return { ...image.open, backing: { driver, ...options, file: { driver: "file", filename } } };
}

/** Who works on an image. */
export interface Side {
  create(path: string, size: number, backing?: Backing): Promise<void>;
  change(path: string, changes: readonly Change[]): Promise<void>;
  snapshot(path: string, name: string): Promise<void>;
  /** Back to a snapshot. */
  apply(path: string, name: string): Promise<void>;
  resize(path: string, size: number, preallocation: "off" | "metadata"): Promise<void>;
}

/** `{ encrypt: { "key-secret": "s" }, "cluster-size": 1 }` as `encrypt.key-secret=s`, `cluster_size=1` (or with a dash). */
function flatten(options: Readonly<Record<string, unknown>>, spell: (name: string) => string): string[] {
  return Object.entries(options).flatMap(([name, value]) => {
    if (typeof value === "object" && value !== null)
      return flatten(value as Record<string, unknown>, (inner) => inner).map((rest) => `${name}.${rest}`);
    return [`${spell(name)}=${value === true ? "on" : value === false ? "off" : String(value)}`];
  });
}

/** What `-o` takes. */
function createWords({ driver, create, dataFile }: ImageOptions, path: string): string[] {
  const { version, ...rest } = create;
  return [
    ...(version === undefined ? [] : [`compat=${version === "v2" ? "0.10" : "1.1"}`]),
    ...flatten(rest, (name) => (driver === "luks" ? name : name.replaceAll("-", "_"))),
    ...(dataFile ? [`data_file=${path}.data`, `data_file_raw=${dataFile === "raw" ? "on" : "off"}`] : []),
  ];
}

/** What `--image-opts` takes. */
export function imageOpts(image: ImageOptions, path: string): string {
  const options = flatten(openOptions(image, path), (name) => name);
  return [`driver=${image.driver},file.driver=file,file.filename=${path}`, ...options].join(",");
}

/** The words that every real tool needs first. */
export function objectWords({ objects = [] }: ImageOptions): string[] {
  return objects.flatMap((object) => ["--object", object]);
}

function ioCommand({ kind, offset, bytes, value }: Change): string {
  const range = `${offset} ${bytes}`;
  if (kind === "discard") return `discard -q ${range}`;
  if (kind === "zero" || kind === "unmap") return `write -q -z ${kind === "unmap" ? "-u " : ""}${range}`;
  return `write -q ${kind === "compressed" ? "-c " : ""}-P ${value} ${range}`;
}

/** qemu-img and qemu-io. */
export function theirSide(image: ImageOptions): Side {
  const objects = objectWords(image);
  const named = (path: string): string[] => ["--image-opts", imageOpts(image, path)];
  return {
    async create(path, size, backing) {
      const given = createWords(image, path);
      const options = given.length > 0 ? ["-o", given.join(",")] : [];
      const unopened = image.open === undefined ? [] : ["-u"];
      const chain = backing ? [...unopened, "-b", backing.file, "-F", backing.format] : [];
      if (backing) below.set(path, backing);
      const words = ["-q", ...objects, "-f", image.driver, ...options, ...chain, path, String(size)];
      await must("qemu-img", "create", ...words);
    },
    async change(path, changes) {
      if (changes.length === 0) return;
      const commands = changes.flatMap((change) => ["-c", ioCommand(change)]);
      await must("qemu-io", ...objects, ...commands, ...named(path));
    },
    async snapshot(path, name) {
      await must("qemu-img", "snapshot", ...objects, "-c", name, ...named(path));
    },
    async apply(path, name) {
      await must("qemu-img", "snapshot", ...objects, "-a", name, ...named(path));
    },
    async resize(path, size, preallocation) {
      const words = ["-q", "--shrink", `--preallocation=${preallocation}`];
      await must("qemu-img", "resize", ...objects, ...words, ...named(path), String(size));
    },
  };
}

/** Opens the image with our driver. */
export function openKind(
  image: ImageOptions,
  path: string,
  more: Partial<NodeSpec> = {},
): Promise<OpenImage> {
  const spec = { driver: image.driver, discard: "unmap" as const, ...openOptions(image, path), ...more };
  return openImage(path, spec, image.prepare);
}

async function changeOne({ disk }: OpenImage, { kind, offset, bytes, value }: Change): Promise<void> {
  if (kind === "discard") return disk.pdiscard(offset, bytes);
  if (kind === "zero" || kind === "unmap")
    return disk.pwriteZeroes(offset, bytes, kind === "unmap" ? Req.mayUnmap : 0);
  return disk.pwrite(offset, new Uint8Array(bytes).fill(value), kind === "compressed" ? Req.compressed : 0);
}

async function createOurs(
  image: ImageOptions,
  path: string,
  options: Record<string, unknown>,
): Promise<void> {
  const graph = fileGraph();
  try {
    await image.prepare?.(graph);
    const context = { graph, host: graph.host };
    const makeFile = async (filename: string, more: object): Promise<void> =>
      void (await graph.driver("file").create!(context, { filename, ...more }));
    const file = { driver: "file", filename: path };
    if (image.driver === "raw") return await makeFile(path, options);
    await makeFile(path, { size: 0 });
    if (image.dataFile) await makeFile(`${path}.data`, { size: 0 });
    const data = image.dataFile
      ? {
          "data-file": { driver: "file", filename: `${path}.data` },
          "data-file-raw": image.dataFile === "raw",
        }
      : {};
    await graph.driver(image.driver).create!(context, { ...options, ...data, file });
  } finally {
    await graph.close();
  }
}

/** Our drivers, in this process. */
export function ourSide(image: ImageOptions): Side {
  const withImage = async (path: string, body: (open: OpenImage) => Promise<unknown>): Promise<void> => {
    const open = await openKind(image, path);
    try {
      await body(open);
    } finally {
      await open.close();
    }
  };
  return {
    create: (path, size, backing) => {
      if (backing) below.set(path, backing);
      return createOurs(image, path, {
        ...image.create,
        size,
        ...(backing ? { "backing-file": backing.file, "backing-fmt": backing.format } : {}),
      });
    },
    change: (path, changes) =>
      withImage(path, async (open) => {
        for (const change of changes) await changeOne(open, change);
      }),
    snapshot: (path, name) => withImage(path, ({ disk }) => disk.node!.driver.snapshots!()!.create({ name })),
    apply: (path, name) =>
      withImage(path, async ({ disk }) => {
        const store = disk.node!.driver.snapshots!()!;
        await store.apply(store.list().find((one) => one.name === name)!.id);
      }),
    resize: (path, size, preallocation) =>
      withImage(path, async ({ disk }) => disk.root!.truncate(size, { exact: true, preallocation })),
  };
}
