/**
 * The library's functions on images, over an engine that is given or is the entry's own. Written once: each entry hands in
 * its engine of those who bring none.
 */
import type { Engine } from "../machine/engine.ts";
import { type FromBlobOptions, fromBlobIn } from "./blob.ts";
import { type CheckOptions, type CheckReport, checkIn } from "./check.ts";
import type { CallOptions, InEngine, Node } from "./node.ts";
import { optionsOf } from "./options.ts";
import { type ProbeResult, probeIn } from "./probe.ts";
import {
  type CreateImageOptions,
  type CreateImageSpec,
  type NewFile,
  type OpenOptions,
  type OpenSpec,
  createImageIn,
  openNodeIn,
  removeImageIn,
} from "./open.ts";

/** The functions of an entry that has an engine of its own. */
export interface Library {
  /**
   * Opens a node: `await using disk = await openNode({ driver: "qcow2", file: { driver: "file", filename } })`.
   * A backing file is opened only if `gate` allows it: `fileGate("local", nodeHost())` does as qemu-img. See OpenSpec for
   * the description, OpenOptions for the gate. Throws BlockError, ImageError, CommandError.
   */
  openNode(this: void, spec: OpenSpec, options?: OpenOptions & InEngine): Promise<Node>;
  /** Makes an image; see CreateImageSpec. Throws BlockError, CommandError. */
  createImage(this: void, spec: CreateImageSpec, options?: CreateImageOptions & InEngine): Promise<void>;
  /** Removes an image's file; ENOENT, EAGAIN while it is open (opfs). */
  removeImage(this: void, file: NewFile, options?: InEngine): Promise<void>;
  /** The format of an image, by its first bytes; see ProbeResult. Throws BlockError where the file can't be opened. */
  probe(this: void, file: OpenSpec, options?: CallOptions & InEngine): Promise<ProbeResult>;
  /** Checks an image for damage, and repairs it if asked; see CheckOptions. */
  check(this: void, spec: OpenSpec, options?: CheckOptions & InEngine): Promise<CheckReport>;
  /** A Blob or File as a read-only node, or the image in it with `format`; see FromBlobOptions. */
  fromBlob(this: void, blob: Blob, options?: FromBlobOptions & InEngine): Promise<Node>;
}

type WithEngine<F> = F extends (this: void, subject: infer A, options?: infer O) => infer R
  ? (this: void, subject: A, options: O & { engine: Engine }) => R
  : never;

/** The same functions where the caller must bring an engine. */
export type PortableLibrary = { readonly [Name in keyof Library]: WithEngine<Library[Name]> };

const checkInEngine = optionsOf<InEngine>({ engine: "Engine" });

/** The functions over the engine of those who bring none, which is asked for when a call needs it. */
export function libraryOver(defaultEngine: () => Engine): Library {
  const engineOf = ({ engine }: InEngine): Engine => engine ?? defaultEngine();
  return {
    openNode: async (spec, options = {}) => openNodeIn(engineOf(options), spec, options),
    createImage: async (spec, options = {}) => createImageIn(engineOf(options), spec, options),
    removeImage: async (file, options = {}) => {
      checkInEngine(options);
      return removeImageIn(engineOf(options), file);
    },
    probe: async (file, options = {}) => probeIn(engineOf(options), file, options),
    check: async (spec, options = {}) => checkIn(engineOf(options), spec, options),
    fromBlob: async (blob, options = {}) => fromBlobIn(engineOf(options), blob, options),
  };
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
