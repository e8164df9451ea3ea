/**
 * importImage(): what a user picked in a page, or `fs.openAsBlob()` gave, copied into an image of one's own.
 *
 * Invariant: the new image is whole and durable when the call resolves; else it is removed again.
 */
import { closing, failed } from "../base/lease.ts";
import { blockError } from "../base/errors.ts";
import type { Engine } from "../machine/engine.ts";
import { fromBlobIn } from "./blob.ts";
import { type ConvertOptions, convert } from "./convert.ts";
import type { InEngine, Node } from "./node.ts";
import {
  type CreateImageOptions,
  type CreateImageSpec,
  type NewFile,
  createImageIn,
  openNodeIn,
  removeImageIn,
} from "./open.ts";
import { checkArgument, followed, imageOptions, optionsOf } from "./options.ts";
import { probeIn } from "./probe.ts";
import type { OpenSpec } from "./specs.ts";

/** Options of importImage(). */
export interface ImportImageOptions extends CreateImageOptions, Pick<ConvertOptions, "onProgress"> {
  /** Format of the image in the Blob; default: found by its first bytes. */
  format?: string;
}

/** What the new image is: as createImage() takes it, and its size is by default that of the disk in the Blob. */
export interface ImportImageSpec {
  /** The new image's format. */
  driver: CreateImageSpec["driver"];
  /** Where it lies; a name is that of a node. */
  file: NewFile | string;
  /** Bytes; at least the disk's. */
  size?: number;
  /** Options of the format, as createImage() takes and checks them. */
  [option: string]: unknown;
}

const checkOptions = optionsOf<ImportImageOptions & InEngine>({
  ...imageOptions,
  ...followed,
  overwrite: "bool",
  format: "str",
});

/**
 * Copies the disk in a Blob or File into a new image, whose `file` is described in place. Throws what openNode(), createImage() and
 * convert() throw; EPERM where the image in the Blob names other files; ENOTSUP for a format that can't be read.
 */
export async function importImageIn(
  engine: Engine,
  blob: Blob,
  spec: ImportImageSpec,
  options: ImportImageOptions = {},
): Promise<void> {
  checkOptions(options);
  checkArgument("blob", blob, "Blob");
  checkArgument("spec", spec, "Object");
  const { format, overwrite = false, onProgress, signal } = options;
  const { driver, file } = spec;
  const source = await openBlob(engine, blob, format);
  const calls = signal ? { signal } : {};
  const copy = async (): Promise<void> => {
    const sized = { size: source.length, ...spec } as unknown as CreateImageSpec;
    await createImageIn(engine, sized, { overwrite, ...calls });
    const image = { driver, file } as unknown as OpenSpec;
    const fill = async (): Promise<void> => {
      const target = await openNodeIn(engine, image, calls);
      const told = onProgress ? { onProgress } : {};
      const write = async (): Promise<void> => {
        await convert(source, target, { targetIsZero: true, ...calls, ...told });
        await target.flush();
      };
      await closing(write, () => target.close());
    };
    // A node that somebody else has opened stays theirs.
    const undo = typeof file === "string" ? [] : [() => removeImageIn(engine, file)];
    await fill().catch((error: unknown) => failed(error, ...undo));
  };
  await closing(copy, () => source.close());
}

async function openBlob(engine: Engine, blob: Blob, format: string | undefined): Promise<Node> {
  if (format !== undefined) return fromBlobIn(engine, blob, { format });
  const storage = { driver: "blob", blob, "read-only": true } as unknown as OpenSpec;
  const found = await probeIn(engine, storage);
  if (!found.supported) {
    const message = `the file holds an image of format '${found.format}', which can't be read`;
    throw blockError("ENOTSUP", "import", message);
  }
  return fromBlobIn(engine, blob, { format: found.format });
}
