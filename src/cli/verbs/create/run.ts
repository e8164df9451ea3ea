/**
 * The verb `create`: options read in qemu-img's order, the backing file opened for its size, the image made.
 */
import { errnoOf, messageOf } from "../../../base/errors.ts";
import { isSameFile } from "../../../api/own-files.ts";
import { checkNewImage, createImageIn } from "../../../api/open.ts";
import { layers } from "../../../block/model/chain.ts";
import { isItsFile } from "../../../block/model/options.ts";
import { imageFilename } from "../../../block/model/filename.ts";
import type { Node } from "../../../node.ts";
import { CreateOptions } from "../../options/create-options.ts";
import { asksForHelp, optionLists, optionsHelp } from "../../options/rows.ts";
import { safeBytes, sizeArgument } from "../../options/sizes.ts";
import { isDevice } from "../../describe.ts";
import { openBare } from "../../images.ts";
import { newFileName, newStorage, type NewStorage } from "../../../block/graph/storage-name.ts";
import { backingPath } from "../../names.ts";
import { Refusal, told } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { VerbFlags } from "../../options/flags.ts";

/** Options of the verb. */
export interface CreateFlags extends VerbFlags {
  format: string;
  backing?: string;
  backingFormat?: string;
  unsafe?: boolean;
  option?: string[];
}

/** Runs the verb; resolves with the exit status. */
export function create(
  args: { file: string | undefined; size: string | undefined },
  flags: CreateFlags,
): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const lists = optionLists(flags.option);
    if (asksForHelp(lists)) {
      verb.print(optionsHelp(verb.engine.graph, flags.format, args.file !== undefined));
      return 0;
    }
    const { file } = args;
    if (file === undefined) throw misuse("Expecting image file name");
    const size = args.size === undefined ? undefined : sizeArgument("image size", args.size);
    await named(file, () => createNamed(verb, { file, size, lists, flags }));
    return 0;
  });
}

/** Puts the image's name before what is refused. */
async function named(file: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw new Refusal(`${file}: ${told(error)}`);
  }
}

interface Wanted {
  file: string;
  size: bigint | undefined;
  lists: readonly string[];
  flags: CreateFlags;
}

async function createNamed(verb: Run, { file, size, lists, flags }: Wanted): Promise<void> {
  const options = new CreateOptions(verb.engine.graph, flags.format);
  const storage = newStorage(verb.engine.graph, file);
  for (const list of lists) options.parse(list);
  if (size !== undefined) {
    if (options.get("size") !== undefined) throw new Refusal("The image size must be specified only once");
    options.set("size", String(size));
  }
  setBacking(options, flags);
  // Held until the image is made: no file of the chain below is made anew.
  await using base = await useBacking(verb, options, { file, unsafe: flags.unsafe ?? false });
  if (options.get("size") === undefined && options.noDisk === undefined)
    throw new Refusal("Image creation needs a size parameter");
  verb.say(`Formatting '${file}', fmt=${flags.format} ${options.toString()}`);
  if (base)
    await refuseDataFiles(verb, base, { filename: storage.filename, dataFile: options.get("data_file") });
  await makeImage(verb, options, storage);
}

/** Makes the image that the options describe; a file that is there is replaced. Throws QEMU's words. */
export async function makeImage(
  verb: Run,
  options: CreateOptions,
  { file }: Pick<NewStorage, "file">,
): Promise<void> {
  if (options.get("backing_fmt") !== undefined && options.get("backing_file") === undefined)
    throw new Refusal("Backing format cannot be used without backing file");
  await worded(options, async () => {
    const filename = file.driver === "file" ? String(file["filename"]) : undefined;
    if (filename !== undefined && (await isDevice(verb, filename)))
      return makeOnDevice(verb, options, filename);
    const spec = options.spec(file);
    await checkNewImage(verb.engine, spec);
    await withDataFile(verb, options, () =>
      createImageIn(verb.engine, spec, { overwrite: true, signal: verb.signal }),
    );
  });
}

/** A device is there and is long enough, or is not: only a format is made on it. */
async function makeOnDevice(
  { engine, signal }: Run,
  options: CreateOptions,
  filename: string,
): Promise<void> {
  const { graph } = engine;
  const spec = options.spec({ driver: "host_device", filename });
  await checkNewImage(engine, spec);
  const isPlain = isItsFile(graph.driver(spec.driver));
  const { size, preallocation = "off" } = spec as { size: number; preallocation?: string };
  const whole = isPlain ? { size, preallocation } : { size: 0 };
  const made = { driver: "file", filename, inPlace: true, ...whole };
  await graph.driver("file").create?.({ graph, host: graph.host }, made);
  if (!isPlain) await createImageIn(engine, spec, { signal });
}

