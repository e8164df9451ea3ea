/**
 * The options that `-o` takes, per format, in one table: how they are read, how `create` repeats them, and which option of
 * QAPI's BlockdevCreateOptions each becomes. Source: behaviour and words of qemu-img 7.2.
 */
import type { CreateImageSpec } from "../node.ts";
import { splitAtCommas } from "../wire/qapi/keyval.ts";
import { notASize, parseSize, safeBytes } from "./sizes.ts";
import { Refusal } from "./verb.ts";

/** One option of a format. */
export interface OptionRow {
  name: string;
  type: "str" | "size" | "num" | "bool";
  help: string;
  /** What `create` says where the user said nothing. */
  default?: string;
  /** QAPI's name. */
  wire?: string;
  /** The words that QAPI's enumeration has. */
  values?: readonly string[];
  /** Read but refused. */
  later?: boolean;
}

/** Above every limit, and a safe integer of bytes. */
const LARGEST_SECTORS = 2 ** 44 - 1;

/** Formats that QEMU knows; an image may name them whether they can be opened here or not. */
const FORMATS =
  "raw qcow2 qcow qed vmdk vdi vpc vhdx parallels bochs cloop dmg luks vvfat blkdebug file host_device nbd".split(
    " ",
  );

/** Whether a header may name the format. */
export function isKnownFormat(name: string): boolean {
  return FORMATS.includes(name);
}

const PREALLOCATIONS = ["off", "metadata", "falloc", "full"];

const cipherRows: readonly OptionRow[] = [
  { name: "cipher-alg", type: "str", help: "Name of encryption cipher algorithm" },
  { name: "cipher-mode", type: "str", help: "Name of encryption cipher mode" },
  { name: "ivgen-alg", type: "str", help: "Name of IV generator algorithm" },
  { name: "ivgen-hash-alg", type: "str", help: "Name of IV generator hash algorithm" },
  { name: "hash-alg", type: "str", help: "Name of encryption hash algorithm" },
  { name: "iter-time", type: "num", help: "Time to spend in PBKDF in milliseconds" },
];

const luksRows: readonly OptionRow[] = [
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  {
    name: "key-secret",
    type: "str",
    wire: "key-secret",
    help: "ID of the secret that provides the keyslot passphrase",
  },
  ...cipherRows.map((row) => ({ ...row, wire: row.name })),
];

