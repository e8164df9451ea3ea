/** The verb sim as scripts use it: exit statuses, one document on stdout in every case, the same from the same seed. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { SimDocument } from "../../src/sim.ts";
import { runVerb } from "../support/verb-client.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-sim-"));
afterAll(() => rmSync(folder, { recursive: true }));

function sim(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return runVerb(["sim", ...words], { cwd: folder });
}

const documentOf = (stdout: string): SimDocument => JSON.parse(stdout) as SimDocument;

it("tells one story of a seed in words, and replays it to the last digit", () => {
  const [first, second] = [sim("--seed", "7"), sim("--seed", "7")];
  expect(first.status).toBe(0);
  expect(first.stdout).toMatch(/JOB_STATUS_CHANGE[^]*1 stories from seed 7[^]*0 stories with violations\n$/);
  expect(second.stdout).toBe(first.stdout);
});

it("tells stories on a described graph as one document, which replays", () => {
  const graph = { driver: "qcow2", "node-name": "disk", file: { driver: "file", filename: "disk.qcow2" } };
  writeFileSync(join(folder, "graph.json"), JSON.stringify({ disk: graph, jobs: ["mirror"] }));
  const { status, stdout, stderr } = sim("graph.json", "--stories", "3", "--json");
  expect([status, stderr]).toEqual([0, ""]);
  expect(documentOf(stdout)).toMatchObject({ status: "ok", stories: 3, wrong: 0, violations: [] });
  const one = sim("graph.json", "--seed", "2", "--json");
  writeFileSync(join(folder, "one.json"), one.stdout);
  expect(documentOf(sim("--replay", "one.json", "--json").stdout)).toEqual(documentOf(one.stdout));
});

it("ends by the clock", () => {
  const { status, stdout } = sim("--minutes", "0.001", "--json");
  expect(status).toBe(0);
  expect(documentOf(stdout).stories).toBeGreaterThan(0);
});

it.each([
  [["none.json"], /could not read 'none.json': No such file or directory/],
  [["--seed", "x"], /--seed: 'x' is no whole number/],
  [["--minutes", "0"], /--minutes/],
  [["--stories", "0"], /a run of nothing/],
  [["--wrong"], /unknown option '--wrong'/],
  [["--zoo"], /npm run sim -- --zoo/],
  [["--replay", "empty.json"], /tells of no story/],
  [["bad.json"], /the driver 'iscsi' can't be simulated/],
])("refuses %j with status 2, and a document all the same", (words, message) => {
  writeFileSync(join(folder, "empty.json"), "{}");
  writeFileSync(join(folder, "bad.json"), '{"driver":"iscsi"}');
  const { status, stdout, stderr } = sim(...words, "--json");
  expect(status).toBe(2);
  expect(stderr).toMatch(message);
  expect(documentOf(stdout)).toMatchObject({
    status: "failed",
    errors: [{ message: expect.stringMatching(message) as string }],
  });
});
