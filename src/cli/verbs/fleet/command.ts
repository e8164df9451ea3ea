/**
 * `blockwright fleet ACTION`: many copies and comparisons of disks, on this machine or by workers of many. What it does is a
 * script of its own, which is loaded when it is needed.
 */
import { Argument, type Command } from "commander";
import { examples } from "../../options/verb-flags.ts";
import { type FleetFlags, fleetActions, type FleetAction } from "./flags.ts";

/** Adds the verb. */
export function addFleet(program: Command): void {
  program
    .command("fleet")
    .description("convert, back up, verify and mirror many disks, on this machine or by workers of many")
    .usage("[options] <action> [words...]")
    .addHelpText(
      "after",
      examples(
        "fleet run jobs.json --workers 4",
        "fleet submit jobs.json --queue redis://queue.example.org",
        "fleet worker --queue redis://queue.example.org --workers 4 --limit store=2",
        "fleet status --queue redis://queue.example.org --jobs --json",
        "fleet retry --failed --queue redis://queue.example.org",
      ),
    )
    .addArgument(new Argument("<action>", "what to do").choices(fleetActions))
    .argument("[words...]", "run, submit: the list of jobs, a JSON file; cancel, retry: ids of jobs")
    .option("--queue <url>", "the queue: redis://… or postgres://…; default: REDIS_URL")
    .option("--journal <folder>", "run: where the progress is kept; default: beside the list, NAME.journal")
    .option("--workers <count>", "run, worker: jobs at once; default: 2")
    .option("--limit <limits>", "run, worker: disks that transfer at once: host=N,store=N,source=N")
    .option("--attempts <count>", "run, submit: attempts of each job; default: 3")
    .option(
      "--backoff <ms>",
      "run, submit: wait before the second attempt, doubled for each more; default: 1000",
    )
    .option(
      "--lease <ms>",
      "worker: a job of a worker that is silent for so long goes to another; default: 30000",
    )
    .option("--wait", "submit: until all are done; what the queue forgets is submitted again")
    .option("--idle-exit", "worker: end when nothing is queued and nothing runs")
    .option("--failed", "retry: all that failed")
    .option("--resume", "drain: hand out jobs again")
    .option(
      "--dashboard [address]",
      "run, status: serve a page with the jobs, and /metrics, at [HOST:]PORT; status: until it is ended",
    )
    .option("--token-file <file>", "--dashboard: where the token is that lets in; default: a new one")
    .option("--jobs", "status, run: also each job")
    .option("--metrics", "status: print OpenMetrics")
    .option("--json", "print JSON")
    // 1 says that a job failed.
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
    .action(async (action: FleetAction, words: string[], flags: FleetFlags) => {
      const { fleet } = await import("../../fleet.ts");
      process.exitCode = await fleet(action, words, flags);
    });
}
