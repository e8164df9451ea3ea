/**
 * What is said of a wrong command line, in the words of qemu-img.
 */

import { programName } from "./program.ts";

/** The line after it. */
export function usageHint(): string {
  return `Try '${programName()} --help' for more information`;
}

/** Commander's message as qemu-img would say it. `words` is the command line, whose last word may lack its argument. */
export function usageError(message: string, words: readonly string[]): string {
  const text = message.replace(/^error: /, "").trimEnd();
  const unknown = /^unknown option '([^']*)'/.exec(text)?.[1];
  if (unknown !== undefined) return `unrecognized option '${unknown}'`;
  const command = /^unknown command '([^']*)'/.exec(text)?.[1];
  if (command !== undefined) return `Command not found: ${command}`;
  if (text.startsWith("too many arguments for ")) return `Unexpected argument: ${words.at(-1)}`;
  const lacking = /^option '(-\w|--[\w-]+).*' argument missing$/.exec(text)?.[1];
  if (lacking === undefined) return text;
  const last = words.at(-1) ?? "";
  return `missing argument for option '${last.startsWith("-") ? last : lacking}'`;
}
