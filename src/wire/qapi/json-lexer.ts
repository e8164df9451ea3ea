/**
 * Cuts a stream of bytes into JSON tokens as QEMU's lexer does: strings in double or single quotes, keywords of small
 * letters, numbers. It takes a byte at a time, so input may be cut anywhere, and it holds one unfinished token only. Runs
 * of bytes that only lengthen it (a long string, a number of a million digits) are taken at once, in a tight loop.
 * Source: RFC 8259, and the behaviour of qemu-storage-daemon 7.2 where it goes beyond (quotes, recovery).
 */

/** What a token is. `error` holds what does not belong, up to and with the byte that broke it. */
export type TokenKind =
  | "{"
  | "}"
  | "["
  | "]"
  | ":"
  | ","
  | "string"
  | "integer"
  | "fraction"
  | "keyword"
  | "error";

/** A token. The text of a string is still quoted and escaped. */
export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** A string whose bytes are not UTF-8. */
  readonly malformed: boolean;
}

type State =
  | "start"
  | "string"
  | "escape"
  | "sign"
  | "zero"
  | "digits"
  | "point"
  | "fraction"
  | "exponent"
  | "exponent-sign"
  | "exponent-digits"
  | "keyword"
  | "recovery";

/** What follows a byte: a state, the end of the token before it, or an error. */
type Step = State | "end" | "error";

const DOUBLE_QUOTE = 0x22;
const SINGLE_QUOTE = 0x27;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;
const PLUS = 0x2b;
const POINT = 0x2e;
const ZERO = 0x30;
const STRUCTURE = new Map<number, TokenKind>(
  (["{", "}", "[", "]", ":", ","] as const).map((kind) => [kind.charCodeAt(0), kind]),
);

const TOKEN_OF: { readonly [S in State]?: TokenKind } = {
  zero: "integer",
  digits: "integer",
  fraction: "fraction",
  "exponent-digits": "fraction",
  keyword: "keyword",
};

const NONE: readonly Token[] = [];

const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39;
const isSmallLetter = (byte: number): boolean => byte >= 0x61 && byte <= 0x7a;
const isExponent = (byte: number): boolean => byte === 0x65 || byte === 0x45;
const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

/** A byte that no string holds as it is. */
const isForbidden = (byte: number): boolean => byte < 0x20 || byte >= 0xfe;

/** States whose bytes belong to the token; those of the others are passed over. */
const KEEPS: ReadonlySet<State> = new Set(["string", "digits", "fraction", "exponent-digits", "keyword"]);

/** The bytes after which a state is still the same, with no token begun or ended. A string has its own (see endOfPlain). */
const GOES_ON: { readonly [S in State]?: (byte: number) => boolean } = {
  start: isSpace,
  digits: isDigit,
  fraction: isDigit,
  "exponent-digits": isDigit,
  keyword: isSmallLetter,
  recovery: (byte) => !isForbidden(byte) && !STRUCTURE.has(byte),
};

