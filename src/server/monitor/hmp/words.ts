/**
 * The words of one command line of the human monitor, by the command's parameters: flags, names, strings, numbers. Wrong use is
 * told in QEMU's words. Source: behaviour of QEMU 7.2's monitor.
 */
import { parsedSize } from "./numbers.ts";

/** What a parameter is. */
export type ParameterKind = "flag" | "device" | "file" | "string" | "integer" | "size" | "rest";

/** A parameter: its name, or for a flag its letter and name. */
export interface Parameter {
  readonly name: string;
  readonly kind: ParameterKind;
  readonly letter?: string;
  readonly optional?: boolean;
}

/** Values by the parameters' names. */
export type HmpArguments = Readonly<Record<string, string | number | boolean | undefined>>;

/** A line that is wrong; what is told of it, a line each. */
export class WrongLine extends Error {}

const expected: Readonly<Record<string, string>> = {
  device: "block device name expected",
  file: "filename expected",
  string: "string expected",
};

/** A cursor over a line. */
class Line {
  readonly text: string;
  at = 0;

  constructor(text: string) {
    this.text = text;
  }

  skipSpaces(): void {
    while (/\s/.test(this.text[this.at] ?? "")) this.at += 1;
  }

  get atEnd(): boolean {
    return this.at >= this.text.length;
  }

  /** The next word, in quotes or not; undefined where there is none. */
  word(): string | undefined {
    this.skipSpaces();
    if (this.atEnd) return undefined;
    if (this.text[this.at] === '"') return this.#quoted();
    const start = this.at;
    while (!this.atEnd && !/\s/.test(this.text[this.at]!)) this.at += 1;
    return this.text.slice(start, this.at);
  }

  #quoted(): string | undefined {
    const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", "\\": "\\", "'": "'", '"': '"' };
    let word = "";
    for (this.at += 1; !this.atEnd && this.text[this.at] !== '"'; this.at += 1) {
      let char = this.text[this.at]!;
      if (char === "\\") {
        this.at += 1;
        const escaped = escapes[this.text[this.at] ?? ""];
        if (escaped === undefined)
          throw new WrongLine(`unsupported escape code: '\\${this.text[this.at] ?? ""}'`);
        char = escaped;
      }
      word += char;
    }
    if (this.atEnd) throw new WrongLine("unterminated string");
    this.at += 1;
    return word;
  }

  rest(): string {
    this.skipSpaces();
    const rest = this.text.slice(this.at);
    this.at = this.text.length;
    return rest;
  }
}

/** The first word of a line and what follows it. */
export function firstWord(line: string): { name: string; rest: string } {
  const trimmed = line.trimStart();
  const name = /^[^\s/]*/.exec(trimmed)?.[0] ?? "";
  return { name, rest: trimmed.slice(name.length) };
}

/** Reads what follows a command's name. Throws WrongLine. */
export function readWords(name: string, text: string, parameters: readonly Parameter[]): HmpArguments {
  const line = new Line(text);
  const values: Record<string, string | number | boolean | undefined> = {};
  for (const parameter of parameters) {
    line.skipSpaces();
    if (parameter.kind === "flag") checkFlag(name, line, parameters);
    values[parameter.name] = readOne(name, line, parameter);
  }
  line.skipSpaces();
  if (!line.atEnd) throw new WrongLine(`${name}: extraneous characters at the end of line`);
  return values;
}

function readOne(name: string, line: Line, parameter: Parameter): string | number | boolean | undefined {
  const { kind, letter = "", optional = false } = parameter;
  if (kind === "flag") return takeFlag(name, line, letter);
  if (kind === "rest") return line.rest();
  let word: string | undefined;
  try {
    word = line.word();
  } catch (error) {
    if (error instanceof WrongLine)
      throw new WrongLine(`${error.message}\n${name}: ${expected[kind] ?? "number expected"}`);
    throw error;
  }
  if (kind === "integer" || kind === "size") {
    if (word === undefined) {
      if (optional) return undefined;
      throw new WrongLine(kind === "size" ? "invalid size" : "unexpected end of expression");
    }
    const value = kind === "size" ? parsedSize(word) : Number(word);
    if (value === undefined || Number.isNaN(value))
      throw new WrongLine(kind === "size" ? "invalid size" : notNumber(word));
    return value;
  }
  if (word === undefined && !optional) throw new WrongLine(`${name}: ${expected[kind]}`);
  return word;
}

function notNumber(word: string): string {
  return /^[A-Za-z]/.test(word) ? `invalid char '${word[0]}' in expression` : "expecting a number";
}

/** Where a command has flags, what begins like one is one of them. */
function checkFlag(name: string, { text, at }: Line, parameters: readonly Parameter[]): void {
  const letter = text[at] === "-" ? text[at + 1] : undefined;
  if (letter !== undefined && !parameters.some((one) => one.letter === letter))
    throw new WrongLine(`${name}: unsupported option -${letter}`);
}

/** A flag stands before the other words; the first flag of several may be left out. */
function takeFlag(name: string, line: Line, letter: string): boolean {
  if (line.text[line.at] !== "-") return false;
  if (line.text[line.at + 1] !== letter) {
    return false;
  }
  line.at += 2;
  if (!line.atEnd && !/\s/.test(line.text[line.at]!))
    throw new WrongLine(`${name}: unsupported option -${line.text[line.at]}`);
  return true;
}
