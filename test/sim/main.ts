/**
 * `npm run sim`: the verb sim of the build. With `--minutes N [--seed N]` alone: stories, power cuts and mutated images for so long (campaign.ts). With `--zoo [NAME]`: looks for planted bugs, which are no part of the package; exit
 * status 0 if all were found, in a minute of the processor each and in stories of twenty steps, 1 if one was not. With `--month`: a month of
 * nightly backups (`--days N`, `--per-second N` requests of the guest, `--seed N`); 1 if anything was wrong.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { campaign, runLane } from "./campaign.ts";
import { bugs } from "./zoo/bugs.ts";
import { runMonth } from "./month.ts";
import { hunt } from "./zoo/hunt.ts";

const words = process.argv.slice(2);
// This file runs from build/test/sim/.
const root = join(import.meta.dirname, "..", "..", "..");

/** What a bug's story may take, and how long it may be when it has been made smaller. */
const MOST = { cpuSeconds: 60, steps: 20 };

async function zoo(name: string | undefined): Promise<number> {
  const wanted = bugs.filter((bug) => name === undefined || bug.name === name);
  if (wanted.length === 0)
    throw new Error(`there is no bug '${name}': there are ${bugs.map((bug) => bug.name).join(", ")}`);
  let missed = 0;
  for (const bug of wanted) {
    const { found, cpuSeconds } = await hunt(root, bug, { shrink: true });
    const { shrunk } = found ?? {};
    if (!shrunk || shrunk.steps > MOST.steps || cpuSeconds > MOST.cpuSeconds) missed += 1;
    const how = shrunk ? `${shrunk.steps} steps, ${shrunk.violations[0]?.split("\n")[0]}` : "not found";
    process.stdout.write(`${bug.name} (seed ${bug.seed}, ${cpuSeconds.toFixed(1)} s): ${how}\n`);
    if (shrunk && name !== undefined) process.stdout.write(`${shrunk.trace.join("\n")}\n`);
  }
  process.stdout.write(`${wanted.length - missed} of ${wanted.length} found\n`);
  return missed > 0 ? 1 : 0;
}

async function month(args: string[]): Promise<number> {
  const number = (value: string): { type: "string"; default: string } => ({ type: "string", default: value });
  const { values } = parseArgs({
    args,
    options: { days: number("31"), "per-second": number("10"), seed: number("1") },
  });
  const [days, perSecond, seed] = [values.days, values["per-second"], values.seed].map(Number) as [
    number,
    number,
    number,
  ];
  const onNight = (line: string): void => void process.stdout.write(`${line}\n`);
  const { violations, ...counts } = await runMonth({ seed, days, perSecond, onNight });
  const cpuSeconds = process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6;
  const told = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  for (const violation of violations) process.stdout.write(`${violation}\n`);
  process.stdout.write(
    `${days} days (seed ${seed}): ${told.join(", ")}; ${violations.length} violations, ${cpuSeconds.toFixed(0)} s of the processor\n`,
  );
  return violations.length > 0 ? 1 : 0;
}

/** Whether the words name minutes, and no graph or option that is the verb's own. */
function isCampaign(given: readonly string[]): boolean {
  const names = given.filter((word) => !/^\d/.test(word));
  return names.includes("--minutes") && names.every((name) => name === "--minutes" || name === "--seed");
}

if (words[0] === "--month") process.exitCode = await month(words.slice(1));
else if (words[0] === "--zoo") process.exitCode = await zoo(words[1]);
else if (words[0] === "--kind") process.exitCode = (await runLane(words)) > 0 ? 1 : 0;
else if (isCampaign(words)) process.exitCode = await campaign(words);
else {
  const command = [join(root, "build/cli/main.js"), "sim", ...words];
  process.exitCode = spawnSync(process.execPath, command, { stdio: "inherit" }).status ?? 1;
}
