/**
 * A reporter of vitest that writes a line of JSON per event to the file BLOCKWRIGHT_TEST_REPORT: `pulse` when a test ended
 * (by which the runner sees that nothing hangs), `file` with the counts of a file, `end`. Lines that were written stay true
 * when the process is killed.
 */
import { appendFileSync } from "node:fs";
import { relative } from "node:path";
import type { Reporter, SerializedError, TestCase, TestModule, TestRunEndReason } from "vitest/node";

/** The counts of a file. A file that does not even load has one failed test. */
export interface FileLine {
  readonly kind: "file";
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** What went wrong: the test's name, and its error as it is told to a reader. */
  readonly failures: readonly string[];
}

/** The run is over; errors are those outside of tests. */
export interface EndLine {
  readonly kind: "end";
  readonly errors: number;
}

/** Any line. */
export type Line = FileLine | EndLine | { readonly kind: "pulse" };

function write(line: Line): void {
  appendFileSync(process.env["BLOCKWRIGHT_TEST_REPORT"]!, `${JSON.stringify(line)}\n`);
}

/** What an error says, and the places of the repository that it came through. A stack begins with the message. */
function wordsOf({ message, stack = "", diff }: SerializedError): string {
  const places = stack
    .slice(stack.indexOf(message) + message.length)
    .split("\n")
    .filter((line) => /^ +at /.test(line) && !/node_modules|node:/.test(line));
  return [message, ...places, ...(typeof diff === "string" ? [diff] : [])].join("\n");
}

/** What a test that failed is called, and why it did. */
function failureOf(test: TestCase): string {
  const errors = test.result().errors ?? [];
  return [test.fullName, ...(errors.length > 0 ? errors.map(wordsOf) : ["It came to no end."])].join("\n");
}

function linesOf(module: TestModule): FileLine {
  const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 };
  const failures: string[] = [];
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    counts[state] += 1;
    if (state === "failed" || state === "pending") failures.push(failureOf(test));
  }
  const broken = module.state() === "failed" && counts.failed === 0 ? 1 : 0;
  if (broken > 0) failures.push(module.errors().map(wordsOf).join("\n"));
  return {
    kind: "file",
    file: relative(process.cwd(), module.moduleId),
    passed: counts.passed,
    // A test that never came to an end has failed.
    failed: counts.failed + counts.pending + broken,
    skipped: counts.skipped,
    seconds: module.diagnostic().duration / 1000,
    failures,
  };
}

export default class LineReporter implements Reporter {
  onTestCaseResult(): void {
    write({ kind: "pulse" });
  }

  onTestModuleEnd(module: TestModule): void {
    write(linesOf(module));
  }

  onTestRunEnd(
    _modules: readonly TestModule[],
    errors: readonly SerializedError[],
    _reason: TestRunEndReason,
  ): void {
    write({ kind: "end", errors: errors.length });
  }
}
