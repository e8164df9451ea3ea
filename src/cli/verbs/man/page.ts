/**
 * Man pages out of the table of options: one of the program, and one of each verb. Source: man(7).
 */
import type { CreateOption, DriverType } from "../../../block/model/contract.ts";
import { optionWords } from "../../options/rows.ts";
import type { OptionEntry, ProgramTable, VerbEntry } from "../../options/table.ts";

/** Text for roff: no escapes, no requests, and the dashes that one can copy. */
function roff(text: string): string {
  const plain = text
    .replaceAll("\\", String.raw`\e`)
    .replaceAll("-", String.raw`\-`)
    .replaceAll("…", "...")
    .replaceAll(/[^ -~\n]/g, "?");
  return plain.replaceAll(/^([.'])/gm, String.raw`\&$1`);
}

/** An argument of a macro. */
function argument(text: string): string {
  return `"${roff(text).replaceAll('"', String.raw`\(dq`)}"`;
}

function optionPart({ flags, description, choices }: OptionEntry): string {
  const values = choices.length > 0 ? `\nOne of: ${choices.join(", ")}.` : "";
  return `.TP\n.B ${argument(flags)}\n${roff(`${description}.${values}`)}\n`;
}

function head(name: string, { version, summary }: { version: string; summary: string }): string {
  const title = argument(name.toUpperCase());
  return `.TH ${title} 1 "" ${argument(`blockwright ${version}`)} "Blockwright"\n.SH NAME\n${roff(name)} \\- ${roff(summary)}\n`;
}

function formatPart(what: string, { name }: DriverType, rows: readonly CreateOption[]): string {
  const list = rows.map((row) => `.TP\n.B ${argument(optionWords(row))}\n${roff(`${row.help}.`)}\n`);
  return `.SS ${argument(`${name}: ${what}`)}\n${list.join("")}`;
}

/** What `-o` takes of each format, out of the formats' own tables. */
function formatsPart(types: readonly DriverType[]): string {
  const parts = types
    .filter(({ kind }) => kind === "format")
    .flatMap((type) => [
      type.createOptions ? formatPart("new images", type, type.createOptions) : "",
      type.amendOptions ? formatPart("amend", type, type.amendOptions) : "",
    ]);
  return `.SH IMAGE FORMATS\nTheir options, as -o takes them.\n${parts.join("")}`;
}

/** A verb of a verb: what it is for, and its options. */
function belowPart(name: string, { name: own, usage, description, options }: VerbEntry): string {
  return (
    `.SS ${argument(`${name} ${own} ${usage}`)}\n${roff(`${description}.`)}\n` +
    options.map(optionPart).join("")
  );
}

/** The page of one verb; that of one which takes options of formats lists them. */
export function verbPage(verb: VerbEntry, version: string, drivers: readonly DriverType[]): string {
  const takesOptions = verb.options.some(({ long, value }) => long === "--option" && value !== undefined);
  const words = verb.words.filter(({ description }) => description !== "");
  const operands = words
    .map(({ name, description }) => `.TP\n.I ${argument(name)}\n${roff(`${description}.`)}\n`)
    .join("");
  return (
    `${head(`blockwright-${verb.name}`, { version, summary: verb.description })}` +
    `.SH SYNOPSIS\n.B ${argument(`blockwright ${verb.name}`)}\n${roff(verb.usage)}\n` +
    (operands === "" ? "" : `.SH OPERANDS\n${operands}`) +
    (verb.options.length === 0 ? "" : `.SH OPTIONS\n${verb.options.map(optionPart).join("")}`) +
    (verb.verbs.length === 0
      ? ""
      : `.SH COMMANDS\n${verb.verbs.map((below) => belowPart(verb.name, below)).join("")}`) +
    (takesOptions ? formatsPart(drivers) : "") +
    ".SH SEE ALSO\n.BR blockwright (1)\n"
  );
}

/** The page of the program. */
export function programPage({ description, options, verbs }: ProgramTable, version: string): string {
  const list = verbs.map(
    (verb) =>
      `.TP\n.B ${argument(verb.name)}\n${roff(`${verb.description}; see blockwright-${verb.name}(1).`)}\n`,
  );
  return (
    `${head("blockwright", { version, summary: description })}` +
    `.SH SYNOPSIS\n.B blockwright\n${roff("VERB [options] ...")}\n` +
    `.SH VERBS\n${list.join("")}.SH OPTIONS\n${options.map(optionPart).join("")}` +
    ".SH EXIT STATUS\n0 done, 1 failed, 130 cancelled by SIGINT, 143 by SIGTERM, 129 by SIGHUP; some verbs have more.\n"
  );
}
