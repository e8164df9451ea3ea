/**
 * The words of one command line of `io`: single-letter options anywhere among them as C's getopt takes them, and the
 * numbers. Source: behaviour of qemu-io 7.2.
 */
import { cInteger, parseSize } from "../../options/sizes.ts";
import { IoFailure, wrongUse } from "./failure.ts";

const INT64_MAX = 2n ** 63n - 1n;

/** Longest request, bytes. */
export const MAX_REQUEST_BYTES = 2 ** 31 - 512;

/** One option as it was given; `value` is empty for one that takes none. */
export interface GivenOption {
  letter: string;
  value: string;
}

/** The words behind a command's name. */
export class Arguments {
  readonly #name: string;
  readonly #words: readonly string[];
  /** What is no option; complete once all options were taken. */
  readonly rest: string[] = [];

  constructor(name: string, words: readonly string[]) {
    this.#name = name;
    this.#words = words;
  }

  /** Takes every word as no option. */
  takeAll(): void {
    this.rest.push(...this.#words);
  }

  /** The options in order; `letters` as for getopt: `qP:` is a plain q and a P with a value. Throws the usage. */
  *options(letters: string): Generator<GivenOption, void> {
    for (let at = 0; at < this.#words.length; at++) {
      const word = this.#words[at]!;
      if (word === "--") {
        this.rest.push(...this.#words.slice(at + 1));
        return;
      }
      if (!word.startsWith("-") || word === "-") {
        this.rest.push(word);
        continue;
      }
      for (let i = 1; i < word.length; i++) {
        const letter = word[i]!;
        const known = letter === ":" ? -1 : letters.indexOf(letter);
        if (known < 0) throw wrongUse(`${this.#name}: invalid option -- '${letter}'`);
        if (letters[known + 1] !== ":") {
          yield { letter, value: "" };
          continue;
        }
        const value = i + 1 < word.length ? word.slice(i + 1) : this.#words[++at];
        if (value === undefined) throw wrongUse(`${this.#name}: option requires an argument -- '${letter}'`);
        yield { letter, value };
        break;
      }
    }
  }
}

/** A number of bytes below 2^63. */
export function byteCount(text: string): bigint {
  const value = parseSize(text);
  if (value === "invalid") {
    throw new IoFailure(`Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- ${text}`);
  }
  if (value === "range" || value > INT64_MAX)
    throw new IoFailure(`Parsing error: argument too large -- ${text}`);
  return value;
}

/** A byte to fill or compare with. */
export function patternByte(text: string): number {
  const value = cInteger(text);
  if (value === undefined || value < 0 || value > 255)
    throw new IoFailure(`${text} is not a valid pattern byte`);
  return value;
}

/** Milliseconds. */
export function milliseconds(text: string): number {
  const value = cInteger(text);
  if (value === undefined || value < 0) throw new IoFailure(`${text} is not a valid number`);
  return value;
}
