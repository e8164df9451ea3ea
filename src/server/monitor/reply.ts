/**
 * What a monitor sends: greeting, replies and events, a line each. The one place where an error becomes QMP's
 * `{class, desc}`. Source: QEMU's QMP specification (docs/interop/qmp-spec).
 */
import { AssertionError } from "../../base/assert.ts";
import { CommandError, firstFailure, messageOf, type QmpErrorClass } from "../../base/errors.ts";
import { withoutPassword } from "../../base/names.ts";
import { stringifyJson, type Json, type QmpEvent, type TypeOf } from "../../wire/qapi/index.ts";

/** An error as QMP shows it. */
export interface QmpError {
  readonly class: QmpErrorClass;
  readonly desc: string;
}

/** How lines are written: spaces of indentation a level, 0 for one line a message. */
export interface LineStyle {
  readonly indent: number;
}

/** A request's id, echoed; undefined if it had none. */
export type RequestId = Json | undefined;

function line(message: object, style: LineStyle): string {
  return `${stringifyJson(message, style.indent)}\r\n`;
}

/** The greeting. */
export function formatGreeting(version: TypeOf<"VersionInfo">, style: LineStyle): string {
  return line({ QMP: { version, capabilities: ["oob"] } }, style);
}

/** A successful reply; `undefined` answers `{}`. */
export function formatReply(value: unknown, id: RequestId, style: LineStyle): string {
  return line({ return: value ?? {}, id }, style);
}

/** An error reply. */
export function formatError(error: QmpError, id: RequestId, style: LineStyle): string {
  return line({ id, error }, style);
}

/** An event, stamped with wall-clock `microseconds` since 1970. `data` is left out if it is empty. */
export function formatEvent(event: QmpEvent, microseconds: number, style: LineStyle): string {
  const timestamp = {
    seconds: Math.floor(microseconds / 1_000_000),
    microseconds: Math.floor(microseconds % 1_000_000),
  };
  const data = Object.keys(event.data).length > 0 ? event.data : undefined;
  return line({ timestamp, event: event.event, data }, style);
}

/** The QMP form of anything thrown: a CommandError's own class, GenericError for the rest. */
export function toQmpError(thrown: unknown): QmpError {
  const error = firstFailure(thrown);
  const qmpClass = error instanceof CommandError ? error.qmpClass : "GenericError";
  return { class: qmpClass, desc: withoutPassword(messageOf(error)) };
}

/** Whether `error` is a fault of the program and should be logged. */
export function isProgramFault(error: unknown): boolean {
  const isFault = error instanceof AssertionError || error instanceof TypeError;
  return isFault || error instanceof ReferenceError || error instanceof RangeError;
}
