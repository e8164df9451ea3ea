/**
 * The verb `create`: options read in qemu-img's order, the backing file opened for its size, the image made.
 */
import { errnoOf, messageOf } from "../../../base/errors.ts";
import { createImage } from "../../../node.ts";
import { asksForHelp, CreateOptions, optionLists, optionsHelp } from "../../options/create-options.ts";
import { safeBytes, sizeArgument } from "../../options/sizes.ts";
import { openBare } from "../../images.ts";
import { backingPath, localFile } from "../../names.ts";
import { Refusal, told } from "../../refusal.ts";
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
      verb.print(optionsHelp(flags.format, args.file !== undefined));
      return 0;
    }
    const { file } = args;
    if (file === undefined) throw new Refusal("Expecting image file name");
    const size = args.size === undefined ? undefined : sizeArgument("image size", args.size);
    if (size && "refusal" in size) throw new Refusal(size.refusal);
    await named(file, () => createNamed(verb, { file, size: size?.bytes, lists, flags }));
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
  const options = new CreateOptions(flags.format);
  const filename = localFile(file);
  for (const list of lists) options.parse(list);
  if (size !== undefined) {
    if (options.get("size") !== undefined) throw new Refusal("The image size must be specified only once");
    options.set("size", String(size));
  }
  setBacking(options, flags);
  await useBackingSize(verb, options, { file, unsafe: flags.unsafe ?? false });
  if (options.get("size") === undefined) throw new Refusal("Image creation needs a size parameter");
  verb.say(`Formatting '${file}', fmt=${flags.format} ${options.toString()}`);
  await makeImage(verb, options, filename);
}

/** Makes the image that the options describe; a file that is there is replaced. Throws QEMU's words. */
export async function makeImage(verb: Run, options: CreateOptions, filename: string): Promise<void> {
  if (options.get("backing_fmt") !== undefined && options.get("backing_file") === undefined)
    throw new Refusal("Backing format cannot be used without backing file");
  try {
    const spec = options.spec(filename);
    await withDataFile(verb, options, () =>
      createImage(spec, { engine: verb.engine, overwrite: true, signal: verb.signal }),
    );
  } catch (error) {
    if (error instanceof Refusal || errnoOf(error) !== "EFBIG") throw error;
    const hint = options.accepts("cluster_size") ? " (try using a larger cluster size)" : "";
    throw new Refusal(`The image size is too large for file format '${options.format}'${hint}`);
  }
}

/** Makes the external data file, if there is to be one, for as long as the image can be made. */
async function withDataFile(verb: Run, options: CreateOptions, body: () => Promise<void>): Promise<void> {
  const name = options.get("data_file");
  if (name === undefined) return body();
  const { files } = verb.engine.graph.host;
  const existed = await files.info(name).then(
    () => true,
    () => false,
  );
  await files.create(name, { size: 0, exclusive: false }).catch((error: unknown) => {
    throw new Refusal(`Could not create '${name}': ${messageOf(error)}`);
  });
  try {
    await body();
  } catch (error) {
    if (!existed) await files.remove(name).catch(() => undefined);
    throw error;
  }
  if (!existed) verb.onFailure(() => files.remove(name).catch(() => undefined));
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

/** Opens the backing file, which must be there, and takes its size where none was given. */
async function useBackingSize(
  verb: Run,
  options: CreateOptions,
  { file, unsafe }: { file: string; unsafe: boolean },
): Promise<void> {
  const backing = options.get("backing_file");
  if (backing === undefined) return;
  if (backing === "") throw new Refusal("Expected backing file name, got empty string");
  if (backing === file)
    throw new Refusal("Error: Trying to create an image with the same filename as the backing file");
  const format = options.get("backing_fmt");
  if (!unsafe) {
    const { length, driver } = await measureBacking(verb, {
      name: backingPath(verb, file, backing),
      format,
    });
    if (format === undefined)
      throw new Refusal(`Backing file specified without backing format\nDetected format of ${driver}.`);
    if (options.get("size") === undefined) options.set("size", String(Math.ceil(length / 512) * 512));
  }
  if (format === undefined) throw new Refusal("Backing file specified without backing format");
}

async function measureBacking(
  verb: Run,
  { name, format }: { name: string; format: string | undefined },
): Promise<{ length: number; driver: string }> {
  try {
    await using node = await openBare(verb, name, { format, metadataOnly: true });
    return { length: safeBytes(BigInt(node.length)), driver: node.chain[0]!.driver };
  } catch (error) {
    throw new Refusal(`${told(error)}\nCould not open backing image.`);
  }
}
