/**
 * What is said of a wrong command line, in the words of qemu-img.
 */

import { didYouMean } from "../wire/qapi/suggest.ts";
import { programName, standIn } from "./program.ts";
import { Refusal } from "./refusal.ts";

/** What can be written on a command line. */
export interface Known {
  readonly verbs: readonly string[];
  readonly options: readonly string[];
  /** Verbs within the verb, as `list` of `backup`. */
  readonly actions: readonly string[];
}

/** A refusal of the command line itself, which goes on to where one can read about it. */
export function misuse(text: string, status?: number): Refusal {
  return new Refusal(`${text}\n${usageHint()}`, status);
}

/** The line after it. */
export function usageHint(): string {
  return `Try '${programName()} --help' for more information`;
}

/** What was meant; QEMU's programs have no such words. */
function meant(word: string, { verbs, options }: Known): string {
  if (standIn()) return "";
  // `-v` and `version` are what others call -V.
  if (/^(-v|-?-?version)$/i.test(word)) return " (did you mean '--version'?)";
  return didYouMean(word, word.startsWith("-") ? options : verbs);
}

/** Of what a verb takes by name, with what was meant. */
function noChoice(message: string): string | undefined {
  const [, word = "", what = "", choices] =
    /^command-argument value '(.*)' is invalid for argument '(.+)'\. Allowed choices are (.+)\.$/s.exec(
      message,
    ) ?? [];
  if (choices === undefined) return undefined;
  return `unknown ${what} '${word}': there are ${choices}${didYouMean(word, choices.split(", "))}`;
}

/** A verb with verbs of its own that takes images, too, has taken a misspelt one for an image. */
function misspeltAction([verb = "", action = ""]: readonly string[], { actions }: Known): string | undefined {
  if (actions.length === 0 || actions.includes(action) || action.startsWith("-")) return undefined;
  const hint = didYouMean(action, actions);
  return hint === "" ? undefined : `${verb} has no action '${action}'${hint}`;
}

/**
 * Commander's message as qemu-img would say it, and what was meant. `words` is the command line, whose last word may lack its
 * argument.
 */
export function usageError(message: string, words: readonly string[], known: Known): string {
  const text = message.replace(/^error: /, "").trimEnd();
  const unknown = /^unknown option '([^']*)'/.exec(text)?.[1];
  if (unknown !== undefined)
    return misspeltAction(words, known) ?? `unrecognized option '${unknown}'${meant(unknown, known)}`;
  const command = /^unknown command '([^']*)'/.exec(text)?.[1];
  if (command !== undefined) return `Command not found: ${command}${meant(command, known)}`;
  if (text.startsWith("too many arguments for ")) return `Unexpected argument: ${words.at(-1)}`;
  const lacking = /^option '(-\w|--[\w-]+).*' argument missing$/.exec(text)?.[1];
  if (lacking === undefined) return noChoice(text) ?? text;
  const last = words.at(-1) ?? "";
  return `missing argument for option '${last.startsWith("-") ? last : lacking}'`;
}
