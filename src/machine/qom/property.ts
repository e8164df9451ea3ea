/**
 * What objects say of their properties: name, type, the value at first, and a description. Rows are written in short, `name:type=default`,
 * and read once. Source: `qom-list-properties` and `device-list-properties` of QEMU 7.2.
 */
import { assert } from "../../base/assert.ts";
import { type Json, parseJson } from "../../wire/qapi/index.ts";

/** A property of a type. */
export interface PropertyRow {
  readonly name: string;
  readonly type: string;
  readonly description?: string;
  /** Absent: the type tells of none. */
  readonly "default-value"?: Json;
}

const policy = "Error handling policy, report/ignore/enospc/stop/auto";
const descriptions: Readonly<Record<string, string>> = {
  OnOffAuto: "on/off/auto",
  BlockdevOnError: policy,
  FdcDriveType: "FDC drive type, 144/288/120/none/auto",
  BiosAtaTranslation: "Logical CHS translation algorithm, auto/none/lba/large/rechs",
  addr: "Slot and optional function number, example: 06.0 or 06",
  drive: "Node name or ID of a block device to use as a backend",
  logical_block_size: "A power of two between 512 B and 2 MiB",
  physical_block_size: "A power of two between 512 B and 2 MiB",
};

/** Rows from their short form. A type `bit` is a bool that a device keeps as a bit of a mask, and describes as `on/off`. */
export function propertyRows(text: string): PropertyRow[] {
  return text
    .trim()
    .split(/\s+/)
    .map((word) => {
      const [, name, type, value] = /^([^:]+):([^=]+)(?:=(.*))?$/.exec(word) ?? [];
      assert(name !== undefined && type !== undefined, `no row of a property: ${word}`);
      const description = type === "bit" ? "on/off" : (descriptions[name] ?? descriptions[type]);
      return {
        name,
        type: type === "bit" ? "bool" : type,
        ...(description === undefined ? {} : { description }),
        ...(value === undefined ? {} : { "default-value": valueOf(value) }),
      };
    });
}

function valueOf(text: string): Json {
  return /^(-?[0-9]+|true|false)$/.test(text) ? parseJson(text) : text;
}
