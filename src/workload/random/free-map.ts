/** Which blocks of a region were not yet taken: a bitmap with summaries above it, as fio's random map has it. */

/** Regions of more blocks have no map: it would be too large. */
export const MOST_MAPPED = 2 ** 28;

/** The blocks 0 … n-1, each free until it is taken; once none is free, all are again. */
export class FreeMap {
  /** A bit is set where a block, or all of a word of the level below, is taken; the last level is one word. */
  readonly #levels: { readonly bits: number; readonly words: Uint32Array }[] = [];

  constructor(count: number) {
    let bits = count;
    do {
      const words = new Uint32Array(Math.ceil(bits / 32));
      this.#levels.push({ bits, words });
      bits = words.length;
    } while (bits > 1);
    this.#clear();
  }

  /** Takes the first free block from `from` on, or else the first of all, and the free ones behind it: `most` in all. */
  take(from: number, most: number): { index: number; count: number } {
    let index = this.#free(0, from);
    if (index < 0) index = this.#free(0, 0);
    if (index < 0) {
      this.#clear();
      index = from;
    }
    let count = 0;
    while (count < most && this.#free(0, index + count) === index + count) this.#set(index + count++);
    return { index, count };
  }

  #clear(): void {
    for (const { bits, words } of this.#levels) {
      words.fill(0);
      // What is beyond the end is taken for good.
      if (bits % 32 > 0) words[words.length - 1] = (-1 << (bits % 32)) >>> 0;
    }
  }

  /** The first bit from `from` on that is not set; -1: there is none. */
  #free(level: number, from: number): number {
    const found = this.#levels[level];
    if (!found || from >= found.bits) return -1;
    const at = Math.floor(from / 32);
    const open = ~found.words[at]! & (-1 << (from % 32));
    if (open !== 0) return at * 32 + lowest(open);
    const next = this.#free(level + 1, at + 1);
    return next < 0 ? -1 : next * 32 + lowest(~found.words[next]!);
  }

  #set(index: number): void {
    let at = index;
    for (const { words } of this.#levels) {
      const word = Math.floor(at / 32);
      words[word] = (words[word]! | (1 << (at % 32))) >>> 0;
      if (words[word] !== 0xffffffff) return;
      at = word;
    }
  }
}

/** The number of the lowest bit that is set. */
function lowest(word: number): number {
  return 31 - Math.clz32(word & -word);
}
