/**
 * The options of a new image: how `-o` is read, how `create` repeats them, and which options of QAPI's BlockdevCreateOptions
 * they become. What there is to give is the format's table. Source: behaviour and words of qemu-img 7.2.
 */
import type { CreateOption, DriverType, NodeSpec, OptionUse } from "../../block/model/contract.ts";
import { type DriverSource, isItsFile } from "../../block/model/options.ts";
import type { CreateImageSpec } from "../../node.ts";
import { Refusal } from "../refusal.ts";
import {
  checkValue,
  creatable,
  fileRows,
  isKnownFormat,
  isYes,
  numberText,
  putWire,
  splitOptions,
  wireValue,
} from "./rows.ts";
import { parseSize, preallocationMode } from "./sizes.ts";

/** Above every limit, and a safe integer of bytes. */
const LARGEST_SECTORS = 2 ** 44 - 1;

/** Options of a new image, read and kept as they were given. */
export class CreateOptions {
  readonly #type: DriverType;
  readonly #drivers: DriverSource;
  readonly #own: readonly CreateOption[];
  readonly #rows: readonly CreateOption[];
  readonly #given = new Map<string, string>();

  /** Throws Refusal `Unknown file format 'x'`. */
  constructor(drivers: DriverSource, format: string) {
    this.#drivers = drivers;
    this.#type = creatable(drivers, format);
    this.#own = this.#type.createOptions ?? [];
    this.#rows = [...this.#own, ...fileRows(drivers, this.#own)];
  }

  get format(): string {
    return this.#type.name;
  }

  /** Reads what followed an `-o`. Throws Refusal in QEMU's words. */
  parse(text: string): void {
    const flag = (name: string): readonly [string, string] =>
      name.startsWith("no") ? [name.slice(2), "off"] : [name, "on"];
    for (const [name, value] of splitOptions(text, flag)) this.set(name, value);
  }

  /** Sets one option. Throws Refusal. */
  set(name: string, value: string): void {
    const row = this.#row(name);
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
    return this.#own.some((row) => row.name === name);
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

  /** The option by which nothing is made that data could be in. */
  get noDisk(): string | undefined {
    return this.#own.find(({ isNoDisk, name }) => isNoDisk && isYes(this.#given.get(name)))?.name;
  }

  /** Whether the image will be encrypted. */
  get encrypts(): boolean {
    return this.#secrets(this.#wire(this.#own, "create")).length > 0;
  }

  /** What opening the image takes beside its name: the secret that it is made with. */
  get secretOptions(): Record<string, unknown> {
    const options = this.#wire(this.#own, "create");
    const opening: Record<string, unknown> = {};
    for (const { wire = "" } of this.#secrets(options)) putWire(opening, wire, at(options, wire));
    return opening;
  }

  /** The options that measure() takes. Throws Refusal in QEMU's words. */
  get measured(): Record<string, unknown> {
    const rows = this.#own.filter(({ name }) => name !== "size");
    const options = this.#wire(rows, "measure");
    for (const row of rows)
      if (row.isNeededToMeasure?.(options) && at(options, row.wire ?? "") === undefined)
        throw new Refusal(`Parameter '${row.name}' is required for cipher`);
    return options;
  }

  /** The image that the options describe, in `file`. Throws Refusal in QEMU's words. */
  spec(file: NodeSpec): CreateImageSpec {
    const options: Record<string, unknown> = {
      driver: this.format,
      file,
      ...this.#wire(this.#rows, "create"),
    };
    // Formats count in sectors.
    if (this.noDisk !== undefined) options["size"] ??= 0;
    if (typeof options["size"] === "number")
      options["size"] = Math.min(Math.ceil(options["size"] / 512), LARGEST_SECTORS) * 512;
    return options as unknown as CreateImageSpec;
  }

  #row(name: string): CreateOption | undefined {
    return this.#rows.find((row) => row.name === name);
  }

  /** QAPI's members of these options, as far as they are given. */
  #wire(rows: readonly CreateOption[], use: OptionUse): Record<string, unknown> {
    const options: Record<string, unknown> = {};
    const given = this.#meant(rows);
    for (const row of rows) {
      const value = given.get(row.name);
      if (value === undefined) continue;
      const wire = this.#value(row, value, use);
      if (row.wire !== undefined)
        putWire(options, row.wire, row.isFile ? { driver: "file", filename: wire } : wire);
    }
    for (const row of rows) {
      const [object = "", member] = row.wire?.split(".") ?? [];
      if (row.isTag && member !== undefined && options[object] !== undefined && !given.has(row.name))
        throw new Refusal(`Parameter '${row.name}' is missing`);
    }
    return options;
  }

  /** What was given, with what it is short for in its place. Throws Refusal where both were. */
  #meant(rows: readonly CreateOption[]): ReadonlyMap<string, string> {
    const meant = new Map(this.#given);
    for (const { name, alias } of rows) {
      const value = this.#given.get(name);
      if (!alias || value === undefined) continue;
      if (this.#given.has(alias.option))
        throw new Refusal(`'${alias.option}' and its alias '${name}' can't be used at the same time`);
      if (isYes(value)) meant.set(alias.option, alias.value);
    }
    return meant;
  }

  #value(row: CreateOption, value: string, use: OptionUse): string | number | boolean {
    if (!this.accepts(row.name) && row.name === "preallocation")
      return this.#filePreallocation(row, value, use);
    if (row.isFormat && use === "create" && !isKnownFormat(this.#drivers, value))
      throw new Refusal(`Parameter '${row.wire}' does not accept value '${value}'`);
    return wireValue(row, value, use);
  }

  /** What the file cannot do, a format that lays its own metadata may make up for. */
  #filePreallocation(row: CreateOption, value: string, use: OptionUse): string | number | boolean {
    if (preallocationMode(value) === undefined) throw new Refusal(`invalid parameter value: ${value}`);
    if (!isItsFile(this.#type)) return value;
    if (row.values?.includes(value) === false) throw new Refusal(`Unsupported preallocation mode: ${value}`);
    return wireValue(row, value, use);
  }

  /** The options that name a secret of an encryption that is chosen. */
  #secrets(options: Readonly<Record<string, unknown>>): CreateOption[] {
    return this.#own.filter(({ isSecret, wire = "" }) => {
      const [object = "", member] = wire.split(".");
      return isSecret && (member === undefined || options[object] !== undefined);
    });
  }
}

function at(options: Readonly<Record<string, unknown>>, wire: string): unknown {
  let value: unknown = options;
  for (const name of wire.split(".")) value = (value as Record<string, unknown> | undefined)?.[name];
  return value;
}
