/**
 * Which backups stay: the newest of each of the last N hours, days, weeks … that have one. Times are UTC; weeks begin on Monday
 * (ISO 8601).
 */
import { blockError } from "../base/errors.ts";
import { type Backup, inOrder } from "./description.ts";

/** How many of each kind stay; absent: none for that reason. */
export interface Keep {
  readonly last?: number;
  readonly hourly?: number;
  readonly daily?: number;
  readonly weekly?: number;
  readonly monthly?: number;
  readonly yearly?: number;
}

const DAY_MS = 24 * 3600_000;

/** Backups of one period have one answer. */
const periods: Readonly<Record<Exclude<keyof Keep, "last">, (time: string) => string>> = {
  hourly: (time) => time.slice(0, 13),
  daily: (time) => time.slice(0, 10),
  // The first Monday was the fourth day after the beginning of 1970.
  weekly: (time) => String(Math.floor((Date.parse(time) / DAY_MS - 4) / 7)),
  monthly: (time) => time.slice(0, 7),
  yearly: (time) => time.slice(0, 4),
};

/** What stays of all backups, with the reasons for it, and what goes. */
export interface Division<B extends Backup> {
  readonly stays: ReadonlySet<B>;
  readonly kept: readonly { readonly backup: B; readonly why: readonly string[] }[];
  readonly removed: readonly B[];
}

/** Divides all backups by what is to be kept; all stay where nothing is said. Throws EINVAL where none would, but for a look. */
export function divide<B extends Backup>(
  all: readonly B[],
  keep: Keep | undefined,
  { dryRun }: { dryRun: boolean },
): Division<B> {
  const found = keep ? kept(all, keep) : new Map<B, string[]>(all.map((backup) => [backup, []]));
  if (!dryRun && all.length > 0 && found.size === 0)
    throw blockError("EINVAL", "prune", "that would remove every backup");
  return {
    stays: new Set(found.keys()),
    kept: [...found].map(([backup, why]) => ({ backup, why })),
    removed: all.filter((backup) => !found.has(backup)),
  };
}

/** The backups that stay, of each disk by itself; why, in the words of the options. */
export function kept<B extends Backup>(backups: readonly B[], keep: Keep): Map<B, string[]> {
  const found = new Map<B, string[]>();
  for (const name of new Set(backups.map((backup) => backup.name))) {
    const newestFirst = inOrder(backups)
      .filter((backup) => backup.name === name)
      .toReversed();
    for (const [kind, count] of Object.entries(keep) as [keyof Keep, number][]) {
      const chosen = kind === "last" ? newestFirst : newestOfEach(newestFirst, periods[kind]);
      for (const backup of chosen.slice(0, count)) found.set(backup, [...(found.get(backup) ?? []), kind]);
    }
  }
  return found;
}

function newestOfEach<B extends Backup>(newestFirst: readonly B[], periodOf: (time: string) => string): B[] {
  const seen = new Set<string>();
  return newestFirst.filter(({ time }) => {
    const period = periodOf(time);
    if (seen.has(period)) return false;
    seen.add(period);
    return true;
  });
}
