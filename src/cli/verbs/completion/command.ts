/**
 * `blockwright completion SHELL` and `blockwright man [VERB]`: what is written out of the table of all verbs and options.
 */
import { type Command, Argument } from "commander";

/** Adds the verb completion. */
export function addCompletion(program: Command): void {
  program
    .command("completion")
    .description("print the completions of a shell")
    .addArgument(new Argument("<shell>", "the shell").choices(["bash", "zsh", "fish"]))
    .action(async (shell: "bash" | "zsh" | "fish") => {
      const { shells } = await import("./run.ts");
      const { tableOf } = await import("../../options/table.ts");
      process.stdout.write(shells[shell](tableOf(program)));
    });
}

/** Adds the verb man. */
export function addMan(program: Command): void {
  program
    .command("man")
    .description("print a man page")
    .argument("[verb]", "the verb; default: the page of the program")
    .option("--all <directory>", "write all pages into a directory instead")
    .action(async (verb: string | undefined, flags: { all?: string }) => {
      const { man } = await import("../man/run.ts");
      process.exitCode = await man(program, verb, flags.all);
    });
}
