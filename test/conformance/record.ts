// Records expected/SUITE.json from the real qemu-storage-daemon: `node .ci/ts.mjs test/conformance/record.ts SUITE [NAME]`.
// With a name, only that scenario is recorded again and the others are kept.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Scenario, runScenario } from "./harness.ts";

const here = join(process.cwd(), "test", "conformance");
const [suite, only] = process.argv.slice(2);
if (!suite) throw new Error("which suite?");
const { default: scenarios } = (await import(join(here, "scenarios", `${suite}.mjs`))) as {
  default: Scenario[];
};
const path = join(here, "expected", `${suite}.json`);
const recorded = only ? (JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>) : {};
for (const scenario of scenarios.filter(({ name }) => only === undefined || name === only)) {
  const outcome = await runScenario(scenario, ["qemu-storage-daemon"]);
  if (outcome.failure !== undefined) throw new Error(`${scenario.name}: ${outcome.failure}`);
  recorded[scenario.name] = outcome;
}
const sorted = Object.fromEntries(Object.entries(recorded).toSorted(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(sorted, null, 1)}\n`);
