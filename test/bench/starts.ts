/**
 * What the start of our program costs, beside Node's own and beside qemu-img's: `npm run bench:starts [-- --pairs N --node PATH
 * --record]`.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type Judged, type Row, inTurn, rowOf } from "./support/contest.ts";
import { BenchFolder, benchOptions } from "./support/options.ts";
import { timed } from "./support/process.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 1, pairs: 21 });
using folder = new BenchFolder(options.folder, 64);
const image = join(folder.path, "image.qcow2");
execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", image, "64M"]);

/** Node that has nothing to do. */
const nothing = [options.ours[0]!, "-e", "0"];
const info = ["info", "-f", "qcow2", image];
const contests: readonly (Judged & {
  readonly theirs: readonly string[];
  readonly ours: readonly string[];
})[] = [
  { name: "info", peer: "node -e 0", goal: 1 / 1.4, theirs: nothing, ours: info },
  { name: "--version", peer: "node -e 0", goal: 1 / 1.2, theirs: nothing, ours: ["--version"] },
  { name: "info", peer: "qemu-img info", theirs: ["qemu-img", ...info], ours: info },
];

async function* rows(): AsyncGenerator<Row> {
  for (const { theirs, ours, ...judged } of contests) {
    const program = [...options.ours, ...ours];
    // What a first start keeps for the next ones.
    await timed(program);
    yield rowOf(
      judged,
      await inTurn(
        options.pairs,
        () => timed(theirs),
        () => timed(program),
      ),
    );
  }
}

await fillSheet(
  "starts",
  {
    title: "Starts",
    command: "npm run bench:starts",
    method:
      "whole processes, their output thrown away; goals are 1.4 and 1.2 times the time of a Node that does nothing",
    peer: "the other",
    unit: ", s",
  },
  rows(),
  options,
);
