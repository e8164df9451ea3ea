/** Arguments of calls on disks, in this thread or another: a wrong one is told of by its name, with what would be right. */
import { CommandError } from "../base/errors.ts";
import { wrongArgument } from "./options.ts";

/** Throws CommandError unless both are numbers. */
export function checkRange(offset: unknown, bytes: unknown): void {
  checkNumber("offset", offset);
  checkNumber("bytes", bytes);
}

/** Throws CommandError unless `value` is a number; where it must lie, the disk says. */
export function checkNumber(name: string, value: unknown): void {
  if (typeof value !== "number") throw wrongArgument(name, "number");
}

/** Throws CommandError unless `value` is a number of bytes, or a buffer for them. */
export function checkBuffer(name: string, value: unknown): void {
  if (value === undefined) throw wrongArgument(name, "number or Uint8Array");
  if (typeof value !== "number") return checkBytes(name, value);
  if (value >>> 0 !== value)
    throw new CommandError(`Parameter '${name}' expects a number of bytes below 2^32, not ${value}`);
}

/** Throws CommandError unless `value` is a Uint8Array, of whichever realm. */
export function checkBytes(name: string, value: unknown): void {
  if (value instanceof Uint8Array || Object.prototype.toString.call(value) === "[object Uint8Array]") return;
  const how =
    typeof value === "string"
      ? " (new TextEncoder().encode(text) makes one)"
      : value instanceof ArrayBuffer || ArrayBuffer.isView(value)
        ? " (new Uint8Array() over its buffer makes one)"
        : "";
  throw wrongArgument(name, `Uint8Array${how}`);
}
