/**
 * The values that a shell offers for options and words whose values are few: those that the table has, and those that a verb
 * checks itself, in QEMU's words. The daemon's options, which are no part of the table, are added.
 */
import { gatePolicies } from "../../../block/model/gate.ts";
import { portableDrivers } from "../../../drivers/index.ts";
import { options as daemonOptions } from "../../daemon/options.ts";
import type { OptionEntry, ProgramTable, VerbEntry } from "../../options/table.ts";
import { valuesOf } from "../../../wire/qapi/option-types.ts";

const cacheModes = ["none", "writeback", "unsafe", "directsync", "writethrough"];
const formats = portableDrivers.filter(({ kind }) => kind === "format");

const names = formats.filter(({ createOptions }) => createOptions).map(({ name }) => name);

/** By the long name of an option. */
const values: Readonly<Record<string, readonly string[]>> = {
  "--format": names,
  "--source-format": names,
  "--second-format": names,
  "--backing-format": names,
  "--target-format": names,
  "--output": ["human", "json"],
  "--repair": ["leaks", "all"],
  "--cache": cacheModes,
  "--source-cache": cacheModes,
  "--preallocation": valuesOf("PreallocMode"),
  "--discard": ["unmap", "ignore"],
  "--aio": valuesOf("BlockdevAioOptions"),
  "--gate": gatePolicies,
};

/** What `-o` takes: the options of all formats, those of `amend` for that verb. */
function formatOptions(verb: string): string[] {
  const rows = formats.flatMap(({ createOptions, amendOptions }) =>
    verb === "amend" ? (amendOptions ?? []) : (createOptions ?? []),
  );
  return [...new Set(["help", ...rows.map(({ name }) => `${name}=`)])];
}

function choicesOf(verb: string, option: OptionEntry): readonly string[] {
  const { long = "", value, choices } = option;
  if (choices.length > 0 || value === undefined) return choices;
  if (long === "--option") return formatOptions(verb);

  return values[long] ?? [];
}

function daemonEntries(): OptionEntry[] {
  return Object.entries(daemonOptions).map(([name, option]) => {
    const short = "short" in option ? `-${option.short}` : undefined;
    const value = option.type === "string" ? name : undefined;
    return { short, long: `--${name}`, flags: `--${name}`, description: name, value, choices: [] };
  });
}

/** The options of a verb and of the verbs that it has: which of them was written is not looked at. */
function allOptions({ options, verbs }: VerbEntry): OptionEntry[] {
  const all = [...options, ...verbs.flatMap((below) => below.options)];
  return [...new Map(all.map((option) => [option.long ?? option.short, option])).values()];
}

/** The same table with all values that shells are to offer. */
export function withValues(table: ProgramTable): ProgramTable {
  const verbs = table.verbs.map((verb): VerbEntry => {
    const options = verb.name === "daemon" ? daemonEntries() : allOptions(verb);
    return { ...verb, options: options.map((one) => ({ ...one, choices: choicesOf(verb.name, one) })) };
  });
  return { ...table, verbs };
}

/** What the first word behind the verb may be, where that is no file. */
export function firstWords(verb: VerbEntry, { verbs }: ProgramTable): readonly string[] {
  if (verb.name === "man") return verbs.map(({ name }) => name);
  return [...verb.verbs.map(({ name }) => name), ...(verb.words[0]?.choices ?? [])];
}
