/**
 * Reads JSON from tokens, with QEMU's error texts, and JSON messages out of a stream of bytes.
 *
 * A message ends where its brackets balance, so several may stand on a line and one may cover many. Invariants: memory
 * is bounded by the limits of the stream, checked before a token is kept; after an error the stream is between messages.
 * Source: behaviour of qemu-storage-daemon 7.2.
 */
import { limits } from "../../base/limits.ts";
import { QapiError } from "./errors.ts";
import { fractionFromText, integerFromText, type Json, type JsonObject } from "./json.ts";
import { JsonLexer, type Token } from "./json-lexer.ts";

/** What a stream of messages yields. `lexical`: the input held a byte or word that no JSON holds. */
export type JsonItem =
  | { readonly kind: "value"; readonly value: Json }
  | { readonly kind: "error"; readonly message: string; readonly lexical: boolean };

/** Bounds on one message. */
export interface JsonLimits {
  readonly maxBytes: number;
  readonly maxDepth: number;
  readonly maxTokens: number;
}

const DEFAULT_LIMITS: JsonLimits = {
  maxBytes: limits.maxQmpMessageBytes,
  maxDepth: limits.maxQmpDepth,
  maxTokens: limits.maxQmpTokens,
};

class ParseError extends QapiError {
  readonly lexical: boolean;
  constructor(message: string, lexical = false) {
    super(`JSON parse error, ${message}`);
    this.lexical = lexical;
  }
}

/** Reads one value from the tokens of one message. */
class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  value(): Json {
    const token = this.#take();
    switch (token.kind) {
      case "{":
        return this.#object();
      case "[":
        return this.#array();
      case "string":
        return unquote(token);
      case "integer":
        return integerFromText(token.text);
      case "fraction":
        return fractionFromText(token.text);
      case "keyword":
        return keyword(token.text);
      default:
        throw new ParseError("expecting value");
    }
  }

  #take(): Token {
    const token = this.#tokens[this.#next];
    if (!token) throw new ParseError("premature EOI");
    this.#next++;
    return token;
  }

  /** Takes the next token if it is `kind`. */
  #accept(kind: Token["kind"]): boolean {
    if (this.#tokens[this.#next]?.kind !== kind) return false;
    this.#next++;
    return true;
  }

  #object(): JsonObject {
    const object = Object.create(null) as JsonObject;
    if (this.#accept("}")) return object;
    for (;;) {
      const key = this.value();
      if (typeof key !== "string") throw new ParseError("key is not a string in object");
      if (this.#take().kind !== ":") throw new ParseError("missing : in object pair");
      const value = this.value();
      if (key in object) throw new ParseError("duplicate key");
      object[key] = value;
      const token = this.#take();
      if (token.kind === "}") return object;
      if (token.kind !== ",") throw new ParseError("expected separator in dict");
    }
  }

  #array(): Json[] {
    const array: Json[] = [];
    if (this.#accept("]")) return array;
    for (;;) {
      array.push(this.value());
      const token = this.#take();
      if (token.kind === "]") return array;
      if (token.kind !== ",") throw new ParseError("expected separator in list");
    }
  }
}

function keyword(text: string): boolean | null {
  if (text === "true" || text === "false") return text === "true";
  if (text === "null") return null;
  throw new ParseError(`invalid keyword '${text}'`, true);
}

const BACKSLASH = 0x5c;
const ESCAPES: { readonly [letter: string]: string } = {
  '"': '"',
  "'": "'",
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};
const utf16 = new TextDecoder("utf-16le", { ignoreBOM: true });

/** What a string token stands for. In one pass and one buffer, whatever it is made of: a client may send many escapes. */
function unquote(token: Token): string {
  if (token.malformed) throw new ParseError("invalid UTF-8 sequence in string");
  const { text } = token;
  if (!text.includes("\\")) return text.slice(1, -1);
  const units = new Uint16Array(text.length);
  let length = 0;
  for (let at = 1; at < text.length - 1;) {
    let unit = text.charCodeAt(at++);
    if (unit === BACKSLASH) {
      const letter = text.charAt(at++);
      unit = letter === "u" ? unicodeEscape(text, at) : plainEscape(letter);
      if (letter === "u") at += unit > 0xffff ? 10 : 4;
      if (unit > 0xffff) units[length++] = 0xd800 + ((unit - 0x10000) >> 10);
      if (unit > 0xffff) unit = 0xdc00 + (unit & 0x3ff);
    }
    units[length++] = unit;
  }
  return utf16.decode(units.subarray(0, length));
}

function plainEscape(letter: string): number {
  const plain = Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : undefined;
  if (plain === undefined) throw new ParseError("invalid escape sequence in string");
  return plain.charCodeAt(0);
}

/** The value of four hexadecimal digits; -1 if they are not. */
function fourHex(text: string, at: number): number {
  let value = 0;
  for (let index = at; index < at + 4; index++) {
    const digit = Number.parseInt(text.charAt(index), 16);
    if (Number.isNaN(digit)) return -1;
    value = 16 * value + digit;
  }
  return value;
}

