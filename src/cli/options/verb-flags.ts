/**
 * Options that verbs after qemu-img's pattern share, as commander takes them. Loaded for --help, so it imports little.
 */
import { type Command, Option } from "commander";
import { programName, standIn } from "../program.ts";
import { gateFlag, objectFlag, type VerbFlags } from "./flags.ts";

/** Options of every verb that opens an image. */
export interface ImageVerbFlags extends VerbFlags {
  format?: string;
  imageOpts?: boolean;
  forceShare?: boolean;
}

/** --image-opts and --gate; with `share` also -U. */
export function addImageFlags(command: Command, { share }: { share: boolean }): Command {
  command.option("--image-opts", "images are named by key=value options instead of by a file name");
  if (share) command.option("-U, --force-share", "open the image although another process writes to it");
  return command.addOption(gateFlag()).addOption(objectFlag());
}

/** --output, checked by the verb. */
export function outputFlag(): Option {
  return new Option("--output <kind>", "how to print: human, json").default("human");
}

/** -q. */
export function addQuietFlag(command: Command): Command {
  return command.option("-q, --quiet", "print nothing but errors");
}

/** -p. */
export function addProgressFlag(command: Command): Command {
  return command.option("-p, --progress", "show progress even if stderr is no terminal");
}

/** What stands below a verb's options in its --help: command lines to begin with. */
export function examples(...lines: readonly string[]): string {
  // A program that stands in for another is one of our verbs.
  const verb = `${standIn()?.verb ?? ""} `;
  const own = lines.map((line) => (line.startsWith(verb) ? line.slice(verb.length) : line));
  return `\nExamples:\n${own.map((line) => `  ${programName()} ${line}`).join("\n")}`;
}
