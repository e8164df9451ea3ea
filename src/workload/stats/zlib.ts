/**
 * zlib's frame (RFC 1950) around stored blocks (RFC 1951), and base 64: compressors differ from engine to engine, and a result
 * must not. Any inflater reads it.
 */

const BLOCK = 65_535;

function adler32(bytes: Uint8Array): number {
  let [a, b] = [1, 0];
  for (const byte of bytes) {
    a = (a + byte) % 65_521;
    b = (b + a) % 65_521;
  }
  return b * 65_536 + a;
}

/** The bytes in a zlib frame, stored. */
export function storedZlib(bytes: Uint8Array): Uint8Array {
  const blocks = Math.max(1, Math.ceil(bytes.length / BLOCK));
  const out = new Uint8Array(2 + 5 * blocks + bytes.length + 4);
  const view = new DataView(out.buffer);
  out.set([0x78, 0x01]);
  let to = 2;
  for (let i = 0; i < blocks; i++) {
    const part = bytes.subarray(i * BLOCK, (i + 1) * BLOCK);
    out[to] = i === blocks - 1 ? 1 : 0;
    view.setUint16(to + 1, part.length, true);
    view.setUint16(to + 3, ~part.length & 0xffff, true);
    out.set(part, to + 5);
    to += 5 + part.length;
  }
  view.setUint32(to, adler32(bytes));
  return out;
}

/** What storedZlib() was given; undefined where the frame is another's. */
export function storedContent(frame: Uint8Array): Uint8Array | undefined {
  const parts: Uint8Array[] = [];
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  for (let at = 2, last = false; !last;) {
    if (at + 5 > frame.length || frame[at]! > 1) return undefined;
    last = frame[at] === 1;
    const bytes = view.getUint16(at + 1, true);
    parts.push(frame.subarray(at + 5, at + 5 + bytes));
    at += 5 + bytes;
  }
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let to = 0;
  for (const part of parts) {
    whole.set(part, to);
    to += part.length;
  }
  return whole;
}

/** Base 64 of bytes. */
export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** The bytes of base 64; none where it is none. */
export function fromBase64(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return new Uint8Array(0);
  }
}
