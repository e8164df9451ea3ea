/**
 * The verb `map`: the library's map(), printed as qemu-img prints it.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf } from "../../../base/errors.ts";
import { imageMap } from "../../../api/map.ts";
import type { ImageMapEntry, MapRange } from "../../../node.ts";
import { bytesArgument } from "../../options/sizes.ts";
import { openImage } from "../../images.ts";
import { checkOutput, Refusal } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface MapFlags extends ImageVerbFlags {
  output: string;
  compat: string;
  startOffset?: string;
  maxLength?: string;
}

/** Runs the verb; resolves with the exit status. */
export function map(files: readonly string[], flags: MapFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const offset = size("start offset", flags.startOffset);
    const length = size("max length", flags.maxLength);
    checkOutput(flags.output);
    const [file] = files;
    if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
    const { format, imageOpts, forceShare } = flags;
    await using node = await openImage(verb, file, { format, imageOpts, forceShare });
    const range: MapRange = { signal: verb.signal };
    if (offset !== undefined) range.offset = offset;
    if (length !== undefined) range.length = length;
    const printer = new Printer(verb, flags);
    for await (const entry of metadata(imageMap(node, range))) printer.entry(entry);
    printer.end(offset ?? 0);
    return 0;
  });
}

function size(what: string, text: string | undefined): number | undefined {
  return text === undefined ? undefined : bytesArgument(what, text);
}

async function* metadata(entries: AsyncGenerator<ImageMapEntry>): AsyncGenerator<ImageMapEntry> {
  try {
    yield* entries;
  } catch (error) {
    throw new Refusal(`Could not read file metadata: ${strerror(errnoOf(error))}`);
  }
}

class Printer {
  readonly #verb: Run;
  readonly #json: boolean;
  /** As QEMU has had it since 8.2. */
  readonly #tellsCompressed: boolean;
  #before = "[";

  constructor(verb: Run, { output, compat }: MapFlags) {
    this.#verb = verb;
    this.#json = output === "json";
    this.#tellsCompressed = compat !== "7.2";
    if (!this.#json) verb.print(row(["Offset", "Length", "Mapped to", "File"]));
  }

  entry(entry: ImageMapEntry): void {
    if (this.#json) this.#object(entry);
    else if (entry.data && entry.fileOffset === undefined)
      throw new Refusal("File contains external, encrypted or compressed clusters.");
    else if (entry.data && !entry.zero) {
      const numbers = [entry.offset, entry.bytes, entry.fileOffset ?? 0].map(hex);
      this.#verb.print(row([...numbers, entry.file ?? ""]));
    }
  }

  #object(entry: ImageMapEntry): void {
    const { offset, bytes, depth, present, zero, data, fileOffset, compressed } = entry;
    const packed = this.#tellsCompressed ? `, "compressed": ${compressed}` : "";
    const place = fileOffset === undefined ? "" : `, "offset": ${fileOffset}`;
    this.#verb.print(
      `${this.#before}{ "start": ${offset}, "length": ${bytes}, "depth": ${depth}, "present": ${present}, ` +
        `"zero": ${zero}, "data": ${data}${packed}${place}}`,
    );
    this.#before = ",\n";
  }

  /** An empty range is one entry of no length. */
  end(offset: number): void {
    if (!this.#json) return;
    if (this.#before === "[")
      this.#object({
        ...{ offset, bytes: 0, depth: 0, present: false, zero: false },
        ...{ data: false, compressed: false },
      });
    this.#verb.print("]\n");
  }
}

function row([first = "", second = "", third = "", file = ""]: readonly string[]): string {
  return `${first.padEnd(16)}${second.padEnd(16)}${third.padEnd(16)}${file}\n`;
}

function hex(value: number): string {
  return value === 0 ? "0" : `0x${value.toString(16)}`;
}