/** Has a size that is too large told in the words of qemu-img. */
export async function worded(options: CreateOptions, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (error instanceof Refusal || errnoOf(error) !== "EFBIG") throw error;
    const hint = options.accepts("cluster_size") ? " (try using a larger cluster size)" : "";
    throw new Refusal(`The image size is too large for file format '${options.format}'${hint}`);
  }
}

/** Makes the external data file, if there is to be one, for as long as the image can be made. */
async function withDataFile(verb: Run, options: CreateOptions, body: () => Promise<void>): Promise<void> {
  const given = options.get("data_file");
  if (given === undefined) return body();
  const name = newFileName(verb.engine.graph, given);
  const { files } = verb.engine.graph.host;
  const { made, identity } = await files
    .create(name, { size: 0, exclusive: false })
    .catch((error: unknown) => {
      throw new Refusal(`Could not create '${name}': ${messageOf(error)}`);
    });
  const remove = async (): Promise<void> => {
    if (made) await files.remove(name, { identity }).catch(() => undefined);
  };
  try {
    await body();
  } catch (error) {
    await remove();
    throw error;
  }
  verb.onFailure(remove);
}

function setBacking(options: CreateOptions, { backing, backingFormat, format }: CreateFlags): void {
  if (backing !== undefined) {
    if (!options.accepts("backing_file"))
      throw new Refusal(`Backing file not supported for file format '${format}'`);
    options.set("backing_file", backing);
  }
  if (backingFormat === undefined) return;
  if (!options.accepts("backing_fmt"))
    throw new Refusal(`Backing file format not supported for file format '${format}'`);
  options.set("backing_fmt", backingFormat);
}

/** Opens the backing file, which must be there, and takes its size where none was given; undefined: it is not looked at. */
async function useBacking(
  verb: Run,
  options: CreateOptions,
  { file, unsafe }: { file: string; unsafe: boolean },
): Promise<Node | undefined> {
  const backing = options.get("backing_file");
  if (backing === undefined) return undefined;
  if (backing === "") throw new Refusal("Expected backing file name, got empty string");
  if (backing === file)
    throw new Refusal("Error: Trying to create an image with the same filename as the backing file");
  const format = options.get("backing_fmt");
  if (unsafe) {
    if (format === undefined) throw new Refusal("Backing file specified without backing format");
    return undefined;
  }
  const node = await openBase(verb, { name: backingPath(verb, file, backing), format });
  try {
    if (format === undefined) {
      const { driver } = node.chain[0]!;
      throw new Refusal(`Backing file specified without backing format\nDetected format of ${driver}.`);
    }
    const length = safeBytes(BigInt(node.length));
    if (options.get("size") === undefined) options.set("size", String(Math.ceil(length / 512) * 512));
    return node;
  } catch (error) {
    await node.close();
    throw error;
  }
}

async function openBase(
  verb: Run,
  { name, format }: { name: string; format: string | undefined },
): Promise<Node> {
  const open = (forceShare: boolean): Promise<Node> =>
    openBare(verb, name, { format, forceShare, metadataOnly: true });
  try {
    // A guest may be writing to it; its lock then keeps the file from being made anew, too.
    return await open(false).catch((error: unknown) => {
      if (errnoOf(error) !== "EAGAIN") throw error;
      return open(true);
    });
  } catch (error) {
    throw new Refusal(`${told(error)}\nCould not open backing image.`);
  }
}

/** Throws where a file that is to be made is the data file of an image in the chain below, which was not opened for its size. */
async function refuseDataFiles(
  verb: Run,
  base: Node,
  made: { filename: string | undefined; dataFile: string | undefined },
): Promise<void> {
  const { files } = verb.engine.graph.host;
  for (const layer of layers(base.blockNode)) {
    const name = layer.driver.formatSpecific?.()?.data["data-file"];
    if (typeof name !== "string") continue;
    const used = files.resolve(imageFilename(layer), name);
    for (const file of [made.filename, made.dataFile]) {
      if (file !== undefined && (await isSameFile(files, file, used)))
        throw new Refusal(`'${file}' is the data file of '${imageFilename(layer)}'`);
    }
  }
}