/** In the order in which `create` repeats them. */
const qcow2Rows: readonly OptionRow[] = [
  {
    name: "encryption",
    type: "bool",
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  { name: "encrypt.format", type: "str", help: "Encrypt the image, format choices: 'aes', 'luks'" },
  {
    name: "encrypt.key-secret",
    type: "str",
    help: "ID of secret providing qcow AES key or LUKS passphrase",
  },
  ...cipherRows.map((row) => ({ ...row, name: `encrypt.${row.name}` })),
  {
    name: "cluster_size",
    type: "size",
    default: "65536",
    wire: "cluster-size",
    help: "qcow2 cluster size",
  },
  { name: "extended_l2", type: "bool", default: "off", wire: "extended-l2", help: "Extended L2 tables" },
  {
    name: "preallocation",
    type: "str",
    wire: "preallocation",
    values: PREALLOCATIONS,
    help: "Preallocation mode (allowed values: off, metadata, falloc, full)",
  },
  {
    name: "compression_type",
    type: "str",
    default: "zlib",
    wire: "compression-type",
    values: ["zlib", "zstd"],
    help: "Compression method used for image cluster compression",
  },
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  {
    name: "compat",
    type: "str",
    wire: "version",
    values: ["v2", "v3"],
    help: "Compatibility level (v2 [0.10] or v3 [1.1])",
  },
  { name: "backing_file", type: "str", wire: "backing-file", help: "File name of a base image" },
  {
    name: "backing_fmt",
    type: "str",
    wire: "backing-fmt",
    values: FORMATS,
    help: "Image format of the base image",
  },
  { name: "data_file", type: "str", wire: "data-file", help: "File name of an external data file" },
  {
    name: "data_file_raw",
    type: "bool",
    wire: "data-file-raw",
    help: "The external data file must stay valid as a raw image",
  },
  {
    name: "lazy_refcounts",
    type: "bool",
    default: "off",
    wire: "lazy-refcounts",
    help: "Postpone refcount updates",
  },
  {
    name: "refcount_bits",
    type: "num",
    default: "16",
    wire: "refcount-bits",
    help: "Width of a reference count entry in bits",
  },
  { name: "nocow", type: "bool", help: "", later: true },
];

const rawRows: readonly OptionRow[] = [
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  { name: "nocow", type: "bool", help: "", later: true },
  {
    name: "preallocation",
    type: "str",
    wire: "preallocation",
    help: "Preallocation mode (allowed values: off, falloc, full)",
  },
  { name: "extent_size_hint", type: "size", help: "", later: true },
];

const tables: Readonly<Record<string, readonly OptionRow[]>> = {
  qcow2: qcow2Rows,
  raw: rawRows,
  luks: luksRows,
};

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
      else if (!this.#has(part) && part.startsWith("no") && this.#has(part.slice(2)))
        this.set(part.slice(2), "off");
      else this.set(part, "on");
    }
  }

  #has(name: string): boolean {
    return this.#rows.some((row) => row.name === name);
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

  /** Whether the option exists for this format. */
  accepts(name: string): boolean {
    return this.#has(name);
  }

  /** `cluster_size=65536 extended_l2=off …`, as qemu-img repeats the options of an image that it makes. */
  toString(): string {
    const words: string[] = [];
    for (const row of this.#rows) {
      const given = this.#given.get(row.name);
      const value = given ?? row.default;
      if (value === undefined) continue;
      const number = given !== undefined && (row.type === "size" || row.type === "num");
      const shown = row.type === "str" ? value.replaceAll(",", ",,") : value;
      words.push(`${row.name}=${number ? String(parseSize(value)) : shown}`);
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
    const given = [...this.#given].filter(([name]) => name !== "size");
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
      const off = value === "off" || value === "";
      if (row.later && !off) throw new Refusal(`Option '${name}' is not supported yet`);
      if (row.wire !== undefined) options[row.wire] = wireValue(row, value);
    }
    const data = options["data-file"];
    if (typeof data === "string") options["data-file"] = { driver: "file", filename: data };
    // Formats count in sectors.
    if (typeof options["size"] === "number")
      options["size"] = Math.min(Math.ceil(options["size"] / 512), LARGEST_SECTORS) * 512;
    const encrypt = this.#encryption();
    if (encrypt) options["encrypt"] = encrypt;
    if (this.format === "raw") checkRawPreallocation(this.#given.get("preallocation"));
    return options as unknown as CreateImageSpec;
  }
}

/** Throws Refusal, in QEMU's words, unless the text is a value of the option. */
export function checkValue(row: OptionRow, value: string): void {
  if (row.type === "bool" && !/^(on|yes|true|y|off|no|false|n)$/.test(value))
    throw new Refusal(`Parameter '${row.name}' expects 'on' or 'off'`);
  if (row.type === "num" && !/^(0x[0-9a-f]+|\d+)$/i.test(value))
    throw new Refusal(`Parameter '${row.name}' expects a number`);
  if (row.type === "size" && typeof parseSize(value) !== "bigint") throw new Refusal(notASize(row.name));
}

/** The value as QAPI has it. Throws Refusal. */
export function wireValue(row: OptionRow, value: string): string | number | boolean {
  if (row.type === "bool") return /^(on|yes|true|y)$/.test(value);
  if (row.type !== "str") return safeBytes(parseSize(value) as bigint);
  const meant = row.name === "compat" ? (versions[value] ?? value) : value;
  if (row.values && !row.values.includes(meant))
    throw new Refusal(`Parameter '${row.wire}' does not accept value '${value}'`);
  return meant;
}

const versions: Readonly<Record<string, string>> = { "0.10": "v2", "1.1": "v3" };

function checkRawPreallocation(mode: string | undefined): void {
  if (mode === undefined || mode === "off" || mode === "falloc" || mode === "full") return;
  if (mode === "metadata") throw new Refusal("Unsupported preallocation mode: metadata");
  throw new Refusal(`invalid parameter value: ${mode}`);
}

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

/** The options of a format, as text. */
export function optionsHelp(format: string): string {
  if (!isCreatable(format)) throw new Refusal(`Unknown file format '${format}'`);
  return `Supported ${format} options:\n${optionLines((tables[format] ?? []).filter((row) => !row.later))}`;
}

/** Options as help lists them, a line each. */
export function optionLines(rows: readonly OptionRow[]): string {
  const lines = rows.map((row) => `  ${`${row.name}=${typeNames[row.type]}`.padEnd(22)} - ${row.help}`);
  return `${lines.toSorted().join("\n")}\n`;
}
