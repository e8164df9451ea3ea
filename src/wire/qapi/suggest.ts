/**
 * "Did you mean …?": the word of a list that somebody who wrote another one most likely meant. Case, and what joins the parts
 * of a word, do not count, so that `readOnly` finds `read-only`; a short name finds the longer one that it begins
 * (`speed`: `speedBytesPerSecond`), and a slip of the pen the word beside it.
 */

/** Slips (letters put in, left out, changed or swapped) that a word may have, by its length. */
function slipsOf(word: string): number {
  return word.length < 4 ? 0 : word.length < 8 ? 1 : 2;
}

/** The word of `known` that `word` stands for; undefined where none is near. */
export function closest(word: string, known: Iterable<string>): string | undefined {
  const meant = bare(word);
  const words = [...known].map((name) => ({ name, text: bare(name) }));
  const same = words.find(({ text }) => text === meant);
  if (same) return same.name;
  const begun = words.filter(({ text }) => meant.length > 2 && text.startsWith(meant));
  if (begun.length === 1) return begun[0]!.name;
  let best: { name: string; slips: number } | undefined;
  for (const { name, text } of words) {
    const slips = distance(meant, text);
    if (slips <= slipsOf(meant) && slips < (best?.slips ?? Infinity)) best = { name, slips };
  }
  return best?.name;
}

/** The end of a refusal: empty where nothing is near. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const found = closest(word, known);
  return found === undefined ? "" : ` (did you mean '${found}'?)`;
}

function bare(word: string): string {
  return word.toLowerCase().replaceAll(/[-_. ]/g, "");
}

/** Levenshtein's, by rows, where two neighbours that are swapped are one slip, too. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const changed = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? before[j - 2]! + 1 : Infinity;
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, changed, swapped));
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
