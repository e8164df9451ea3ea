/**
 * The verbs and options of the program as one table, read out of commander's definitions: what --help shows is what the
 * completions and the man pages are made of.
 */
import type { Command } from "commander";

/** One option. */
export interface OptionEntry {
  /** `-f`, where there is a short name. */
  readonly short: string | undefined;
  /** `--format`, where there is a long name. */
  readonly long: string | undefined;
  /** `-f, --format <format>`. */
  readonly flags: string;
  readonly description: string;
  /** What the value is called (`format`), where it takes one. */
  readonly value: string | undefined;
  /** The values that it takes, where they are few. */
  readonly choices: readonly string[];
}

/** One verb. */
export interface VerbEntry {
  readonly name: string;
  readonly description: string;
  /** `[options] <image>`. */
  readonly usage: string;
  readonly words: readonly { name: string; description: string; choices: readonly string[] }[];
  readonly options: readonly OptionEntry[];
  /** Verbs of its own: `backup create`. */
  readonly verbs: readonly VerbEntry[];
}

/** The whole program; its own options are those of the entry without a name. */
export interface ProgramTable {
  readonly description: string;
  readonly options: readonly OptionEntry[];
  readonly verbs: readonly VerbEntry[];
}

function optionsOf(command: Command): OptionEntry[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .map((option) => ({
      short: option.short,
      long: option.long,
      flags: option.flags,
      description: option.description,
      value: /[<[]([^>\]]+)[>\]]/.exec(option.flags)?.[1],
      choices: option.argChoices ?? [],
    }));
}

function verbOf(command: Command): VerbEntry {
  return {
    name: command.name(),
    description: command.description(),
    usage: command.usage(),
    words: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      description: argument.description,
      choices: argument.argChoices ?? [],
    })),
    options: optionsOf(command),
    verbs: command.commands.map((below) => verbOf(below)),
  };
}

/** Reads the table. */
export function tableOf(program: Command): ProgramTable {
  return {
    description: program.description(),
    options: optionsOf(program),
    verbs: program.commands.map((command) => verbOf(command)),
  };
}
