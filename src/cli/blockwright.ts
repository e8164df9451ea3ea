/**
 * The command line program blockwright, which main.ts starts.
 */
import { Command, type OutputConfiguration } from "commander";
import { endDone } from "../platform/node/exit.ts";
import { makeOutputLate } from "../platform/node/late-output.ts";
import { version } from "../version.ts";
import { endWhereBroken } from "./broken.ts";
import { addVerbs, verbNames } from "./verbs.ts";
import { programName, standIn, standInVersion, takeName } from "./program.ts";
import { runAs, standInFor } from "./stand-in.ts";
import { type Known, usageError, usageHint } from "./usage.ts";

async function main(): Promise<void> {
  endWhereBroken();
  // Whoever wants to know how far a verb is may ask before, or after, there is an answer: Node would start its debugger.
  process.on("SIGUSR1", () => undefined);
  // A reader that goes away is an end that runs see to; after them it is none of anybody's concern.
  process.stdout.on("error", () => undefined);

  const args = await wordsOf(takeName(process.argv.slice(2)));
  if (!args) return;
  const alias = standIn();

  const output: OutputConfiguration = {
    outputError: (text, write) => write(`${programName()}: ${usageError(text, args, known())}\n`),
  };
  const known = (): Known => {
    const verb = program.commands.filter((command) => command.name() === args[0]);
    const actions = verb.flatMap(({ commands }) => commands);
    return {
      verbs: verbNames,
      options: [program, ...verb, ...actions.filter((command) => command.name() === args[1])].flatMap(
        ({ options }) => options.flatMap(({ long }) => long ?? []),
      ),
      actions: actions.map((command) => command.name()),
    };
  };

  const program = new Command(programName())
    .description(
      "QEMU's block layer and block jobs for Node: disk images mirrored, backed up, streamed and committed live",
    )
    .version(alias ? standInVersion() : version, "-V, --version")
    .showHelpAfterError(usageHint())
    .showSuggestionAfterError(false)
    .configureOutput(output)
    .configureHelp({ subcommandTerm: (command) => `${command.name()} ${command.usage()}` })
    .enablePositionalOptions();

  const isForeign = alias?.verbs?.includes(args[0] ?? "") === false;
  await addVerbs(program, isForeign ? "" : (alias?.verb ?? args[0] ?? ""));

  if (alias) {
    await standInFor(program, alias, args);
    await runAs(program, alias, args);
  } else await program.parseAsync(args, { from: "user" });
}

/** What is to be carried out: the words that were given, or those that a checkpoint keeps. */
async function wordsOf(given: string[]): Promise<string[] | undefined> {
  if (given[0] !== "job" || given[1] !== "resume") return given;
  const { isOfCheckpoint, resumedWords } = await import("./resume.ts");
  return isOfCheckpoint(given) ? resumedWords(given) : given;
}

/** Programs that run Node's modules in another engine have streams of their own. */
const isNode = !("bun" in process.versions || "deno" in process.versions);

/** Node takes its heap and its modules down, piece by piece, where a process ends by itself: a tenth of a short run. */
async function mainToTheEnd(): Promise<void> {
  const isAllWritten = isNode ? makeOutputLate() : () => false;
  await main();
  if (isAllWritten()) endDone();
}

/** Settles when the command line is carried out. */
export const done: Promise<void> = mainToTheEnd();
