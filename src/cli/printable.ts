/**
 * Text for a terminal: names in images, in paths and in what servers say are written by strangers, and control characters in
 * them would move the cursor, rename the window or turn the text around. Everything that the command prints passes here.
 *
 * Invariant: the result holds no control character but line feeds and tabs, and no mark that turns the direction of writing; in
 * JSON it means the same as before.
 */
import { withoutPassword } from "../base/names.ts";

/** Texts that have none of them, as most: V8 takes a millisecond to make a program of all control characters there are. */
const PLAIN = /^[\n\t -~]*$/;

/** `text` with those characters as `\uXXXX`. */
export function printable(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replaceAll(/[\p{Cc}\u202A-\u202E\u2066-\u2069]/gu, (character) => {
    if (character === "\n" || character === "\t") return character;
    return `\\u${character.codePointAt(0)!.toString(16).padStart(4, "0")}`;
  });
}

/** `text` without the passwords of URLs and the values of cookies that it repeats. */
export function withoutSecrets(text: string): string {
  return withoutPassword(text)
    .replaceAll(/\bcookie=(?:[^,'\n]|,,)*/g, "cookie=***")
    .replaceAll(/"([\w.]*cookie)": ?"(?:[^"\\]|\\.)*"/g, '"$1": "***"');
}

/** A message for stderr, which lands in logs. */
export function printableMessage(text: string): string {
  return printable(withoutSecrets(text));
}
