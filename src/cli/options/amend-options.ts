/**
 * The options of `amend -o`, per format: how they are read and which member of the driver's options each becomes.
 * Source: behaviour and words of qemu-img 7.2.
 */
import { splitAtCommas } from "../../wire/qapi/keyval.ts";
import { checkValue, CreateOptions, isCreatable, optionLines, wireValue } from "./create-options.ts";
import type { OptionRow } from "./rows.ts";
import { Refusal } from "../refusal.ts";

/** Of LUKS key slots. */
const keySlotRows: readonly OptionRow[] = [
  { name: "state", type: "str", help: "Select new state of affected keyslots (active/inactive)" },
  {
    name: "new-secret",
    type: "str",
    help: "New secret to set in the matching keyslots. Empty string to erase",
  },
  { name: "old-secret", type: "str", help: "Select all keyslots that match this password" },
  { name: "keyslot", type: "num", help: "Select a single keyslot to modify explicitly" },
  { name: "iter-time", type: "num", help: "Time to spend in PBKDF in milliseconds" },
];

const qcow2Rows: readonly OptionRow[] = [
  { name: "backing_file", type: "str", wire: "backing-file", help: "File name of a base image" },
  { name: "backing_fmt", type: "str", wire: "backing-fmt", help: "Image format of the base image" },
  { name: "compat", type: "str", wire: "version", help: "Compatibility level (v2 [0.10] or v3 [1.1])" },
  { name: "data_file", type: "str", wire: "data-file", help: "File name of an external data file" },
  {
    name: "data_file_raw",
    type: "bool",
    wire: "data-file-raw",
    help: "The external data file must stay valid as a raw image",
  },
  ...keySlotRows.map((row) => ({ ...row, name: `encrypt.${row.name}` })),
  { name: "lazy_refcounts", type: "bool", wire: "lazy-refcounts", help: "Postpone refcount updates" },
  {
    name: "refcount_bits",
    type: "num",
    wire: "refcount-bits",
    help: "Width of a reference count entry in bits",
  },
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
];

const tables: Readonly<Record<string, readonly OptionRow[]>> = { qcow2: qcow2Rows, luks: keySlotRows };

const versions: Readonly<Record<string, string>> = { "0.10": "v2", v2: "v2", "1.1": "v3", v3: "v3" };

function rowsOf(format: string): readonly OptionRow[] {
  const rows = tables[format];
  if (!rows) throw new Refusal(`Format driver '${format}' does not support option amendment`);
  return rows;
}

/** The options of a format, as text. Throws Refusal for formats without any. */
export function amendHelp(format: string): string {
  return `Amend options for '${format}':\n${optionLines(rowsOf(format))}`;
}

/** What the lists of `-o` change, as amend() takes it. Throws Refusal in QEMU's words. */
export function amendChanges(format: string, lists: readonly string[]): Record<string, unknown> {
  const rows = rowsOf(format);
  const changes: Record<string, unknown> = {};
  const encrypt: Record<string, unknown> = {};
  for (const part of lists.flatMap((list) => splitAtCommas(list))) {
    const at = part.indexOf("=");
    const [name, value] = at < 0 ? [part, "on"] : [part.slice(0, at), part.slice(at + 1)];
    const row = rows.find((candidate) => candidate.name === name);
    if (!row) throw unknown(format, name);
    checkValue(row, value);
    if (name.startsWith("encrypt.")) encrypt[name.slice("encrypt.".length)] = wireValue(row, value);
    else changes[row.wire ?? name] = name === "compat" ? versionOf(value) : wireValue(row, value);
  }
  return Object.keys(encrypt).length === 0 ? changes : { ...changes, encrypt };
}

function versionOf(value: string): string {
  const version = versions[value];
  if (version === undefined) throw new Refusal(`Unknown compatibility level ${value}`);
  return version;
}

function unknown(format: string, name: string): Refusal {
  const only = isCreatable(format) && new CreateOptions(format).accepts(name);
  return new Refusal(
    `Invalid parameter '${name}'${only ? "\nThis option is only supported for image creation" : ""}`,
  );
}
