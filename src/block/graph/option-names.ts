/**
 * The names of options in messages: which differ, and which of several QEMU names. Its dictionaries are hash tables, and their
 * first entry is the one that it tells of.
 */

/** Whether a value is a set of options. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The innermost option that differs; undefined if none does. */
export function changedOption(option: string, before: unknown, after: unknown): string | undefined {
  if (JSON.stringify(before) === JSON.stringify(after)) return undefined;
  if (!isRecord(before) || !isRecord(after)) return option;
  for (const inner of new Set([...Object.keys(after), ...Object.keys(before)])) {
    const changed = changedOption(inner, before[inner], after[inner]);
    if (changed !== undefined) return changed;
  }
  return undefined;
}

/** Of several options the one that QEMU names. */
export function firstOf(names: readonly string[]): string | undefined {
  return names.toSorted((a, b) => bucket(a) - bucket(b))[0];
}

/** The options of a child, with its name before them. */
export function flatNames(prefix: string, value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [prefix];
  return Object.entries(value).flatMap(([name, inner]) => flatNames(`${prefix}.${name}`, inner));
}

const BUCKETS = 512;

/** The place of a name in the hash table. Source: the hash of the trivial database, which QEMU's dictionaries use. */
function bucket(name: string): number {
  const bytes = new TextEncoder().encode(name);
  let value = Math.imul(0x238f13af, bytes.length);
  for (const [at, byte] of bytes.entries()) value = (value + (byte << ((at * 5) % 24))) | 0;
  return ((Math.imul(1103515243, value) + 12345) >>> 0) % BUCKETS;
}
