/**
 * Running as one of QEMU's programs: its command line, its --version and the beginning of its --help, which scripts parse.
 */
import type { Command } from "commander";
import { helpHead, programName, type StandIn, standInVersion } from "./program.ts";
import { usageHint } from "./usage.ts";

/** Leaves of the program's verbs those that the other one has, and lets --help begin as its does. */
export async function standInFor(program: Command, alias: StandIn, args: readonly string[]): Promise<void> {
  const kept = alias.verb === undefined ? (alias.verbs ?? []) : [alias.verb];
  const commands = program.commands as Command[];
  commands.splice(0, commands.length, ...commands.filter((command) => kept.includes(command.name())));
  program.helpCommand(false);
  const usage = alias.usage.slice("Usage: ".length);
  for (const command of commands)
    if (command.name() === alias.verb) command.configureHelp({ commandUsage: () => usage });
  program.addHelpText("beforeAll", helpHead(alias));
  if (args.some((word) => word === "-h" || word === "--help"))
    program.addHelpText("afterAll", `\nSupported formats: ${(await driverNames()).join(" ")}`);
}

/** The drivers that the other program may have, too. */
async function driverNames(): Promise<string[]> {
  const { formatNames } = await import("./machine/help.ts");
  return formatNames();
}

/** Carries out the command line of the other program. */
export async function runAs(program: Command, alias: StandIn, args: readonly string[]): Promise<void> {
  if (alias.verb !== undefined && !["daemon", "machine"].includes(alias.verb) && args.some(asksForVersion)) {
    process.stdout.write(`${standInVersion()}\n`);
    return;
  }
  if (alias.verb === undefined && args.length === 0) {
    process.stderr.write(`${programName()}: Not enough arguments\n${usageHint()}\n`);
    process.exitCode = 1;
    return;
  }
  const words = alias.verb === undefined ? args : [alias.verb, ...args];
  await program.parseAsync(words, { from: "user" });
}

function asksForVersion(word: string): boolean {
  return word === "-V" || word === "--version";
}
