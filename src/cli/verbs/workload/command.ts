/**
 * `blockwright workload`: the reproducible harness for block I/O. What it does is a script of its own, which is loaded when it is
 * needed.
 */
import type { Command, CommanderError } from "commander";
import { emptyDocument } from "../../../workload/run/document.ts";
import { gateFlag } from "../../options/flags.ts";
import { examples } from "../../options/verb-flags.ts";
import type { WorkloadFlags } from "./flags.ts";

/** Of a command line that can't be read, too, stdout holds a document; what is wrong was told on stderr already. */
function refused({ exitCode, message }: CommanderError): never {
  if (exitCode === 0) process.exit();
  const known = emptyDocument({ workload: "", seed: 1, clock: "real", device: null });
  const errors = [{ message: message.replace(/^error: /, ""), code: "INPUT" }];
  process.stdout.write(`${JSON.stringify({ ...known, errors }, undefined, 2)}\n`);
  process.exit(2);
}

/** Adds the verb. */
export function addWorkload(program: Command): void {
  program
    .command("workload")
    .description("run a workload on a disk by the real clock or a virtual one, and judge results")
    .usage("[options] run|verify|record|replay|check|gate|compare|report|schema [files...]")
    .argument("<action>", "run, verify, record, replay, check, gate, compare, report, schema")
    .argument("[files...]", "a workload (JSON, or fio's job file), or results")
    .option("--target <spec>", "the disk: memory, a file or URL, or the description of a node as JSON")
    .option("--clock <clock>", "real or virtual; default: real, and virtual with --device")
    .option("--device <model>", "ssd, disk, cloud, http, or a model in a JSON file")
    .option("--seed <number>", "what requests and data follow from; default: the workload's, or 1")
    .option("--output <form>", "json, json+, csv, html or openmetrics; default: json")
    .option("-o, --out <file>", "where the document goes; default: stdout")
    .option("--size <bytes>", "length of a disk that is made for the run")
    .option("--requests <count>", "each worker ends after so many, if not before")
    .option("--runtime <time>", "each worker ends after so long (10s, 2m), if not before")
    .option("--repeat <count>", "run so often, for an interval of the wall clock")
    .option("--vs <command>", "run it in turn with the workload, as often, and compare how long they take")
    .option("--record <file>", "write what is sent as fio's iolog (version 3)")
    .option("--speed <factor>", "replay: 2 is twice as fast, 0 as fast as it goes; default: 1")
    .option("--direct", "bypass the page cache where that is possible")
    .option("--overwrite", "let a run that writes lose what a device or file holds")
    .option("--no-disk-digest", "do not read the final disk")
    .option("--tolerance <percent>", "gate: how much more is no worse")
    .addOption(gateFlag())
    .allowUnknownOption()
    .exitOverride(refused)
    .addHelpText(
      "after",
      examples(
        "workload run job.fio --device ssd --seed 7 -o base.json",
        "workload check job.fio",
        "workload gate base.json new.json",
        "workload run load.json --target /dev/sdb --overwrite --direct",
      ),
    )
    .action(async (action: string, files: string[], flags: WorkloadFlags) => {
      const { loadWorkload } = await import("../../late.ts");
      const { workload } = await loadWorkload();
      process.exitCode = await workload(action, files, flags);
    });
}
