/**
 * The line editor of the human monitor: what is typed is shown again as a terminal expects it, and scripts that read a monitor do.
 * Source: the bytes that QEMU 7.2's monitor writes.
 */

/** What came of a character. */
export interface Typed {
  /** For the terminal. */
  readonly output: string;
  /** A line that is complete. */
  readonly line?: string;
}

const BACK = "\u001b[D";
const CLEAR = "\u001b[K";
/** Longest line. */
const MAX_LINE = 4095;

/** One line after the other. */
export class LineEditor {
  #line = "";
  #shown = 0;

  /** Takes one character. */
  type(char: string): Typed {
    if (char === "\n" || char === "\r") return this.#end();
    if (char === "\b" || char === "\u007f") this.#line = this.#line.slice(0, -1);
    else if (char === "\u0015") this.#line = "";
    else if (char >= " " && this.#line.length < MAX_LINE) this.#line += char;
    else return { output: "" };
    const output = BACK.repeat(this.#shown) + this.#line + CLEAR;
    this.#shown = this.#line.length;
    return { output };
  }

  #end(): Typed {
    const line = this.#line;
    this.#line = "";
    this.#shown = 0;
    // An empty line is shown as its end only.
    return { output: "\r\n", line };
  }
}
