/**
 * The options of a new image: how `-o` is read, how `create` repeats them, and which options of QAPI's BlockdevCreateOptions
 * they become. Source: behaviour and words of qemu-img 7.2.
 */
import type { CreateImageSpec } from "../../node.ts";
import { splitAtCommas } from "../../wire/qapi/keyval.ts";
import { type OptionRow, PREALLOCATIONS, tables } from "./rows.ts";
import { cUnsigned, notASize, parseSize, safeBytes } from "./sizes.ts";
import { Refusal } from "../refusal.ts";

/** Above every limit, and a safe integer of bytes. */
const LARGEST_SECTORS = 2 ** 44 - 1;

/** Formats that can be made. */
export function isCreatable(format: string): boolean {
  return Object.hasOwn(tables, format);
}

/** Options of a new image, read and kept as they were given. */
export class CreateOptions {
  readonly format: string;
  readonly #rows: readonly OptionRow[];
  readonly #given = new Map<string, string>();

  /** Throws Refusal `Unknown file format 'x'`. */
  constructor(format: string) {
    const rows = tables[format];
    if (!rows || !isCreatable(format)) throw new Refusal(`Unknown file format '${format}'`);
    this.format = format;
    this.#rows = rows;
  }

  /** Reads what followed an `-o`. Throws Refusal in QEMU's words. */
  parse(text: string): void {
    for (const part of splitAtCommas(text)) {
      const at = part.indexOf("=");
      if (at >= 0) this.set(part.slice(0, at), part.slice(at + 1));
      else if (part.startsWith("no")) this.set(part.slice(2), "off");
      else this.set(part, "on");
    }
  }

  /** Sets one option. Throws Refusal. */
  set(name: string, value: string): void {
    const row = this.#rows.find((candidate) => candidate.name === name);
    if (!row) throw new Refusal(`Invalid parameter '${name}'`);
    checkValue(row, value);
    this.#given.set(name, value);
  }

  /** The value as it was given. */
  get(name: string): string | undefined {
    return this.#given.get(name);
  }

  /** The value of an option of type size. */
  size(name: string): bigint | undefined {
    const text = this.#given.get(name);
    return text === undefined ? undefined : (parseSize(text) as bigint);
  }

  /** Whether the option is one of the format itself. */
  accepts(name: string): boolean {
    return this.#rows.some((row) => row.name === name && !row.ofFile);
  }

  /** `cluster_size=65536 extended_l2=off …`, as qemu-img repeats the options of an image that it makes. */
  toString(): string {
    const words: string[] = [];
    for (const row of this.#rows) {
      const given = this.#given.get(row.name);
      const value = given ?? row.default;
      if (value === undefined) continue;
      const shown = row.type === "str" ? value.replaceAll(",", ",,") : value;
      words.push(`${row.name}=${given === undefined ? shown : numberText(row, shown)}`);
    }
    return words.join(" ");
  }

  /** Whether the image will be encrypted. */
  get encrypts(): boolean {
    return this.format === "luks" || this.#encryption() !== undefined;
  }

  /** The options of LUKS, if the image is or holds such a volume. */
  get luksOptions(): Record<string, unknown> | undefined {
    if (this.format !== "luks") {
      const encrypt = this.#encryption();
      return encrypt?.["format"] === "luks" ? encrypt : undefined;
    }
    const given = [...this.#given].filter(([name]) => name !== "size" && this.accepts(name));
    return Object.fromEntries(
      given.map(([name, value]) => [
        name,
        wireValue(
          this.#rows.find((row) => row.name === name)!,
          value,
        ),
      ]),
    );
  }

  /** What opening the image takes beside its name: the secret that it is made with. */
  get secretOptions(): Record<string, unknown> {
    if (this.format === "luks") return { "key-secret": this.get("key-secret") };
    const encrypt = this.#encryption();
    return encrypt ? { encrypt: { "key-secret": encrypt["key-secret"] } } : {};
  }

  /** QAPI's QCryptoBlockCreateOptions; undefined without encryption. Throws Refusal in QEMU's words. */
  #encryption(): Record<string, unknown> | undefined {
    const given = [...this.#given].filter(([name]) => name.startsWith("encrypt."));
    const old = this.#given.get("encryption");
    const isOld = old !== undefined && /^(on|yes|true|y)$/.test(old);
    const format = this.#given.get("encrypt.format");
    if (old !== undefined && format !== undefined)
      throw new Refusal("'encrypt.format' and its alias 'encryption' can't be used at the same time");
    if (given.length === 0 && !isOld) return undefined;
    const named = isOld ? "aes" : format;
    if (named === undefined) throw new Refusal("Parameter 'encrypt.format' is missing");
    if (named !== "aes" && named !== "luks")
      throw new Refusal(`Parameter 'format' does not accept value '${named}'`);
    const options: Record<string, unknown> = { format: named === "aes" ? "qcow" : named };
    for (const [name, value] of given) {
      if (name === "encrypt.format") continue;
      const row = this.#rows.find((candidate) => candidate.name === name)!;
      options[name.slice("encrypt.".length)] = wireValue(row, value);
    }
    return options;
  }

  /** The image that the options describe, in `filename`. Throws Refusal in QEMU's words. */
  spec(filename: string): CreateImageSpec {
    const file = { driver: "file", filename };
    const options: Record<string, unknown> = { driver: this.format, file };
    for (const [name, value] of this.#given) {
      const row = this.#rows.find((candidate) => candidate.name === name)!;
      if (row.wire !== undefined) options[row.wire] = wireValue(row, value);
    }
    const data = options["data-file"];
    if (typeof data === "string") options["data-file"] = { driver: "file", filename: data };
    // Formats count in sectors.
    if (typeof options["size"] === "number")
      options["size"] = Math.min(Math.ceil(options["size"] / 512), LARGEST_SECTORS) * 512;
    const encrypt = this.#encryption();
    if (encrypt) options["encrypt"] = encrypt;
    this.#checkFile();
    return options as unknown as CreateImageSpec;
  }

  /** Reads the options of the file below. Throws Refusal. */
  #checkFile(): void {
    if ((this.size("extent_size_hint") ?? 0n) > MOST_HINT) throw new Refusal("Extent size hint is too large");
    if (this.accepts("preallocation")) return;
    const mode = this.#given.get("preallocation");
    if (mode === undefined) return;
    if (!PREALLOCATIONS.includes(mode)) throw new Refusal(`invalid parameter value: ${mode}`);
    if (mode === "metadata" && this.format === "raw")
      throw new Refusal("Unsupported preallocation mode: metadata");
  }
}

