/**
 * `blockwright job ACTION --qmp SOCKET`: looks at and steers the jobs of a daemon or a machine that runs, ours or QEMU's.
 */
import { Argument, type Command } from "commander";
import { examples } from "../../options/verb-flags.ts";
import { type JobAction, jobActions } from "./actions.ts";
import type { JobVerbFlags } from "./run.ts";

/** Adds the verb. */
export function addJob(program: Command): void {
  program
    .command("job")
    .description("list, watch and steer the jobs of a daemon or machine over QMP")
    .usage("[options] <action> [job] [speed]")
    .addHelpText(
      "after",
      examples(
        "job --qmp qmp.sock list",
        "job --qmp qmp.sock set-speed job0 10M",
        "job resume copy.checkpoint",
      ),
    )
    .addArgument(
      new Argument(
        "<action>",
        "what to do: jobs are listed, watched and steered; events are told as JSON lines",
      ).choices(jobActions),
    )
    .argument("[job]", "the job's id")
    .argument("[speed]", "set-speed: bytes per second, 0 for no limit (64k, 10M)")
    .requiredOption("--qmp <socket>", "where QMP is served: a path, unix:PATH or tcp:HOST:PORT")
    .option("--json", "print JSON lines")
    .option("--force", "cancel: at once, also when all is copied")
    .action(
      async (action: JobAction, job: string | undefined, speed: string | undefined, flags: JobVerbFlags) => {
        const { runJobVerb } = await import("./run.ts");
        process.exitCode = await runJobVerb({ action, job, speed }, flags);
      },
    );
}
