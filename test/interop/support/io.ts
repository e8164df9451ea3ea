// What the tests of io share: commands as options, and outcomes of both programs made comparable.
import type { Outcome } from "./twins.ts";

/** `-c LINE` for each line. */
export function commands(...lines: string[]): string[] {
  return lines.flatMap((line) => ["-c", line]);
}

/** The outcome with times, rates, the names of nodes, and what help says in words of its own left out. */
export function masked({ status, stdout, stderr }: Outcome): Outcome {
  const text = stdout
    .replaceAll(
      /; (?:\d\d\.\d\d sec|\d+:\d\d:\d\d\.\d\d) \([\d.]+ \w+\/sec and [\d.]+ ops\/sec\)$/gm,
      "; TIME",
    )
    .replaceAll(/^(\d+,1,)\d+:\d\d:\d\d\.\d\d,[\d.]+,[\d.]+$/gm, "$1TIME")
    .replaceAll(/ +-- (?!x$|-|[\d.]|foo).*$/gm, " -- …");
  return { status, stdout: text, stderr: stderr.replaceAll(/#block\d+/g, "#block") };
}
