/**
 * Reading a node's options. Specs from the monitor are validated against the QAPI table before they arrive; those of
 * library callers may not be, so each read checks the type again, in the words of QEMU 7.2.
 */
import { blockError } from "../../base/errors.ts";
import type { NodeSpec } from "./contract.ts";

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
