/**
 * Options that are numbers, within bounds; names of disks give them, and flags, as text.
 */
import { KiB, MiB } from "../../../base/limits.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import { booleanOption, optionError, sizeOption } from "../../../block/model/options.ts";

/** A number within bounds. Throws EINVAL. */
export function numberWithin(
  spec: NodeSpec,
  name: string,
  range: { byDefault: number; least: number; most: number },
): number {
  const value = sizeOption(spec, name) ?? range.byDefault;
  if (value >= range.least && value <= range.most) return value;
  throw optionError(`Parameter '${name}' expects a number from ${range.least} to ${range.most}`);
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: KiB, M: MiB, G: MiB * KiB };

/** A description in which these options are numbers, where a name gave them as text. */
export function withNumbers(spec: NodeSpec, names: readonly string[]): NodeSpec {
  const read: Record<string, unknown> = { ...spec };
  for (const name of names) {
    const [, digits, unit = ""] = /^(\d{1,15})([KMG]?)$/i.exec(String(spec[name])) ?? [];
    if (typeof spec[name] === "string" && digits !== undefined)
      read[name] = Number(digits) * UNITS[unit.toUpperCase()]!;
  }
  return read as NodeSpec;
}

/** A flag, which a name gives as a word. */
export function flagOption(spec: NodeSpec, name: string): boolean | undefined {
  const value = spec[name];
  if (value === "on" || value === "true") return true;
  return value === "off" || value === "false" ? false : booleanOption(spec, name);
}
