// Every scenario of scenarios/ against the daemon, compared with what qemu-storage-daemon 7.2 answered (expected/, never
// edited by hand). BLOCKWRIGHT_PROGRAM names another program, for instance the real one.
import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { inShard } from "../support/shard.ts";
import { type Outcome, type Scenario, runScenario } from "./harness.ts";

const here = new URL("./", import.meta.url);
const daemon = new URL("../../build/cli/main.js", import.meta.url).pathname;
const program = process.env["BLOCKWRIGHT_PROGRAM"]?.split(" ") ?? [process.execPath, daemon, "daemon"];

const suites = readdirSync(new URL("scenarios/", here)).map((file) => file.replace(/\.mjs$/, ""));

test("there are scenarios and recordings", () => {
  expect(suites.toSorted()).toEqual(["arguments", "bitmaps", "graph", "lifecycle", "policy"]);
});

for (const suite of suites) {
  const { default: scenarios } = (await import(`./scenarios/${suite}.mjs`)) as { default: Scenario[] };
  const recorded = JSON.parse(readFileSync(new URL(`expected/${suite}.json`, here), "utf8")) as Record<
    string,
    Outcome
  >;
  describe.concurrent(suite, () => {
    test("every recording has a scenario", ({ expect: check }) => {
      check(scenarios.map(({ name }) => name).toSorted()).toEqual(Object.keys(recorded).toSorted());
    });
    test.each(inShard(scenarios).map((scenario) => [scenario.name, scenario] as const))(
      "%s",
      async (name, scenario) => {
        const outcome = JSON.parse(JSON.stringify(await runScenario(scenario, program))) as Outcome;
        expect(outcome).toEqual(recorded[name]);
      },
    );
  });
}
