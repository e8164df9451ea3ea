/**
 * Options that several verbs share, as commander takes them. Only this, its lists and commander are loaded for --help.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { gatePolicies } from "../../block/model/gate.ts";
import { plainFormat } from "../../drivers/format/defaults.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";
import { valuesOf } from "../../wire/qapi/option-types.ts";
import { parseBytes } from "../units.ts";
import { defaultGate, type GateChoice, readGate } from "./engine.ts";

/** The name of an error policy. */
export type Policy = TypeOf<"BlockdevOnError">;

/** Options of every verb that opens images. */
export interface ImageFlags {
  gate: GateChoice;
  /** Definitions of objects, in their order. */
  object?: string[];
}

/** Options that most verbs have. */
export interface VerbFlags extends ImageFlags {
  quiet?: boolean;
  progress?: boolean;
}

/** Options of every foreground job. */
export interface JobFlags extends VerbFlags {
  speed?: number;
  json?: boolean;
  checkpoint?: string;
  autoResume?: number;
}

/** Options of jobs with a source and a target. */
export interface CopyFlags extends JobFlags {
  sourceFormat?: string;
  backingFormat?: string;
  targetFormat: string;
  force?: boolean;
  sync: "full" | "top";
  /** Mirror: what is brought up to date by it. */
  bitmap?: string;
  bitmapMode?: TypeOf<"BitmapSyncMode">;
  onSourceError: Policy;
  onTargetError: Policy;
}

/** Options of stream. */
export interface ChainFlags extends JobFlags {
  format?: string;
  onError: Policy;
}

/** Reads a number of bytes. */
export function size(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined) throw new InvalidArgumentError("a size is expected: 65536, 64k, 10M, 1.5G");
  return bytes;
}

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0)) throw new InvalidArgumentError("seconds are expected");
  return value;
}

/** --gate. */
export function gateFlag(): Option {
  const help = "which files an image's header may name to be opened; servers too: local,https://HOST";
  const option = new Option("--gate <policy>", help)
    .choices(gatePolicies)
    .default(defaultGate, `"${defaultGate.policy}"`);
  return option.argParser((text: string) => {
    const gate = readGate(text);
    if (gate) return gate;
    throw new InvalidArgumentError(`Allowed choices are ${gatePolicies.join(", ")}.`);
  });
}

/** Collects an option that may be given again. */
export function repeatable(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

/** --object. */
export function objectFlag(): Option {
  const help = "add an object, as secret,id=<ID>,file=<FILE>[,format=base64] or as JSON; again for more";
  return new Option("--object <definition>", help).argParser(
    (value: string, previous: string[] | undefined) => repeatable(value, previous),
  );
}

function policyFlag(flags: string, what: string): Option {
  const policies = valuesOf("BlockdevOnError");
  return new Option(`${flags} <policy>`, `${what}: ${policies.join(", ")}`)
    .choices(policies)
    .default("report");
}

/** --checkpoint. */
export function checkpointFlag(): Option {
  return new Option(
    "--checkpoint <file>",
    "keep in FILE how far it is: `job resume FILE`, or the same command, goes on after a kill",
  );
}

/** The options of a foreground job. */
export function addJobFlags(command: Command): Command {
  return command
    .addOption(gateFlag())
    .addOption(objectFlag())
    .option("--speed <bytes>", "most bytes per second (64k, 10M …)", size)
    .addOption(checkpointFlag())
    .option("--json", "events and progress as JSON lines on stdout")
    .option("-p, --progress", "show progress even if stderr is no terminal")
    .option(
      "--auto-resume <seconds>",
      "after an error that stopped the job, resume this much later",
      seconds,
    );
}

/** The options of mirror and backup. */
export function addCopyFlags(command: Command): Command {
  return addJobFlags(
    command
      .argument("<source>", "image file, or json:{…} as for --blockdev")
      .argument("<target>", "image file, made if it is missing, or json:{…}")
      .option("-f, --source-format <format>", "format of the source; default: probed")
      .option("-O, --target-format <format>", "format of a target that is made", plainFormat)
      .addOption(
        new Option("--sync <mode>", "full: all; top: without the backing file")
          .choices(["full", "top"])
          .default("full"),
      )
      .option("-F, --backing-format <format>", "with --sync top: format of the target's backing file")
      .option("--force", "replace a target file that exists")
      .addOption(policyFlag("--on-source-error", "when reading the source fails"))
      .addOption(policyFlag("--on-target-error", "when writing the target fails")),
  );
}

/** The options of a mirror by a dirty bitmap: it goes into a target that is there, and what it says is what is copied. */
export function addBitmapFlags(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--bitmap <name>",
        "bring a target that is there up to date: copy what this dirty bitmap of the source says",
      ).conflicts(["sync", "force", "checkpoint", "backingFormat"]),
    )
    .addOption(
      new Option("--bitmap-mode <mode>", "with --bitmap: when the bitmap is cleared")
        .choices(valuesOf("BitmapSyncMode"))
        .default(undefined, '"on-success"'),
    );
}

/** --on-error. */
export function addErrorFlag(command: Command): Command {
  return command.addOption(policyFlag("--on-error", "when reading or writing fails"));
}

/** The options of stream. */
export function addChainFlags(command: Command): Command {
  return addJobFlags(
    addErrorFlag(
      command
        .argument("<image>", "the top of the backing chain: a file, or json:{…} as for --blockdev")
        .option("-f, --format <format>", "format of the image; default: probed"),
    ),
  );
}
