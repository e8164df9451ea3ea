/**
 * What a verb refuses or reports: the lines for stderr and the exit status. Errors of the layers below are told with what
 * they carry beside their words, as QEMU's programs print it.
 */
import { detailOf, messageOf } from "../base/errors.ts";
import type { Errno } from "../base/errno.ts";
import { hasProtocol } from "../block/model/gate.ts";
import { programName } from "./program.ts";

/** A refusal with its own lines and exit status. */
export class Refusal extends Error {
  readonly lines: readonly string[];
  readonly status: number | undefined;
  /** What went wrong below, where that decides how it goes on. */
  readonly code: Errno | undefined;

  constructor(lines: string | readonly string[], status?: number, code?: Errno) {
    super(typeof lines === "string" ? lines : lines.join("\n"));
    this.lines = typeof lines === "string" ? [lines] : lines;
    this.status = status;
    this.code = code;
  }
}

/** Throws unless `output` is one of the ways to print. */
export function checkOutput(output: string, status?: number): void {
  if (output !== "human" && output !== "json")
    throw new Refusal("--output must be used with human or json as argument.", status);
}

/** The message of anything thrown, with the advice below it, if there is one. A Refusal has it already. */
export function told(error: unknown): string {
  const message = messageOf(error);
  if (error instanceof Refusal) return message;
  const hint = advice(error);
  return hint === undefined ? message : `${message}\n${hint}`;
}

function advice(error: unknown): string | undefined {
  const verb = detailOf(error, "instead");
  if (verb !== undefined) return `You can use '${programName()} ${verb}' instead.`;
  const removable = detailOf(error, "removable");
  if (removable !== undefined) return `You can force-remove ${removable} with ${programName()} check -r all`;
  return detailOf(error, "hint");
}

/** Why an image can't be opened. As from QEMU a file is named twice, by who opens it and by its driver; a URL is named once. */
export function notOpened(name: string, error: unknown): string {
  const words = told(error);
  const prefix = `Could not open '${name}': `;
  return hasProtocol(name) && words.startsWith(prefix) ? words : `${prefix}${words}`;
}
