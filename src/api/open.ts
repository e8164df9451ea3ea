/**
 * Opening nodes and making images for library callers, over a given engine.
 */
import { closing } from "../base/lease.ts";
import { limits } from "../base/limits.ts";
import { blockError, errnoOf } from "../base/errors.ts";
import type { CreatedFile, DriverType, NodeSpec } from "../block/model/contract.ts";
import { isItsFile } from "../block/model/options.ts";
import type { Gate } from "../block/model/gate.ts";
import { replaceFile } from "../block/model/replace-file.ts";
import type { CreateFormatOptions } from "../drivers/index.ts";
import type { Engine } from "../machine/engine.ts";
import { refuseOwnFiles } from "./own-files.ts";
import type { Described, OpenSpec } from "./specs.ts";
import { type CallOptions, type InEngine, Node, releaseIdle } from "./node.ts";
import {
  checkCreateSpec,
  checkLength,
  wrongArgument,
  checkNodeSpec,
  checkNewFile,
  imageOptions,
  optionsOf,
} from "./options.ts";

/** Options of openNode(). */
export interface OpenOptions extends CallOptions {
  /** Asked for the files that this node's images name; default: the engine's gate. */
  gate?: Gate;
  /** The image will be described and not read: encrypted ones need no secret. Default false. */
  metadataOnly?: boolean;
  /** Opens for reading only; the same as `"read-only": true` of the description. Default: as that says. */
  readOnly?: boolean;
}

/** Throws CommandError for what are no options of openNode(). */
export const checkOpenOptions = optionsOf<OpenOptions & InEngine>({
  ...imageOptions,
  gate: "Function",
  metadataOnly: "bool",
  readOnly: "bool",
});

/**
 * Opens a node. Throws BlockError (errno), ImageError (a malformed image), CommandError (a refused option); then nothing
 * stays open. A child may be a spec of its own or the name of a node that is open in the same engine.
 */
export async function openNodeIn(engine: Engine, spec: OpenSpec, options: OpenOptions = {}): Promise<Node> {
  checkOpenOptions(options);
  checkNodeSpec(spec, engine.graph.drivers);
  const { gate, metadataOnly = false, signal } = options;
  signal?.throwIfAborted();
  await releaseIdle(engine);
  // QAPI's descriptions and those of the block layer differ in their types only.
  const described = options.readOnly ? { ...spec, "read-only": true } : spec;
  const node = await engine.graph.open(described as NodeSpec, {
    metadataOnly,
    ...(gate ? { gate } : {}),
  });
  const attach = (): Promise<Node> => {
    signal?.throwIfAborted();
    return Node.attach(engine, node);
  };
  return closing(attach, () => engine.graph.release(node));
}

/** A new file: of the host, of the browser's private file system, or in a database of it. */
export interface NewFile {
  driver: "file" | "opfs" | "indexeddb";
  filename: string;
}

/** What createImage() makes; a spec of a driver that the engine was given is one too, for who casts it. */
export type CreateImageSpec = CreateFormatOptions<NewFile> extends infer S ? Described<S> : never;

/** Options of createImage(). */
export interface CreateImageOptions extends CallOptions {
  /** Replaces a file that exists; default: EEXIST. */
  overwrite?: boolean;
}

/** Throws CommandError for what are no options of createImage(). */
export const checkCreateOptions = optionsOf<CreateImageOptions & InEngine>({
  ...imageOptions,
  overwrite: "bool",
});

/**
 * Makes an image. An inline `file` of driver file is created (EEXIST if it is there, unless `overwrite`) and removed
 * again if the image could not be made; so is the `header` of a luks volume that has it elsewhere. Throws BlockError or CommandError in QEMU's words.
 */
export async function createImageIn(
  engine: Engine,
  spec: CreateImageSpec,
  options: CreateImageOptions = {},
): Promise<void> {
  checkCreateOptions(options);
  checkWhole(spec?.size);
  checkCreateSpec(spec, engine.graph.drivers);
  options.signal?.throwIfAborted();
  await checkNewImage(engine, spec);
  await releaseIdle(engine);
  const header = newFileOf(engine, (spec as { header?: CreateImageSpec["file"] }).header);
  const how = { size: 0, exclusive: !options.overwrite };
  await withNewFile(engine, header, how, () => makeImage(engine, spec, options));
}

async function makeImage(engine: Engine, spec: CreateImageSpec, options: CreateImageOptions): Promise<void> {
  const { file: storage } = spec as { file?: NodeSpec | string };
  const inPlace = typeof storage === "object" && engine.graph.driver(storage.driver).makeInPlace;
  if (inPlace)
    return inPlace(engine.graph, { image: spec, file: storage, exclusive: !options.overwrite }, (name) =>
      formatImage(engine, { ...spec, file: name } as CreateImageSpec, options.signal),
    );
  const file = newFileOf(engine, spec.file);
  if (file === undefined) return formatImage(engine, spec, options.signal);
  const exclusive = !options.overwrite;
  if (isItsFile(engine.graph.driver(spec.driver))) {
    const { size, preallocation } = spec;
    const how = { size, exclusive, ...(preallocation === undefined ? {} : { preallocation }) };
    await createFile(engine, file, how);
    return;
  }
  const make = (filename: string): Promise<void> =>
    makeFormatted(engine, { spec, file: { ...file, filename }, options });
  if (exclusive || file.driver !== "file") return make(file.filename);
  return replaceFile(engine.graph.host.files, file.filename, make);
}

