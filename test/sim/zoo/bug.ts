/** What a bug of the zoo is. */

/** A text that stands once in a file, and what takes its place. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** One planted bug. */
export interface Bug extends Patch {
  readonly name: string;
  /** What happened where, in a line. */
  readonly history: string;
  /** Where one text does not make it. */
  readonly also?: readonly Patch[];
  /** A seed whose story finds it. */
  readonly seed: number;
}
