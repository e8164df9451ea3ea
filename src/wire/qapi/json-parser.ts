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

function unquote(token: Token): string {
  if (token.malformed) throw new ParseError("invalid UTF-8 sequence in string");
  const text = token.text;
  const parts: string[] = [];
  let from = 1;
  for (let at = text.indexOf("\\", 1); at >= 0; at = text.indexOf("\\", from)) {
    parts.push(text.slice(from, at));
    const letter = text[at + 1] ?? "";
    if (letter === "u") {
      const character = unicodeEscape(text, at);
      parts.push(character);
      from = at + 6 * character.length;
    } else {
      const plain = Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : undefined;
      if (plain === undefined) throw new ParseError("invalid escape sequence in string");
      parts.push(plain);
      from = at + 2;
    }
  }
  parts.push(text.slice(from, -1));
  return parts.join("");
}

function fourHex(text: string, at: number): number {
  const digits = text.slice(at, at + 4);
  return /^[0-9a-fA-F]{4}$/.test(digits) ? Number.parseInt(digits, 16) : -1;
}

/** The character that `\uXXXX` (or a pair of them) at `at` stands for: one UTF-16 unit for each escape. */
function unicodeEscape(text: string, at: number): string {
  const unit = fourHex(text, at + 2);
  const isLeading = unit >= 0xd800 && unit <= 0xdbff;
  if (isLeading && text.startsWith("\\u", at + 6)) {
    const trailing = fourHex(text, at + 8);
    if (trailing >= 0xdc00 && trailing <= 0xdfff) return String.fromCharCode(unit, trailing);
  }
  const isSurrogate = unit >= 0xd800 && unit <= 0xdfff;
  const isNoncharacter = unit >= 0xfffe || (unit >= 0xfdd0 && unit <= 0xfdef);
  if (unit < 0 || isSurrogate || isNoncharacter) {
    throw new ParseError(`${text.slice(at, at + 6)} is not a valid Unicode character`);
  }
  return String.fromCharCode(unit);
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
    for (const byte of bytes) {
      for (const token of this.#lexer.push(byte)) {
        const item = this.#token(token);
        if (item) yield item;
      }
      if (this.#keptBytes + this.#lexer.pendingBytes <= this.#limits.maxBytes) continue;
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
