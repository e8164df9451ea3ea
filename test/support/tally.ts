/**
 * What suites that simulate have looked at: they add it up in a file, of which the test command tells the sums. Without
 * BLOCKWRIGHT_TEST_TALLY nothing is kept.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";

/** What is counted, and how it is told. */
export const tallied = {
  stories: "seeds of stories",
  requests: "I/Os",
  faults: "faults",
  crashStates: "crash states",
  mutants: "mutated images",
} as const;

/** Counts; what is left out is 0. */
export type Tally = { readonly [Name in keyof typeof tallied]?: number };

/** Adds to what has been counted. */
export function tally(counts: Tally): void {
  const file = process.env["BLOCKWRIGHT_TEST_TALLY"];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(counts)}\n`);
}

/** The sums of all counts. */
export function sumOf(counts: Iterable<Tally>): Required<Tally> {
  const sum = { stories: 0, requests: 0, faults: 0, crashStates: 0, mutants: 0 };
  for (const one of counts)
    for (const [name, count] of Object.entries(one)) sum[name as keyof Tally] += count;
  return sum;
}

/** The sums that a file has. */
export function talliedIn(file: string): Required<Tally> {
  const lines = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
  return sumOf(lines.map((line) => JSON.parse(line) as Tally));
}

/** Sums in words. */
export function toldTally(sum: Required<Tally>): string {
  return Object.entries(tallied)
    .map(([name, word]) => `${sum[name as keyof Tally]} ${word}`)
    .join(", ");
}
