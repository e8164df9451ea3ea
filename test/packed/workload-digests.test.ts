// Workloads on the virtual clock in every Node that the package promises: digests and results are this one's
// (BLOCKWRIGHT_DIGEST_WORKLOADS: how many). A Node that npm can't bring is skipped by its name.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { HANG_MS } from "../support/until.ts";
import { DIGESTS_MODULE, digestWorkloads } from "../support/digest-workloads.ts";
import { root } from "../support/root.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-digests-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const library = pathToFileURL(join(root, "build", "workload.js")).href;
const program = `
import { readFileSync } from "node:fs";
import * as library from ${JSON.stringify(library)};
${DIGESTS_MODULE}
const list = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const line of await digestsOf(library, list)) console.log(line);
`;

let expected = "";

function digestsBy(node: string): string {
  const words = [join(folder, "digests.mjs"), join(folder, "list.json")];
  return execFileSync(node, words, { encoding: "utf8" });
}

beforeAll(() => {
  writeFileSync(join(folder, "digests.mjs"), program);
  writeFileSync(join(folder, "list.json"), JSON.stringify(digestWorkloads()));
  expected = digestsBy(process.execPath);
});

it.for(["20", "22", "24", "26"])("Node %s: results are the same to the last digit", (version, context) => {
  const name = `node-${process.platform}-${process.arch}`;
  const home = join(folder, version);
  mkdirSync(home);
  writeFileSync(join(home, "package.json"), '{ "private": true }');
  const words = ["install", "--ignore-scripts", "--no-audit", "--no-fund", `${name}@${version}`];
  const { status } = spawnSync("npm", words, { cwd: home, timeout: 2 * HANG_MS });
  if (status !== 0) context.skip(`npm's package ${name}@${version} is not to be had`);
  expect(digestsBy(join(home, "node_modules", name, "bin", "node"))).toBe(expected);
  expect(expected.trimEnd().split("\n")).toHaveLength(digestWorkloads().length);
});