/** Where a string's plain characters and whole escapes end. */
function endOfPlain(
  bytes: Uint8Array,
  { from, end, quote }: { from: number; end: number; quote: number },
): number {
  let at = from;
  while (at < end) {
    const byte = bytes[at] as number;
    if (byte === quote || isForbidden(byte)) return at;
    if (byte !== BACKSLASH) at += 1;
    else if (at + 1 < end && !isForbidden(bytes[at + 1] as number)) at += 2;
    else return at;
  }
  return at;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/** The lexer. */
export class JsonLexer {
  #state: State = "start";
  #quote = 0;
  #bytes = new Uint8Array(256);
  #length = 0;

  /** Bytes of the token under way. */
  get pendingBytes(): number {
    return this.#length;
  }

  /** Takes the next byte; returns the tokens that it finishes (two at most). */
  push(byte: number): readonly Token[] {
    const step = this.#step(byte);
    if (step === "end") {
      const token = this.#take(TOKEN_OF[this.#state] ?? "error");
      this.#state = "start";
      return [token, ...this.push(byte)];
    }
    if (step === "error") {
      this.#append(byte);
      this.#state = "recovery";
      return [this.#take("error")];
    }
    return this.#enter(step, byte);
  }

  /**
   * Takes the bytes from `from` on, `most` of them at most, that lengthen the token or the white space under way and
   * decide nothing. Returns how many; the next byte is push()'s.
   */
  run(bytes: Uint8Array, from: number, most: number): number {
    const end = Math.min(bytes.length, from + most);
    const length = this.#runEnd(bytes, from, end) - from;
    if (length > 0 && KEEPS.has(this.#state)) this.#appendAll(bytes, from, length);
    return length;
  }

  #runEnd(bytes: Uint8Array, from: number, end: number): number {
    if (this.#state === "string") return endOfPlain(bytes, { from, end, quote: this.#quote });
    const goesOn = GOES_ON[this.#state];
    if (!goesOn) return from;
    let at = from;
    while (at < end && goesOn(bytes[at] as number)) at++;
    return at;
  }

  /** Ends the input: an unfinished number or keyword is finished, anything else unfinished is an error. */
  finish(): Token[] {
    if (this.#length === 0) return [];
    const token = this.#take(TOKEN_OF[this.#state] ?? "error");
    this.#state = "start";
    return [token];
  }

  /** Forgets the token under way. */
  reset(): void {
    this.#state = "start";
    this.#length = 0;
  }

  #enter(step: State, byte: number): readonly Token[] {
    const before = this.#state;
    this.#state = step;
    if (step === "recovery") return NONE;
    if (step === "start") {
      if (before === "string") {
        this.#append(byte);
        return [this.#take("string")];
      }
      const kind = STRUCTURE.get(byte);
      return kind ? [{ kind, text: kind, malformed: false }] : NONE;
    }
    if (before === "start" && step === "string") this.#quote = byte;
    this.#append(byte);
    return NONE;
  }

  #step(byte: number): Step {
    switch (this.#state) {
      case "start":
        return stepFromStart(byte);
      case "recovery":
        return isForbidden(byte) || STRUCTURE.has(byte) ? recovered(byte) : "recovery";
      case "string":
        if (byte === this.#quote) return "start";
        if (byte === BACKSLASH) return "escape";
        return isForbidden(byte) ? "error" : "string";
      case "escape":
        return isForbidden(byte) ? "error" : "string";
      case "keyword":
        return isSmallLetter(byte) ? "keyword" : "end";
      default:
        return stepInNumber(this.#state, byte);
    }
  }

  #append(byte: number): void {
    this.#makeRoom(1);
    this.#bytes[this.#length++] = byte;
  }

  #appendAll(bytes: Uint8Array, from: number, length: number): void {
    this.#makeRoom(length);
    this.#bytes.set(bytes.subarray(from, from + length), this.#length);
    this.#length += length;
  }

  #makeRoom(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }

  #take(kind: TokenKind): Token {
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    let token: Token;
    try {
      token = { kind, text: strict.decode(bytes), malformed: false };
    } catch {
      token = { kind, text: lenient.decode(bytes), malformed: true };
    }
    if (this.#bytes.length > 65_536) this.#bytes = new Uint8Array(256);
    return token;
  }
}

function stepFromStart(byte: number): Step {
  if (byte === DOUBLE_QUOTE || byte === SINGLE_QUOTE) return "string";
  if (STRUCTURE.has(byte) || isSpace(byte)) return "start";
  if (byte === MINUS) return "sign";
  if (byte === ZERO) return "zero";
  if (isDigit(byte)) return "digits";
  return isSmallLetter(byte) ? "keyword" : "error";
}

/** A byte at which reading resumes after an error: it counts only if it is a token or white space itself. */
function recovered(byte: number): Step {
  return STRUCTURE.has(byte) || isSpace(byte) ? "start" : "recovery";
}

function stepInNumber(state: State, byte: number): Step {
  switch (state) {
    case "sign":
      if (byte === ZERO) return "zero";
      return isDigit(byte) ? "digits" : "error";
    case "zero":
    case "digits":
      if (isDigit(byte)) return state === "zero" ? "error" : "digits";
      if (byte === POINT) return "point";
      return isExponent(byte) ? "exponent" : "end";
    case "point":
      return isDigit(byte) ? "fraction" : "error";
    case "fraction":
      if (isDigit(byte)) return "fraction";
      return isExponent(byte) ? "exponent" : "end";
    case "exponent":
      if (byte === PLUS || byte === MINUS) return "exponent-sign";
      return isDigit(byte) ? "exponent-digits" : "error";
    case "exponent-sign":
      return isDigit(byte) ? "exponent-digits" : "error";
    default:
      return isDigit(byte) ? "exponent-digits" : "end";
  }
}
