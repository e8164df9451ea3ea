/** Two results side by side in words: figure by figure, and whether they did the same. */
import { asResult, metricsOf } from "./metrics.ts";

/** The comparison, a line for each figure. Throws WorkloadError for what is no result. */
export function compareText(base: unknown, now: unknown): string {
  const before = asResult(base, "the first");
  const after = asResult(now, "the second");
  const same = (name: "requests" | "data" | "disk"): string => {
    const [a, b] = [before.digest[name], after.digest[name]];
    return `${name}: ${a === b ? "same" : "differ"} (${a ?? "none"}, ${b ?? "none"})`;
  };
  const values = new Map(metricsOf(before).map(({ name, value }) => [name, value]));
  const lines = metricsOf(after).map(({ name, value }) => {
    const old = values.get(name);
    const change =
      old === undefined || old === 0
        ? ""
        : ` (${value >= old ? "+" : ""}${(100 * (value / old - 1)).toFixed(3)} %)`;
    return `${name}: ${old ?? "none"} -> ${value}${change}`;
  });
  return [same("requests"), same("data"), same("disk"), ...lines].map((line) => `${line}\n`).join("");
}