/** Largest hint for the extents of a file, bytes. */
const MOST_HINT = 2n ** 32n - 1n;

/** Throws Refusal, in QEMU's words, unless the text is a value of the option. */
export function checkValue(row: OptionRow, value: string): void {
  if (row.type === "bool" && !/^(on|yes|true|y|off|no|false|n)$/.test(value))
    throw new Refusal(`Parameter '${row.name}' expects 'on' or 'off'`);
  const number = row.type === "num" ? cUnsigned(value) : 0n;
  if (number === "invalid") throw new Refusal(`Parameter '${row.name}' expects a number`);
  if (number === "range") throw new Refusal(`Value '${value}' is too large for parameter '${row.name}'`);
  if (row.type === "size" && typeof parseSize(value) !== "bigint") throw new Refusal(notASize(row.name));
}

/** A value as `create` repeats it: numbers in decimal. */
function numberText({ type }: OptionRow, value: string): string {
  if (type === "size") return String(parseSize(value));
  return type === "num" ? String(signed(cUnsigned(value) as bigint)) : value;
}

/** A 64-bit number with its sign, as far as it is a safe integer. */
function signed(value: bigint): number {
  const number = BigInt.asIntN(64, value);
  return number < 0n ? -safeBytes(-number) : safeBytes(number);
}

/** The value as QAPI has it. Throws Refusal. */
export function wireValue(row: OptionRow, value: string): string | number | boolean {
  if (row.type === "bool") return /^(on|yes|true|y)$/.test(value);
  if (row.type === "num") return signed(cUnsigned(value) as bigint);
  if (row.type !== "str") return safeBytes(parseSize(value) as bigint);
  const meant = row.name === "compat" ? (versions[value] ?? value) : value;
  if (row.values && !row.values.includes(meant))
    throw new Refusal(`Parameter '${row.wire}' does not accept value '${value}'`);
  return meant;
}

const versions: Readonly<Record<string, string>> = { "0.10": "v2", "1.1": "v3" };

/** Joins what several `-o` said. Throws Refusal for lists that are empty or start or end with a comma. */
export function optionLists(lists: readonly string[] | undefined): string[] {
  for (const list of lists ?? []) {
    const cut = /(?:^|[^,])(?:,,)*,$/.test(list);
    if (list === "" || /^,(?:,,)*(?!,)/.test(list) || cut) throw new Refusal(`Invalid option list: ${list}`);
  }
  return [...(lists ?? [])];
}

/** Whether the user asks which options there are. */
export function asksForHelp(lists: readonly string[] | undefined): boolean {
  return (lists ?? []).some((list) => splitAtCommas(list).some((part) => part === "help" || part === "?"));
}

const typeNames = { str: "<str>", size: "<size>", num: "<num>", bool: "<bool (on/off)>" };

/** The options of a format as text: with those of its file, once that is named. */
export function optionsHelp(format: string, withFile: boolean): string {
  if (!isCreatable(format)) throw new Refusal(`Unknown file format '${format}'`);
  const rows = tables[format] ?? [];
  if (withFile) return `Supported options:\n${optionLines(rows)}`;
  const own = optionLines(rows.filter((row) => !row.ofFile));
  const hint =
    "The protocol level may support further options.\nSpecify the target filename to include those options.";
  return `Supported ${format} options:\n${own}\n${hint}\n`;
}

/** Options as help lists them, a line each. */
export function optionLines(rows: readonly OptionRow[]): string {
  const lines = rows.map((row) => `  ${`${row.name}=${typeNames[row.type]}`.padEnd(22)} - ${row.help}`);
  return `${lines.toSorted().join("\n")}\n`;
}
