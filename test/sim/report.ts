// What a failing story prints: the command that replays it, what was wrong, its plan and its trace.
import type { StoryResult } from "../../src/sim/story.ts";

/** Lines of trace that a report ends with, unless all are wanted. */
const TAIL = 150;

/** The report on a failed story. */
export function report(result: StoryResult, options: { whole?: boolean } = {}): string {
  const { seed, plan, violations, trace } = result;
  const shown = options.whole ? trace : trace.slice(-TAIL);
  return [
    `seed ${seed}: ${violations.length} violations`,
    ...violations.slice(0, 12).map((text) => `  ${text}`),
    `replay: BLOCKWRIGHT_SIM_SEED=${seed} npx vitest run --project sim`,
    `plan: ${JSON.stringify(plan)}`,
    `trace (${shown.length} of ${trace.length} lines):`,
    ...shown,
  ].join("\n");
}
