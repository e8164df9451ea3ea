/**
 * Which images a browser's stores hold, so that a page can show them, open them, and remove those that nobody wants any more.
 */
import { blockError } from "../base/errors.ts";
import type { Engine } from "../machine/engine.ts";
import type { CallOptions, InEngine } from "./node.ts";
import { imageOptions, optionsOf } from "./options.ts";

/** An image in a browser's store. */
export interface StoredImage {
  /** The file that holds it, as openNode(), createImage() and removeImage() take it. */
  readonly file: { readonly driver: "opfs" | "indexeddb"; readonly filename: string };
  /** Room that it takes in the store, bytes; of a database, in whole blocks. */
  readonly storedBytes: number;
}

/** Options of listImages(). */
export interface ListImagesOptions extends CallOptions {
  /** Of this store only; default: of both. */
  readonly driver?: "opfs" | "indexeddb";
}

const checkOptions = optionsOf<ListImagesOptions & InEngine>({ ...imageOptions, driver: "ImageStore" });

/** The images of an engine's stores, by names. ENOTSUP where the platform has no stores. */
export async function listImagesIn(engine: Engine, options: ListImagesOptions = {}): Promise<StoredImage[]> {
  checkOptions(options);
  const { driver, signal } = options;
  signal?.throwIfAborted();
  const { storedDisks } = engine.graph.host;
  if (!storedDisks)
    throw blockError("ENOTSUP", "list", "images are listed of browsers' stores, and there are none here");
  const found = await storedDisks();
  signal?.throwIfAborted();
  return found
    .filter((disk) => driver === undefined || disk.driver === driver)
    .map(({ driver: store, filename, storedBytes }) => ({ file: { driver: store, filename }, storedBytes }));
}
