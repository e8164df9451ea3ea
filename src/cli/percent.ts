/**
 * How far a verb is, in percent: as qemu-img shows it on stdout where the user asked for it, else on the terminal's stderr.
 *
 * And what the terminal is like: whether somebody watches, and whether colours are wanted. Source: no-color.org.
 */

/** Whether progress is drawn on stderr: it is a terminal and nobody's CI. */
export function isWatched(): boolean {
  return process.stderr.isTTY && (process.env["CI"] ?? "") === "";
}

/** Whether colours are written to `stream`: FORCE_COLOR, then NO_COLOR, then whether it is a terminal. */
export function hasColours(stream: { readonly isTTY?: boolean }): boolean {
  const forced = process.env["FORCE_COLOR"];
  if (forced !== undefined && forced !== "") return forced !== "0";
  if ((process.env["NO_COLOR"] ?? "") !== "") return false;
  return stream.isTTY === true && process.env["TERM"] !== "dumb";
}

/** A text in an SGR style (`31`, `1;32`), if `on`. */
export function styled(text: string, style: string, on: boolean): string {
  return on && style !== "" ? `\u001B[${style}m${text}\u001B[0m` : text;
}

/** Progress in the words of qemu-img's -p, on stdout: a start, a step for each percent, an end. */
export class PercentLine {
  #due = false;
  #begun = false;
  #percent = 0;
  #written = 0;
  /** The end is told, whether it was told before or not. */
  tellsEnd = false;

  /** From here on the line is ended, shown or not. */
  reserve(): void {
    this.#due = true;
  }

  /** From here on it is shown. */
  begin(): void {
    if (!this.#begun) this.#write();
    this.#begun = true;
    this.#due = true;
  }

  /** How far it is, in percent. */
  show(percent: number): void {
    this.begin();
    this.#percent = percent;
    const step = Math.abs(percent - this.#written);
    if (step >= 1 || (step > 0 && percent === 100)) this.#write();
  }

  /** Ends the line, if one is due; everything is done if `whole`. */
  end(whole: boolean): void {
    if (!this.#due) return;
    if (whole && this.#begun) this.show(100);
    if (whole && this.tellsEnd) this.#write();
    this.#begun = this.#due = false;
    process.stdout.write("\n");
  }

  #write(): void {
    this.#written = this.#percent;
    process.stdout.write(percentText(this.#percent));
  }
}

/** `    (12.34/100%)` and a carriage return. */
function percentText(percent: number): string {
  return `    (${percent.toFixed(2)}/100%)\r`;
}

/** How long a drawn line of progress stands before the next, ms. */
const DRAW_MS = 100;

/** The progress of one verb. */
export class VerbProgress {
  /** The user asked for it. */
  readonly #asked: PercentLine | undefined;
  /** Somebody may like to see it. */
  readonly #watched: boolean;
  #drawnMs = -Infinity;
  #percent = 0;
  #drawn = false;

  constructor({ quiet = false, progress = false }: { quiet?: boolean; progress?: boolean }) {
    this.#asked = !quiet && progress ? new PercentLine() : undefined;
    this.#watched = !quiet && isWatched();
  }

  /** Whether the user asked for it. */
  get isAskedFor(): boolean {
    return this.#asked !== undefined;
  }

  /** That all is done is told once more when the verb ends, as by qemu-img where it copies. */
  tellEnd(): void {
    if (this.#asked) this.#asked.tellsEnd = true;
  }

  /** From here on the progress that is to be shown ends with a line feed, even if it never began. */
  reserve(): void {
    this.#asked?.reserve();
  }

  /** From here on progress is shown, if it is to be. */
  start(): void {
    this.#asked?.begin();
  }

  /** Shows how far the verb is; `total` and `done` in one unit. */
  readonly show = (done: number, total: number): void => {
    this.#percent = total > 0 ? (100 * done) / total : 100;
    if (this.#asked) this.#asked.show(this.#percent);
    else if (this.#watched && performance.now() - this.#drawnMs >= DRAW_MS) this.poke();
  };

  /** Draws it on stderr. */
  poke(): void {
    this.#drawnMs = performance.now();
    process.stderr.write(percentText(this.#percent));
    this.#drawn = true;
  }

  /** Leaves what is drawn, so that other text can be written. */
  clear(): void {
    if (this.#drawn) process.stderr.write("\n");
    this.#drawn = false;
  }

  /** Leaves the progress as it stands; everything is done if `whole`. */
  end(whole: boolean): void {
    if (whole) this.#percent = 100;
    this.#asked?.end(whole);
    if (this.#drawn && whole) this.poke();
    this.clear();
  }
}
