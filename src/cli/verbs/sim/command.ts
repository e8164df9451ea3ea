/** `blockwright sim`: stories of jobs, policies, faults and power cuts, from a seed. The simulator is a script of its own. */
import type { Command } from "commander";
import { examples } from "../../options/verb-flags.ts";
import type { SimFlags } from "./flags.ts";

/** Adds the verb. */
export function addSim(program: Command): void {
  program
    .command("sim")
    .description("simulate guest, jobs, faults and power cuts from a seed, on a drawn or described graph")
    .argument("[graph...]", "a JSON file that describes the graph; default: each story draws its own")
    .option("--seed <number>", "the first story's seed; alone: this one story, with its trace")
    .option("--stories <count>", "so many stories; default: 100")
    .option("--minutes <count>", "stories until so many minutes have passed")
    .option("--shrink", "make what goes wrong smaller, as long as it goes wrong in the same way")
    .option("--replay <file>", "the story of a document that --json wrote, as small as it stands there")
    .option("--io", "put every request to a file into the trace")
    .option("--zoo", "the planted bugs are no part of the package: says where they are")
    .option("--json", "one JSON document on stdout, and nothing else")
    .allowUnknownOption()
    .addHelpText(
      "after",
      examples("sim --stories 1000", "sim graph.json --minutes 10 --shrink", "sim --seed 42 --json"),
    )
    .action(async (graphs: string[], flags: SimFlags) => {
      const { sim } = await import("./run.ts");
      process.exitCode = await sim(graphs, flags);
    });
}
