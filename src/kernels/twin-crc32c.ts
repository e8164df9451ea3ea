/** CRC-32C by eight tables, in plain TypeScript. Source: RFC 3720 appendix B.4 (reflected polynomial 0x82f63b78). */

// Marked pure, so that bundles without twins leave it out.
const tables = /* @__PURE__ */ buildTables();

function buildTables(): Uint32Array {
  const table = new Uint32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    table[i] = crc;
  }
  for (let i = 256; i < table.length; i++) table[i] = (table[i - 256]! >>> 8) ^ table[table[i - 256]! & 255]!;
  return table;
}

/** CRC-32C of `bytes`, going on from `crc`. */
export function twinCrc32c(bytes: Uint8Array, crc: number): number {
  const t = tables;
  let register = ~crc;
  let i = 0;
  for (; i + 8 <= bytes.length; i += 8) {
    register ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    register =
      t[1792 + (register & 255)]! ^
      t[1536 + ((register >>> 8) & 255)]! ^
      t[1280 + ((register >>> 16) & 255)]! ^
      t[1024 + (register >>> 24)]! ^
      t[768 + bytes[i + 4]!]! ^
      t[512 + bytes[i + 5]!]! ^
      t[256 + bytes[i + 6]!]! ^
      t[bytes[i + 7]!]!;
  }
  for (; i < bytes.length; i++) register = (register >>> 8) ^ t[(register ^ bytes[i]!) & 255]!;
  return ~register >>> 0;
}
