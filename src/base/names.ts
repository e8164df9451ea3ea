/**
 * Names as images hold them: bytes, mostly UTF-8. A byte that is none is kept as a lone surrogate (U+DC80 … U+DCFF), which no
 * UTF-8 decodes to, so that a name that is read and written again is the same bytes. Source: PEP 383 ("surrogateescape").
 */

const ESCAPE = 0xdc00;
const LONGEST = 4;
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The name that these bytes are. */
export function decodeName(bytes: Uint8Array): string {
  const whole = decoded(bytes);
  if (whole !== undefined) return whole;
  let name = "";
  for (let at = 0; at < bytes.byteLength;) {
    const { text, length } = next(bytes, at);
    name += text;
    at += length;
  }
  return name;
}

/** The character at `at`, or the byte there, escaped. */
function next(bytes: Uint8Array, at: number): { text: string; length: number } {
  for (let length = 1; length <= LONGEST && at + length <= bytes.byteLength; length++) {
    const text = decoded(bytes.subarray(at, at + length));
    if (text !== undefined) return { text, length };
  }
  return { text: String.fromCharCode(ESCAPE + bytes[at]!), length: 1 };
}

/** The bytes of a name, those of decodeName() where it came from there. */
export function encodeName(name: string): Uint8Array {
  if (!/[\udc80-\udcff]/.test(name)) return new TextEncoder().encode(name);
  const bytes: number[] = [];
  for (const character of name) {
    const code = character.codePointAt(0)!;
    if (code > ESCAPE + 0x7f && code <= ESCAPE + 0xff) bytes.push(code - ESCAPE);
    else bytes.push(...new TextEncoder().encode(character));
  }
  return Uint8Array.from(bytes);
}

/** A message as it may be shown: what stands before the `@` of a URL in it may be a password. */
export function withoutPassword(text: string): string {
  return text.replaceAll(/(:\/\/)[^/?#'"]*@/g, "$1***@");
}
