// What counts when two programs' answers are compared: progress as 'all' or 'part' of its length, since it depends on
// how a program chunks its copying; no timestamps, no allocated sizes.

/** Which fields a scenario does not care about. */
export interface Dropped {
  drop?: string[];
  dropIds?: boolean;
}

/** The value with sorted keys and without what does not count. */
export function normalise(value: unknown, scenario: Dropped): unknown {
  if (Array.isArray(value)) return value.map((item) => normalise(item, scenario));
  if (value === null || typeof value !== "object") return value;
  const fields = value as Record<string, unknown>;
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(fields).sort()) {
    if (key === "timestamp" || key === "actual-size" || (key === "id" && scenario.dropIds)) continue;
    if (!scenario.drop?.includes(key)) out[key] = normalise(fields[key], scenario);
  }
  if ("offset" in out && "len" in out) out["offset"] = fields["offset"] === fields["len"] ? "all" : "part";
  if ("current-progress" in out) {
    out["current-progress"] = fields["current-progress"] === fields["total-progress"] ? "all" : "part";
  }
  return out;
}
