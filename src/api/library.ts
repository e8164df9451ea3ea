/**
 * The library's functions on images, over an engine that is given or is the entry's own. Written once: each entry hands in
 * its engine of those who bring none.
 */
import type { Engine } from "../machine/engine.ts";
import { advised } from "./advice.ts";
import { type FromBlobOptions, fromBlobIn } from "./blob.ts";
import { type CheckOptions, type CheckReport, checkIn } from "./check.ts";
import { type ImportImageOptions, type ImportImageSpec, importImageIn } from "./import.ts";
import type { CallOptions, InEngine, Node } from "./node.ts";
import { type ImageRef, describeImage, describeStorage, isName } from "./named.ts";
import { answering } from "./gate-answer.ts";
import { optionsOf, wrongArgument } from "./options.ts";
import { type ProbeResult, probeIn } from "./probe.ts";
import {
  type CreateImageOptions,
  type CreateImageSpec,
  type NewFile,
  type OpenOptions,
  checkOpenOptions,
  createImageIn,
  openNodeIn,
  removeImageIn,
} from "./open.ts";
import { type ResumedJob, type ResumeJobOptions, resumeJobIn } from "./resume-job.ts";
import type { CheckpointRef } from "./checkpoint/file.ts";
import type { OpenSpec } from "./specs.ts";
import { type ListImagesOptions, type StoredImage, listImagesIn } from "./stored.ts";

/** The functions of an entry that has an engine of its own. */
export interface Library {
  /**
   * Opens a disk: `await using disk = await openNode("disk.qcow2")`, by a path or URL, or `openNode(qcow2(file("disk.qcow2")))`, by
   * its description, which takes options. The format of a name's image is found by its first bytes: a disk that is only taken for raw
   * lets no write make it another format. A backing file is opened only if `gate` allows it: `fileGate("local", nodeHost())` does as
   * qemu-img. See OpenSpec for the description, OpenOptions for the gate. Throws BlockError, ImageError, CommandError.
   */
  openNode(this: void, image: ImageRef, options?: OpenOptions & InEngine): Promise<Node>;
  /** Makes an image; see CreateImageSpec. Throws BlockError, CommandError. */
  createImage(this: void, spec: CreateImageSpec, options?: CreateImageOptions & InEngine): Promise<void>;
  /** Removes an image's file; ENOENT, EAGAIN while it is open (opfs). */
  removeImage(this: void, file: NewFile, options?: InEngine): Promise<void>;
  /** The format of an image, by its first bytes; see ProbeResult. Throws BlockError where the file can't be opened. */
  probe(this: void, file: ImageRef, options?: CallOptions & InEngine): Promise<ProbeResult>;
  /** Checks an image for damage, and repairs it if asked; see CheckOptions. */
  check(this: void, image: ImageRef, options?: CheckOptions & InEngine): Promise<CheckReport>;
  /** Copies the disk in a Blob or File into a new image, and removes that again where it fails; see ImportImageOptions. */
  importImage(
    this: void,
    blob: Blob,
    spec: ImportImageSpec,
    options?: ImportImageOptions & InEngine,
  ): Promise<void>;
  /**
   * The images in the browser's stores (opfs, indexeddb), with the room that they take: for a page that shows, opens or removes them.
   * ENOTSUP in Node, where files are.
   */
  listImages(this: void, options?: ListImagesOptions & InEngine): Promise<StoredImage[]>;
  /**
   * Goes on with the work of a checkpoint (see JobOptions, ConvertOptions): verifies that source and target are what they were, and
   * copies what is left. Disks that are not given are opened as they were. Throws as the call that began it; ENOENT without a checkpoint.
   */
  resumeJob(
    this: void,
    checkpoint: CheckpointRef,
    options?: ResumeJobOptions & InEngine,
  ): Promise<ResumedJob>;
  /** A Blob or File as a read-only node, or the image in it with `format`; see FromBlobOptions. */
  fromBlob(this: void, blob: Blob, options?: FromBlobOptions & InEngine): Promise<Node>;
}

type WithEngine<F> = F extends (this: void, subject: infer A, options?: infer O) => infer R
  ? (this: void, subject: A, options: O & { engine: Engine }) => R
  : never;

/** The same functions where the caller must bring an engine. */
export type PortableLibrary = {
  readonly [Name in Exclude<keyof Library, "importImage" | "listImages">]: WithEngine<Library[Name]>;
} & {
  importImage(
    this: void,
    blob: Blob,
    spec: ImportImageSpec,
    options: ImportImageOptions & { engine: Engine },
  ): Promise<void>;
  listImages(this: void, options: ListImagesOptions & { engine: Engine }): Promise<StoredImage[]>;
};

const checkInEngine = optionsOf<InEngine>({ engine: "Engine" });

/** An opening that is for reading, or as it must be: there is no other way to be told of. */
const looking = { verb: "open", readOnly: true } as const;

/** The functions over the engine of those who bring none, which is asked for when a call needs it. */
export function libraryOver(defaultEngine: () => Engine): Library {
  const engineOf = ({ engine }: InEngine): Engine => engine ?? defaultEngine();
  return {
    openNode: async (image, options = {}) => openImage(engineOf(options), image, options),
    createImage: async (spec, options = {}) => {
      if (isName(spec)) throw wrongArgument("spec", `{ ...qcow2(file("${spec}")), size }`);
      const engine = engineOf(options);
      return advised({ spec, verb: "create", engine }, () => createImageIn(engine, spec, options));
    },
    removeImage: async (file, options = {}) => {
      checkInEngine(options);
      return removeImageIn(engineOf(options), file);
    },
    probe: async (file, options = {}) => {
      const engine = engineOf(options);
      const spec = isName(file) ? await describeStorage(engine, file) : file;
      return advised({ spec, ...looking }, () => probeIn(engine, spec, options));
    },
    check: async (image, options = {}) => {
      const engine = engineOf(options);
      const spec = isName(image) ? await describeNamed(engine, image) : image;
      return advised({ spec, ...looking, engine }, () => checkIn(engine, spec, options));
    },
    importImage: async (blob, spec, options = {}) => importImageIn(engineOf(options), blob, spec, options),
    listImages: async (options = {}) => listImagesIn(engineOf(options), options),
    resumeJob: async (checkpoint, options = {}) => resumeJobIn(engineOf(options), checkpoint, options),
    fromBlob: async (blob, options = {}) => fromBlobIn(engineOf(options), blob, options),
  };
}

async function openImage(engine: Engine, image: ImageRef, options: OpenOptions): Promise<Node> {
  checkOpenOptions(options);
  if (typeof image !== "string" && Object(image) !== image)
    throw wrongArgument("image", "path, URL or description");
  const spec = isName(image) ? await describeNamed(engine, image) : image;
  const attempt = { spec, verb: "open", readOnly: options.readOnly, engine } as const;
  const own = options.gate ? { ...options, gate: answering(options.gate) } : options;
  return advised(attempt, () => openNodeIn(engine, spec, own));
}

function describeNamed(engine: Engine, name: string | URL): Promise<OpenSpec> {
  return advised({ spec: { filename: String(name) }, ...looking }, () => describeImage(engine, name));
}

/** The functions for callers who always bring an engine. */
export const portableLibrary: PortableLibrary = libraryOver(() => {
  throw new TypeError("options.engine is missing: this entry has no engine of its own");
});

/** Makes an engine when it is first asked for, and gives the same one from then on. */
export function sharedEngine(make: () => Engine): () => Engine {
  let shared: Engine | undefined;
  return () => (shared ??= make());
}
