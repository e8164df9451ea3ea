/** Why a branch is taken by no test. */

/** Text of the branch's line, and the reason. The first that matches counts. */
const REASONS: readonly (readonly [file: RegExp, text: RegExp, reason: string])[] = [];

/** The reason for a branch of a line. */
export function reasonFor(file: string, text: string): string {
  return REASONS.find(([name, line]) => name.test(file) && line.test(text))?.[2] ?? "not tested yet";
}