/** The code point whose escape's digits begin at `at`; above 0xffff it took two escapes, the halves of a pair. */
function unicodeEscape(text: string, at: number): number {
  const unit = fourHex(text, at);
  const isLeading = unit >= 0xd800 && unit <= 0xdbff;
  if (isLeading && text.startsWith("\\u", at + 4)) {
    const trailing = fourHex(text, at + 6);
    if (trailing >= 0xdc00 && trailing <= 0xdfff)
      return 0x10000 + ((unit & 0x3ff) << 10) + (trailing & 0x3ff);
  }
  const isSurrogate = unit >= 0xd800 && unit <= 0xdfff;
  const isNoncharacter = unit >= 0xfffe || (unit >= 0xfdd0 && unit <= 0xfdef);
  if (unit < 0 || isSurrogate || isNoncharacter) {
    throw new ParseError(`${text.slice(at - 2, at + 4)} is not a valid Unicode character`);
  }
  return unit;
}

/** JSON messages out of bytes. */
export class JsonStream {
  readonly #lexer = new JsonLexer();
  readonly #limits: JsonLimits;
  #tokens: Token[] = [];
  #braces = 0;
  #brackets = 0;
  #keptBytes = 0;

  constructor(bounds: JsonLimits = DEFAULT_LIMITS) {
    this.#limits = bounds;
  }

  /** Feeds bytes; yields each message, or error, as soon as its last byte is read. Run it to its end. */
  *feed(bytes: Uint8Array): Generator<JsonItem, void, undefined> {
    for (let at = 0; at < bytes.length;) {
      at += this.#lexer.run(bytes, at, this.#room());
      const byte = bytes[at++];
      if (byte === undefined) return;
      for (const token of this.#lexer.push(byte)) {
        const item = this.#token(token);
        if (item) yield item;
      }
      if (this.#room() >= 0) continue;
      this.reset();
      yield limitError("JSON token size limit exceeded");
    }
  }

  /** Ends the input; yields what the end finishes, and an error if a message is incomplete. */
  *finish(): Generator<JsonItem, void, undefined> {
    for (const token of this.#lexer.finish()) {
      const item = this.#token(token);
      if (item) yield item;
    }
    if (this.#tokens.length > 0) yield this.#parse();
  }

  /** Forgets an unfinished message. */
  reset(): void {
    this.#lexer.reset();
    this.#forgetMessage();
  }

  /** Bytes that may still be kept of this message; negative: it is too long. */
  #room(): number {
    return this.#limits.maxBytes - this.#keptBytes - this.#lexer.pendingBytes;
  }

  #forgetMessage(): void {
    this.#tokens = [];
    this.#braces = 0;
    this.#brackets = 0;
    this.#keptBytes = 0;
  }

  #token(token: Token): JsonItem | undefined {
    if (token.kind === "error") {
      this.#forgetMessage();
      const message = `JSON parse error, stray '${token.text}'`;
      return { kind: "error", message, lexical: true };
    }
    const exceeded = this.#count(token);
    if (exceeded) {
      this.reset();
      return limitError(exceeded);
    }
    this.#tokens.push(token);
    const open = this.#braces > 0 || this.#brackets > 0;
    if (open && this.#braces >= 0 && this.#brackets >= 0) return undefined;
    return this.#parse();
  }

  /** Counts a token; returns the limit that it breaks. */
  #count(token: Token): string | undefined {
    if (token.kind === "{") this.#braces++;
    else if (token.kind === "}") this.#braces--;
    else if (token.kind === "[") this.#brackets++;
    else if (token.kind === "]") this.#brackets--;
    this.#keptBytes += token.text.length;
    if (this.#tokens.length >= this.#limits.maxTokens) return "JSON token count limit exceeded";
    const tooDeep = this.#braces + this.#brackets > this.#limits.maxDepth;
    return tooDeep ? "JSON nesting depth limit exceeded" : undefined;
  }

  #parse(): JsonItem {
    const parser = new Parser(this.#tokens);
    this.#forgetMessage();
    try {
      return { kind: "value", value: parser.value() };
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
      return { kind: "error", message: error.message, lexical: error.lexical };
    }
  }
}

function limitError(message: string): JsonItem {
  return { kind: "error", message, lexical: true };
}

/** Reads a text that holds one JSON value. Throws QapiError. */
export function parseJson(text: string): Json {
  const stream = new JsonStream();
  const items = [...stream.feed(new TextEncoder().encode(text)), ...stream.finish()];
  const [first] = items;
  const bad = items.find((item) => item.kind === "error");
  if (first?.kind === "value" && items.length > 1) throw new QapiError("Expecting at most one JSON value");
  if (bad?.kind === "error") throw new QapiError(bad.message);
  if (first?.kind !== "value") throw new QapiError("Expecting a JSON value");
  return first.value;
}