/** Makes the file, and in it the image. */
async function makeFormatted(
  engine: Engine,
  { spec, file, options }: { spec: CreateImageSpec; file: NewFile; options: CreateImageOptions },
): Promise<void> {
  const how = {
    size: 0,
    exclusive: !options.overwrite,
    inPlace: true,
    neededBytes: options.overwrite ? await neededBytes(engine, spec) : undefined,
  };
  await withNewFile(engine, file, how, () => formatImage(engine, { ...spec, file }, options.signal));
}

/** Makes the file, if there is one to make, and runs `body` with it; a new file that it fails with is removed again. */
async function withNewFile(
  engine: Engine,
  file: NewFile | undefined,
  how: NewFileOptions,
  body: () => Promise<void>,
): Promise<void> {
  const created = file && (await createFile(engine, file, how));
  try {
    await body();
  } catch (error) {
    if (created?.made && !isLost(error)) await removeFile(engine, file!, created).catch(() => undefined);
    throw error;
  }
}

/**
 * Throws, before anything is touched, what createImage() would throw of these options: in the format's words, and EINVAL where
 * the image would be its own data file or backing file.
 */
export async function checkNewImage(engine: Engine, spec: CreateImageSpec): Promise<void> {
  const { graph } = engine;
  const type = graph.driver(spec.driver);
  checkSize(type, spec.size);
  await type.checkCreate?.({ graph, host: graph.host }, { ...spec });
  await refuseOwnFiles(graph.host.files, { ...spec });
}

/** Another one has taken the file since it was made here, and has it. */
function isLost(error: unknown): boolean {
  return ["EAGAIN", "EBUSY"].includes(errnoOf(error));
}

/** Removes an image's file. Errors: ENOENT, EAGAIN while it is open (opfs). */
export async function removeImageIn(engine: Engine, file: NewFile): Promise<void> {
  checkNewFile(file, engine.graph.drivers);
  await releaseIdle(engine);
  await removeFile(engine, file);
}

/** Bytes that making an image writes, as far as its format can tell: the metadata, or all where it is preallocated. */
async function neededBytes({ graph }: Engine, spec: CreateImageSpec): Promise<number | undefined> {
  const options: Record<string, unknown> = { ...spec };
  const bytes = (options["preallocation"] ?? "off") === "off" ? 0 : spec.size;
  const measured = await graph.driver(spec.driver).measure?.({ options, bytes });
  return measured?.requiredBytes;
}

/** A number that is no length is told as one, before it is told to be none of QAPI's sizes. */
function checkWhole(size: unknown): void {
  if (typeof size === "bigint") throw wrongArgument("size", "number");
  if (typeof size === "number") checkLength(Math.min(size, limits.maxImageBytes), "create");
}

/** What is too large for a format is told by its driver. */
function checkSize(type: DriverType, size: number): void {
  checkLength(isItsFile(type) ? size : Math.min(size, limits.maxImageBytes), "create");
}

/** The file that is to be made, if the storage is described as one of a protocol that makes files. */
function newFileOf({ graph }: Engine, file: CreateImageSpec["file"]): NewFile | undefined {
  if (typeof file !== "object") return undefined;
  const type = graph.driver(file.driver);
  return type.kind === "protocol" && type.create ? (file as NewFile) : undefined;
}

interface NewFileOptions {
  size: number;
  exclusive: boolean;
  inPlace?: boolean;
  preallocation?: string;
  neededBytes?: number | undefined;
}

async function createFile({ graph }: Engine, file: NewFile, how: NewFileOptions): Promise<CreatedFile> {
  const context = { graph, host: graph.host };
  const created = await graph.driver(file.driver).create?.(context, { ...file, ...how });
  return created ?? { made: how.exclusive };
}

async function removeFile(
  { graph }: Engine,
  file: NewFile,
  { identity }: { identity?: string } = {},
): Promise<void> {
  const type = graph.driver(file.driver);
  if (!type.remove) throw blockError("ENOTSUP", "remove", `'${file.driver}' has no files`);
  const only = identity === undefined ? {} : { identity };
  await type.remove({ graph, host: graph.host }, { ...file, ...only });
}

async function formatImage(engine: Engine, spec: CreateImageSpec, signal?: AbortSignal): Promise<void> {
  const { graph } = engine;
  const type = graph.driver(spec.driver);
  if (!type.create) {
    const message = `A new ${spec.driver} image needs a file to be made`;
    throw blockError("EINVAL", "create", message);
  }
  await type.create({ graph, host: graph.host, ...(signal ? { signal } : {}) }, { ...spec });
}
