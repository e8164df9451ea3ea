/**
 * Reading a node's options. Specs from the monitor are validated against the QAPI table before they arrive; those of
 * library callers may not be, so each read checks the type again, in the words of QEMU 7.2.
 *
 * Here are also the questions on the formats of an engine that any of them may answer, so that nobody else has to know one by name.
 */
import { blockError, CommandError } from "../../base/errors.ts";
import type { NodeSpec, DriverType } from "./contract.ts";

/** The error for a bad option: EINVAL of `open`. */
export function optionError(message: string): Error {
  return blockError("EINVAL", "open", message);
}

/** An integer option >= 0, a safe integer. Throws EINVAL. */
export function sizeOption(spec: NodeSpec, name: string): number | undefined {
  const value = spec[name];
  if (value === undefined) return undefined;
  if (typeof value !== "number") throw optionError(`Invalid parameter type for '${name}', expected: integer`);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw optionError(`Parameter '${name}' expects a non-negative number below 2^64`);
  }
  return value;
}

/** A Boolean option. Throws EINVAL. */
export function booleanOption(spec: NodeSpec, name: string): boolean | undefined {
  const value = spec[name];
  if (value === undefined) return undefined;
  if (typeof value !== "boolean")
    throw optionError(`Invalid parameter type for '${name}', expected: boolean`);
  return value;
}

/** A string option. Throws EINVAL. */
export function stringOption(spec: NodeSpec, name: string): string | undefined {
  const value = spec[name];
  if (value === undefined) return undefined;
  if (typeof value !== "string") throw optionError(`Invalid parameter type for '${name}', expected: string`);
  return value;
}

/** A list of strings. Throws EINVAL. */
export function stringListOption(spec: NodeSpec, name: string): readonly string[] {
  const value = spec[name];
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw optionError(`Invalid parameter type for '${name}', expected: array`);
  for (const item of value as unknown[]) {
    if (typeof item !== "string") throw optionError(`Invalid parameter type for '${name}', expected: string`);
  }
  return value as string[];
}

/** A reference to a child: a node name, or a spec. `undefined` where the option is missing. Throws EINVAL. */
export function childOption(spec: NodeSpec, name: string): string | NodeSpec | undefined {
  const value = spec[name];
  if (value === undefined || typeof value === "string") return value;
  if (typeof value === "object" && value !== null && "driver" in value) return value as NodeSpec;
  throw optionError(`Invalid parameter type for '${name}', expected: BlockdevRef`);
}

/** Who has drivers: a graph. */
export interface DriverSource {
  readonly drivers: Iterable<DriverType>;
}

/** The format that is meant where none is named. Throws CommandError in an engine without one. */
export function defaultFormat({ drivers }: DriverSource, use: "unclaimed" | "overlay"): string {
  for (const type of drivers) if (type.isDefault === use) return type.name;
  throw new CommandError(
    "Image format not specified, and this engine has none for images that do not say it",
  );
}

/** The driver that reads the names of a protocol; undefined: there is none. */
export function driverOfProtocol({ drivers }: DriverSource, protocol: string): DriverType | undefined {
  for (const type of drivers)
    if (type.parseName && (type.name === protocol || type.protocols?.includes(protocol))) return type;
  return undefined;
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** The options that a name gave as text, as the driver's description of them has them: numbers and flags are such. */
export function optionsOfName(
  { openOptions = {} }: Pick<DriverType, "openOptions">,
  options: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const read = (name: string, value: unknown): unknown => {
    const type = openOptions[`*${name}`] ?? openOptions[name];
    if (typeof value !== "string") return value;
    if (type === "bool")
      return value === "on" || value === "true" || (value !== "off" && value !== "false" && value);
    const [, digits, unit = ""] = /^(\d{1,15})([KMG]?)$/i.exec(value) ?? [];
    const isNumber = (type === "int" || type === "size") && digits !== undefined;
    return isNumber ? Number(digits) * UNITS[unit.toUpperCase()]! : value;
  };
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [name, read(name, value)]));
}

/** The storage that a name of a protocol says; undefined: no driver reads it, or it says more than storage. */
export function storageOfName(drivers: DriverSource, protocol: string, name: string): NodeSpec | undefined {
  const type = driverOfProtocol(drivers, protocol);
  const { options, children } = type?.parseName?.(name) ?? {};
  return type && options && !children ? { ...optionsOfName(type, options), driver: type.name } : undefined;
}

/** Whether a driver is of that name. */
export function findDriver({ drivers }: DriverSource, name: string): DriverType | undefined {
  for (const type of drivers) if (type.name === name) return type;
  return undefined;
}

/** Whether an image of that format is its file, as it is: such a file needs to be made and no more. */
export function isItsFile(type: DriverType): boolean {
  return type.create === undefined && type.createOptions !== undefined;
}
