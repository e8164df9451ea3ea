/** Bytes as hexadecimal digits, spaces allowed between them, for messages that are written by hand from the protocol. */

/** The bytes of the digits. */
export function hex(digits: string): Uint8Array {
  const bare = digits.replaceAll(/\s/g, "");
  if (!/^([0-9a-f]{2})*$/.test(bare)) throw new Error(`no hexadecimal digits: ${digits}`);
  return Uint8Array.from({ length: bare.length / 2 }, (_, i) =>
    Number.parseInt(bare.slice(2 * i, 2 * i + 2), 16),
  );
}
