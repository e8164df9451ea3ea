/**
 * Man pages out of the table of options: one of the program, and one of each verb. Source: man(7).
 */
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

/** The page of one verb. */
export function verbPage(verb: VerbEntry, version: string): string {
  const words = verb.words.filter(({ description }) => description !== "");
  const operands = words
    .map(({ name, description }) => `.TP\n.I ${argument(name)}\n${roff(`${description}.`)}\n`)
    .join("");
  return (
    `${head(`blockwright-${verb.name}`, { version, summary: verb.description })}` +
    `.SH SYNOPSIS\n.B ${argument(`blockwright ${verb.name}`)}\n${roff(verb.usage)}\n` +
    (operands === "" ? "" : `.SH OPERANDS\n${operands}`) +
    (verb.options.length === 0 ? "" : `.SH OPTIONS\n${verb.options.map(optionPart).join("")}`) +
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
    ".SH EXIT STATUS\n0 done, 1 failed, 130 cancelled by SIGINT, 143 cancelled by SIGTERM; some verbs have more.\n"
  );
}
