/**
 * The human monitor: a line in, text out. What goes wrong is text, too. Source: behaviour of QEMU 7.2's monitor.
 */
import { messageOf } from "../../../base/errors.ts";
import { isProgramFault } from "../output.ts";
import { type HmpCommand, type HmpHost, Reported } from "./command.ts";
import { hmpCommands } from "./commands.ts";
import { infoCommands } from "./info.ts";
import { firstWord, readWords, WrongLine } from "./words.ts";

export type { HmpHost } from "./command.ts";

function helpLine(command: HmpCommand, prefix = ""): string {
  const { name, alias, synopsis, help } = command;
  return `${prefix}${name}${alias === undefined ? "" : `|${alias}`} ${synopsis} -- ${help}\n`;
}

function helpText(topic: string): string {
  const { name, rest } = firstWord(topic);
  if (name === "") return [...hmpCommands.map((command) => helpLine(command))].join("");
  const prefix = name === "info" ? "info " : "";
  const list = prefix === "" ? hmpCommands : infoCommands;
  const wanted = prefix === "" ? name : rest.trim();
  if (prefix !== "" && wanted === "")
    return infoCommands.map((command) => helpLine(command, prefix)).join("");
  const found = find(list, wanted);
  return found ? helpLine(found, prefix) : `unknown command: '${topic.trim()}'\n`;
}

function find(commands: readonly HmpCommand[], name: string): HmpCommand | undefined {
  return commands.find((command) => command.name === name || command.alias === name);
}

/** Carries out a line; resolves with what is told, with line ends as on a terminal. */
export async function runHmp(line: string, host: HmpHost): Promise<string> {
  return (await answer(line, host)).replace(/\n/g, "\r\n");
}

async function answer(line: string, host: HmpHost): Promise<string> {
  const { name, rest } = firstWord(line);
  if (name === "") return "";
  if (name === "help" || name === "?") return helpText(rest);
  if (name !== "info") return carryOut({ command: find(hmpCommands, name), name, rest, line }, host);
  const sub = firstWord(rest);
  if (sub.name === "") return helpText("info");
  const command = find(infoCommands, sub.name);
  return carryOut({ command, name: `info ${sub.name}`, rest: sub.rest, line }, host);
}

interface Call {
  command: HmpCommand | undefined;
  name: string;
  rest: string;
  line: string;
}

async function carryOut({ command, name, rest, line }: Call, host: HmpHost): Promise<string> {
  if (!command) return `unknown command: '${line.trim()}'\n`;
  try {
    // A subcommand is told by its own name, and to be asked for by both.
    const called = command.alias === undefined ? command.name : `${command.name}|${command.alias}`;
    return (await command.run(host, readWords(called, rest, command.parameters))) ?? "";
  } catch (error) {
    if (error instanceof Reported) return `${error.message}\n`;
    if (error instanceof WrongLine) return `${error.message}\nTry "help ${name}" for more information\n`;
    if (isProgramFault(error)) throw error;
    return `Error: ${messageOf(error)}\n`;
  }
}
