/**
 * Making an image in a new file for a job or a snapshot: options first, so that nothing is touched for an image that could not
 * be made; then the file, which is never one that this process has open; then the format.
 */
import { CommandError } from "../../base/errors.ts";
import type { CreateContext } from "../model/contract.ts";
import { nodeFilename } from "../model/filename.ts";
import { replaceFile } from "../model/replace-file.ts";
import type { BlockGraph } from "./graph.ts";
import type { NewImage } from "./home.ts";
import { newStorage } from "./storage-name.ts";

/** Makes it; a file that is there is replaced. Throws in QEMU's words. */
export async function makeImageFile(graph: BlockGraph, image: NewImage): Promise<void> {
  const { format, size, backing } = image;
  const storage = newStorage(graph, image.filename);
  const filename = storage.filename ?? "";
  const context: CreateContext = { graph, host: graph.host };
  const type = graph.driver(format);
  const named = backing
    ? { "backing-file": nodeFilename(backing.node), "backing-fmt": backing.format }
    : undefined;
  if (storage.filename === undefined)
    return graph
      .driver(storage.file.driver)
      .makeInPlace?.(graph, { image: { driver: format, size }, file: storage.file }, async (file) => {
        await type.create?.(context, { driver: format, file, size, ...named });
      });
  const optionsFor = (name: string): Record<string, unknown> => {
    if (type.kind === "protocol") return { driver: format, filename: name, size, inPlace: true };
    return { driver: format, file: { driver: "file", filename: name }, size, ...named };
  };
  await type.checkCreate?.(context, optionsFor(filename));
  graph.onNewImage?.(image);
  // A format without a maker of its own is what its file holds.
  const bytes = type.create ? 0 : size;
  if (type.kind === "protocol" && !type.create)
    throw new CommandError(`Format driver '${format}' does not support image creation`);
  await replaceFile(graph.host.files, filename, async (name) => {
    await graph
      .driver("file")
      .create?.(context, { driver: "file", filename: name, size: bytes, inPlace: true });
    await type.create?.(context, optionsFor(name));
  });
}
