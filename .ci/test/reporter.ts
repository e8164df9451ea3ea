/**
 * A reporter of vitest that writes a line of JSON per event to the file BLOCKWRIGHT_TEST_REPORT: `pulse` when a test ended
 * (by which the runner sees that nothing hangs), `file` with the counts of a file, `end`. Lines that were written stay true
 * when the process is killed.
 */
import { appendFileSync } from "node:fs";
import { relative } from "node:path";
import type { Reporter, SerializedError, TestModule, TestRunEndReason } from "vitest/node";

/** The counts of a file. A file that does not even load has one failed test. */
export interface FileLine {
  readonly kind: "file";
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
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

function linesOf(module: TestModule): FileLine {
  const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 };
  for (const test of module.children.allTests()) counts[test.result().state] += 1;
  const broken = module.state() === "failed" && counts.failed === 0 ? 1 : 0;
  return {
    kind: "file",
    file: relative(process.cwd(), module.moduleId),
    passed: counts.passed,
    // A test that never came to an end has failed.
    failed: counts.failed + counts.pending + broken,
    skipped: counts.skipped,
    seconds: module.diagnostic().duration / 1000,
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
