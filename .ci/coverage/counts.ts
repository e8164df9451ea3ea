/** How often each arm of each branch was taken, in istanbul's form, and adding that up over runs and programs. */

interface Place {
  readonly line?: number;
  readonly column?: number | null;
}

/** A branch: its arms' places. */
interface Branch {
  readonly type: string;
  readonly loc: { readonly start: Place };
  readonly locations: readonly { readonly start: Place }[];
}

/** Of a file: its branches, and how often each arm was taken. */
export interface FileCoverage {
  readonly path: string;
  readonly branchMap: Readonly<Record<string, Branch>>;
  readonly b: Record<string, number[]>;
}

/** By the sources' paths. */
export type Coverage = Record<string, FileCoverage>;

/** The arms of a file: whether each was taken, and where it is. */
export function* arms({
  branchMap,
  b,
}: FileCoverage): Generator<{ taken: boolean; line: number; type: string }> {
  for (const [id, { type, locations }] of Object.entries(branchMap))
    for (const [arm, count] of b[id]!.entries())
      yield { taken: count > 0, line: locations[arm]?.start.line ?? locations[0]?.start.line ?? 0, type };
}

/** The branches of a file that look alike from outside, in the order of their columns. */
function alike({ branchMap, b }: FileCoverage): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const [id, { type, loc }] of Object.entries(branchMap)) {
    const key = `${loc.start.line} ${type} ${b[id]!.length}`;
    groups.set(key, [...(groups.get(key) ?? []), id]);
  }
  const column = (id: string): number => branchMap[id]!.loc.start.column ?? 0;
  for (const ids of groups.values()) ids.sort((one, other) => column(one) - column(other));
  return groups;
}

/** A count that was told; one that was reckoned of others may be less than nothing. */
function taken(count: number): number {
  return Math.max(0, count);
}

/** Adds the counts of other runs of the same sources. Another compiler may number branches otherwise, and leave out some. */
export function add(sum: Coverage, more: Coverage): void {
  for (const [path, file] of Object.entries(sum)) {
    const other = more[path];
    if (!other || other === file) continue;
    const theirs = alike(other);
    for (const [key, ids] of alike(file)) {
      const same = theirs.get(key);
      if (same?.length !== ids.length) continue;
      for (const [at, id] of ids.entries())
        file.b[id] = file.b[id]!.map((count, arm) => taken(count) + taken(other.b[same[at]!]![arm] ?? 0));
    }
  }
}
