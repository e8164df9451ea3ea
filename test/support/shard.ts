/**
 * A file of many like tests may be run in parts: BLOCKWRIGHT_SHARD=2/4 is the second of four, and without the variable the
 * file is whole. `.ci` runs the files that its table of parts names so (docs/TESTING.md).
 */

/** The part that is wanted, from 1, and of how many. Throws where the variable says something else. */
function wanted(text: string): { part: number; parts: number } {
  const [part = 0, parts = 0] = /^\d+\/\d+$/.test(text) ? text.split("/").map(Number) : [];
  if (part < 1 || part > parts) throw new Error(`BLOCKWRIGHT_SHARD is PART/PARTS, not "${text}"`);
  return { part, parts };
}

/** Those of `items` that this run is to test: every item is in one part, and the parts are alike in kind. */
export function inShard<T>(items: readonly T[], text = process.env["BLOCKWRIGHT_SHARD"] ?? "1/1"): T[] {
  const { part, parts } = wanted(text);
  return items.filter((_item, index) => index % parts === part - 1);
}
