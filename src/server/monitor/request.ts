/**
 * The outer form of a QMP request: which members it may have, checked in QEMU's words. `exec-oob` is one of them once a client has
 * enabled it.
 */
import { CommandError } from "../../base/errors.ts";
import { isJsonObject, type Json, type JsonObject } from "../../wire/qapi/index.ts";
import type { RequestId } from "./reply.ts";

/** A request in good form. */
export interface Request {
  readonly command: string;
  readonly args: JsonObject;
  /** It came as `exec-oob`. */
  readonly isOutOfBand: boolean;
}

/** The id of a request in whatever form. */
export function idOf(request: Json): RequestId {
  return isJsonObject(request) ? request["id"] : undefined;
}

/** Takes a request apart. `oob`: the client has enabled it. Throws CommandError. */
export function parseRequest(request: Json, { oob }: { oob: boolean }): Request {
  if (!isJsonObject(request)) throw new CommandError("QMP input must be a JSON object");
  let command: string | undefined;
  let isOutOfBand = false;
  let args: JsonObject = {};
  for (const [member, value] of Object.entries(request)) {
    if (member === "execute" || (oob && member === "exec-oob")) {
      if (typeof value !== "string") throw new CommandError(`QMP input member '${member}' must be a string`);
      if (command !== undefined) throw new CommandError("QMP input member 'execute' clashes with 'exec-oob'");
      command = value;
      isOutOfBand = member === "exec-oob";
    } else if (member === "arguments") {
      if (!isJsonObject(value)) throw new CommandError("QMP input member 'arguments' must be an object");
      args = value;
    } else if (member !== "id") {
      throw new CommandError(`QMP input member '${member}' is unexpected`);
    }
  }
  if (command === undefined) throw new CommandError("QMP input lacks member 'execute'");
  return { command, args, isOutOfBand };
}
