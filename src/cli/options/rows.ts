/**
 * One option of an image as the command line reads it: values checked, and read into QAPI's. The tables are the formats' own
 * (DriverType.createOptions, amendOptions). Source: behaviour and words of qemu-img 7.2.
 */
import type { CreateOption, DriverType, OptionUse } from "../../block/model/contract.ts";
import { foreignFormats } from "../../block/model/foreign-formats.ts";
import { defaultFormat, type DriverSource, findDriver } from "../../block/model/options.ts";
import { splitAtCommas } from "../../wire/qapi/keyval.ts";
import { Refusal } from "../refusal.ts";
import { cUnsigned, notASize, parseSize, safeBytes } from "./sizes.ts";

/** Whether a header may name the format: one of ours, or of QEMU's. */
export function isKnownFormat(drivers: DriverSource, name: string): boolean {
  return foreignFormats.includes(name) || findDriver(drivers, name) !== undefined;
}

/** The format of that name, of which images can be made. Throws Refusal `Unknown file format 'x'`. */
export function creatable(drivers: DriverSource, format: string): DriverType {
  const named = findDriver(drivers, format);
  // `file` by itself: an image without a format.
  const isFile = named?.kind === "protocol" && named.createOptions !== undefined;
  const type = isFile ? findDriver(drivers, defaultFormat(drivers, "unclaimed")) : named;
  if (type?.kind !== "format" || !type.createOptions) throw new Refusal(`Unknown file format '${format}'`);
  return type;
}

/** The options of the file below a new image that are not the format's own. */
export function fileRows(drivers: DriverSource, own: readonly CreateOption[]): readonly CreateOption[] {
  const rows = findDriver(drivers, "file")?.createOptions ?? [];
  return rows.filter(({ name }) => !own.some((row) => row.name === name));
}

/** Name and value of each part of an `-o`; `flag` reads a part without a value. */
export function splitOptions(
  text: string,
  flag: (name: string) => readonly [name: string, value: string],
): (readonly [name: string, value: string])[] {
  return splitAtCommas(text).map((part) => {
    const at = part.indexOf("=");
    return at < 0 ? flag(part) : [part.slice(0, at), part.slice(at + 1)];
  });
}

const YES = /^(on|yes|true|y)$/;
const NO = /^(off|no|false|n)$/;

/** Whether the text means yes. */
export function isYes(value: string | undefined): boolean {
  return value !== undefined && YES.test(value);
}

/** Throws Refusal, in QEMU's words, unless the text is a value of the option's type. */
export function checkValue(row: CreateOption, value: string): void {
  if (row.type === "bool" && !YES.test(value) && !NO.test(value))
    throw new Refusal(`Parameter '${row.name}' expects 'on' or 'off'`);
  const number = row.type === "num" ? cUnsigned(value) : 0n;
  if (number === "invalid") throw new Refusal(`Parameter '${row.name}' expects a number`);
  if (number === "range") throw new Refusal(`Value '${value}' is too large for parameter '${row.name}'`);
  if (row.type === "size" && typeof parseSize(value) !== "bigint") throw new Refusal(notASize(row.name));
}

/** A value as `create` repeats it: numbers in decimal. */
export function numberText({ type }: CreateOption, value: string): string {
  if (type === "size") return String(parseSize(value));
  return type === "num" ? String(signed(cUnsigned(value) as bigint)) : value;
}

/** A 64-bit number with its sign, as far as it is a safe integer. */
function signed(value: bigint): number {
  const number = BigInt.asIntN(64, value);
  return number < 0n ? -safeBytes(-number) : safeBytes(number);
}

/** The value as QAPI has it. Throws Refusal. */
export function wireValue(row: CreateOption, value: string, use: OptionUse): string | number | boolean {
  const refusal = row.refusal?.(numberText(row, value), use);
  if (refusal !== undefined) throw new Refusal(refusal);
  if (row.type === "bool") return isYes(value);
  if (row.type === "num") return signed(cUnsigned(value) as bigint);
  if (row.type !== "str") return safeBytes(parseSize(value) as bigint);
  const { words = {}, values } = row;
  if (Object.hasOwn(words, value)) return words[value]!;
  if (values && !values.includes(value))
    throw new Refusal(`Parameter '${row.wire?.split(".").at(-1)}' does not accept value '${value}'`);
  return value;
}

/** Puts a value where the option's path says. */
export function putWire(options: Record<string, unknown>, wire: string, value: unknown): void {
  const [name = "", ...rest] = wire.split(".");
  if (rest.length === 0) options[name] = value;
  else putWire((options[name] ??= {}) as Record<string, unknown>, rest.join("."), value);
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

/** An option as help names it. */
export function optionWords(row: CreateOption): string {
  return `${row.name}=${typeNames[row.type]}`;
}

/** The options of a format as text: with those of its file, once that is named. */
export function optionsHelp(drivers: DriverSource, format: string, withFile: boolean): string {
  const { createOptions: rows = [] } = creatable(drivers, format);
  if (withFile) return `Supported options:\n${optionLines([...rows, ...fileRows(drivers, rows)])}`;
  const hint =
    "The protocol level may support further options.\nSpecify the target filename to include those options.";
  return `Supported ${format} options:\n${optionLines(rows)}\n${hint}\n`;
}

/** Options as help lists them, a line each. */
export function optionLines(rows: readonly CreateOption[]): string {
  const shown = rows.filter(({ isNewer }) => !isNewer);
  const lines = shown.map((row) => `  ${optionWords(row).padEnd(22)} - ${row.help}`);
  return `${lines.toSorted().join("\n")}\n`;
}
