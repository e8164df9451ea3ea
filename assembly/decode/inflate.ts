/**
 * Inflates raw DEFLATE streams: a module of its own, for threads that decompress (src/platform/node/decode-thread.ts).
 * Several times as fast as a decoder that keeps a state: the whole stream and room for all of the output are at hand.
 *
 *   inflate(input, bytes, output, room)   bytes written, or a negative number: ask a decoder that knows better
 *
 * Invariants: memory is imported and shared; addresses below `OWN` are this module's. INPUT_SLACK bytes behind the input may
 * be read, OUTPUT_SLACK bytes behind the output written. A number >= 0 is what zlib would give, byte for byte: what zlib
 * refuses, what ends early, and what is unusual (incomplete codes) comes back negative. Source: RFC 1951.
 */

/** Bits that the first look-up of a symbol takes. */
const LITERAL_BITS: u32 = 11;
const DISTANCE_BITS: u32 = 8;
const PRECODE_BITS: u32 = 7;
const LONGEST_CODE: u32 = 15;
const END_OF_BLOCK: u32 = 256;

/**
 * An entry: bits 0-7 what to take from the stream, extra bits included; bits 8-11 the code's part of it; bits 16-31 the base of a
 * length or distance, or the place of a second table (with SECOND, bits 8-11: its width). With LITERAL: bits 8-11 how many
 * literals, one or two; bits 16-31 these.
 */
const LITERAL: u32 = 0x1000;
/** Whatever is no literal, length or distance that is complete: END, SECOND, or neither: no code. */
const SPECIAL: u32 = 0x8000;
const SECOND: u32 = 0x4000;
const END: u32 = 0x2000;

/** Where this module's tables lie, bytes: a page is left to whoever reads address 0. */
const LITERALS: usize = 4096;
const DISTANCES: usize = LITERALS + 4096 * 4;
const PRECODE: usize = DISTANCES + 2048 * 4;
/** Lengths of codes, a byte each. */
const LENGTHS: usize = PRECODE + 128 * 4;
const SORTED: usize = LENGTHS + 512;
const COUNTS: usize = SORTED + 512 * 2;
const PLACES: usize = COUNTS + 16 * 4;
/** The order of the lengths of the precode. */
const ORDER = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);

/** First address that the caller may use. */
export function dataStart(): usize {
  return 65536;
}

/** What a symbol of an alphabet stands for, without the bits that its code takes; the alphabets are told by the table. */
function meaning(table: usize, symbol: u32): u32 {
  if (table === PRECODE) return symbol << 16;
  if (table === DISTANCES) {
    if (symbol >= 30) return SPECIAL;
    if (symbol < 4) return (symbol + 1) << 16;
    const extra = (symbol >> 1) - 1;
    return ((((2 + (symbol & 1)) << extra) + 1) << 16) | extra;
  }
  if (symbol < END_OF_BLOCK) return LITERAL | (symbol << 16);
  if (symbol === END_OF_BLOCK) return SPECIAL | END;
  if (symbol < 265) return (symbol - 254) << 16;
  if (symbol < 285) {
    const extra = (symbol - 261) >> 2;
    return ((((4 + ((symbol - 265) & 3)) << extra) + 3) << 16) | extra;
  }
  return symbol === 285 ? 258 << 16 : SPECIAL;
}

/** Sorts symbols by the lengths of their codes; what remains of the code space, negative: there are too many codes. */
function sort(lengths: usize, symbols: u32): i32 {
  memory.fill(COUNTS, 0, 64);
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const at = COUNTS + ((<usize>load<u8>(lengths + symbol)) << 2);
    store<u32>(at, load<u32>(at) + 1);
  }
  let left: i32 = 1;
  let place: u32 = 0;
  for (let length: u32 = 1; length <= LONGEST_CODE; length++) {
    const count = load<u32>(COUNTS + (length << 2));
    left = (left << 1) - <i32>count;
    if (left < 0) return left;
    store<u32>(PLACES + (length << 2), place);
    place += count;
  }
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const length = load<u8>(lengths + symbol);
    if (length === 0) continue;
    const at = PLACES + ((<usize>length) << 2);
    const index = load<u32>(at);
    store<u16>(SORTED + (index << 1), <u16>symbol);
    store<u32>(at, index + 1);
  }
  return left;
}

/** How wide the second table is that begins with a code of `length` bits. */
function secondBits(length: u32, bits: u32): u32 {
  let width = length - bits;
  let left: i32 = 1 << width;
  while (width + bits < LONGEST_CODE) {
    left -= <i32>load<u32>(COUNTS + ((width + bits) << 2));
    if (left <= 0) break;
    width += 1;
    left <<= 1;
  }
  return width;
}

/** Makes the table of a code; false: zlib might refuse it. */
function build(lengths: usize, symbols: u32, table: usize, bits: u32): bool {
  const left = sort(lengths, symbols);
  const size: u32 = 1 << bits;
  if (left !== 0) {
    // One distance only, or none: the one incomplete code that is common.
    if (left < 0 || table !== DISTANCES || (left !== 1 << 14 && left !== 1 << 15)) return false;
    for (let at: u32 = 0; at < size; at++) store<u32>(table + (at << 2), SPECIAL);
  }
  let code: u32 = 0;
  let index: u32 = 0;
  let next: u32 = size;
  let second: u32 = 0;
  let prefix: u32 = 0xffffffff;
  let width: u32 = 0;
  for (let length: u32 = 1; length <= LONGEST_CODE; length++) {
    while (load<u32>(COUNTS + (length << 2)) > 0) {
      const entry = meaning(table, load<u16>(SORTED + (index << 1)));
      index += 1;
      let first: u32 = code;
      let end: u32 = size;
      let own: u32 = length;
      let from: u32 = 0;
      if (length > bits) {
        if ((code & (size - 1)) !== prefix) {
          prefix = code & (size - 1);
          width = secondBits(length, bits);
          second = next;
          next += 1 << width;
          store<u32>(table + (prefix << 2), (second << 16) | SPECIAL | SECOND | (width << 8) | bits);
        }
        own = length - bits;
        first = code >> bits;
        end = 1 << width;
        from = second;
      }
      const whole = (entry & 0xffffff00) | ((entry & 0xff) + own) | (own << 8);
      for (let at = first; at < end; at += 1 << own) store<u32>(table + ((from + at) << 2), whole);
      store<u32>(COUNTS + (length << 2), load<u32>(COUNTS + (length << 2)) - 1);
      // The next code, counted from its last bit on.
      let step: u32 = 1 << (length - 1);
      while (code & step) step >>= 1;
      code = step ? (code & (step - 1)) + step : 0;
    }
  }
  if (table === LITERALS) pairLiterals();
  return true;
}

/** Makes one entry of two literals where both are known. From the last on: the second one is found before its entry is changed. */
function pairLiterals(): void {
  for (let index: i32 = (1 << LITERAL_BITS) - 1; index >= 0; index--) {
    const at = LITERALS + ((<usize>index) << 2);
    const entry = load<u32>(at);
    if (!(entry & LITERAL)) continue;
    const taken = entry & 0xff;
    const next = load<u32>(LITERALS + ((<usize>index >> taken) << 2));
    let pair = (entry & 0xff0000) | LITERAL | 0x100 | taken;
    if (next & LITERAL && taken + (next & 0xff) <= LITERAL_BITS)
      pair = ((next & 0xff0000) << 8) | (entry & 0xff0000) | LITERAL | 0x200 | (taken + (next & 0xff));
    store<u32>(at, pair);
  }
}

/** The codes of blocks without codes of their own. */
function buildFixed(): bool {
  memory.fill(LENGTHS, 8, 144);
  memory.fill(LENGTHS + 144, 9, 112);
  memory.fill(LENGTHS + 256, 7, 24);
  memory.fill(LENGTHS + 280, 8, 8);
  if (!build(LENGTHS, 288, LITERALS, LITERAL_BITS)) return false;
  memory.fill(LENGTHS, 5, 32);
  return build(LENGTHS, 32, DISTANCES, DISTANCE_BITS);
}

/** Where the reader of the stream is. */
let source: usize = 0;
let held: u64 = 0;
let count: u32 = 0;

/** Holds at least 56 bits; what lies behind the input is read, and never used. */
function refill(): void {
  held |= load<u64>(source) << count;
  source += (63 - count) >> 3;
  count |= 56;
}

function take(bits: u32): u32 {
  const value = <u32>held & ((1 << bits) - 1);
  held >>= bits;
  count -= bits;
  return value;
}

/** Reads the codes of a block; false: ask zlib. */
function readCodes(limit: usize): bool {
  refill();
  const literals = take(5) + 257;
  const distances = take(5) + 1;
  const precodes = take(4) + 4;
  if (literals > 286 || distances > 30) return false;
  memory.fill(LENGTHS, 0, 19);
  for (let at: u32 = 0; at < precodes; at++) {
    refill();
    store<u8>(LENGTHS + load<u8>(ORDER + at), <u8>take(3));
  }
  if (!build(LENGTHS, 19, PRECODE, PRECODE_BITS)) return false;
  const all = literals + distances;
  for (let at: u32 = 0; at < all;) {
    refill();
    if (source > limit) return false;
    const entry = load<u32>(PRECODE + ((<usize>held & 127) << 2));
    take(entry & 0xff);
    const symbol = entry >> 16;
    if (symbol < 16) {
      store<u8>(LENGTHS + at, <u8>symbol);
      at += 1;
      continue;
    }
    if (symbol === 16 && at === 0) return false;
    const value: u8 = symbol === 16 ? load<u8>(LENGTHS + at - 1) : 0;
    const times = symbol === 16 ? 3 + take(2) : symbol === 17 ? 3 + take(3) : 11 + take(7);
    if (at + times > all) return false;
    memory.fill(LENGTHS + at, value, times);
    at += times;
  }
  if (load<u8>(LENGTHS + END_OF_BLOCK) === 0) return false;
  // Made last, since sorting the literals needs no lengths of distances, and the other way round.
  return (
    build(LENGTHS, literals, LITERALS, LITERAL_BITS) &&
    build(LENGTHS + literals, distances, DISTANCES, DISTANCE_BITS)
  );
}

/** Copies a match; up to 15 bytes behind it are overwritten. */
function copyMatch(output: usize, distance: usize, length: usize): void {
  const end = output + length;
  let from = output - distance;
  let to = output;
  if (distance >= 16) {
    do {
      v128.store(to, v128.load(from));
      from += 16;
      to += 16;
    } while (to < end);
  } else if (distance === 1) {
    const byte = i8x16.splat(load<u8>(from));
    do {
      v128.store(to, byte);
      to += 16;
    } while (to < end);
  } else if (distance >= 8) {
    do {
      store<u64>(to, load<u64>(from));
      from += 8;
      to += 8;
    } while (to < end);
  } else {
    // Each step writes `distance` bytes that are right.
    do {
      store<u64>(to, load<u64>(from));
      from += distance;
      to += distance;
    } while (to < end);
  }
}

/** What a second table holds for the bits that come next. */
function secondEntry(table: usize, entry: u32, bits: u64): u32 {
  const mask = (1 << ((entry >> 8) & 15)) - 1;
  return load<u32>(table + ((<usize>(entry >> 16) + (<usize>bits & mask)) << 2));
}

/** Decodes a block with the tables as they are; where the output goes on, 0: ask zlib. */
function block(start: usize, output: usize, end: usize, limit: usize): usize {
  let at = source;
  let bits = held;
  let many = count;
  let to = output;
  while (to < end) {
    bits |= load<u64>(at) << many;
    at += (63 - many) >> 3;
    many |= 56;
    if (at > limit) return 0;
    let entry: u32 = 0;
    let more: u32 = 3;
    do {
      entry = load<u32>(LITERALS + ((<usize>bits & 2047) << 2));
      if (!(entry & LITERAL)) break;
      store<u16>(to, entry >> 16);
      to += (entry >> 8) & 3;
      bits >>= entry & 0xff;
      many -= entry & 0xff;
    } while (--more > 0);
    if (more === 0) continue;
    if (entry & SPECIAL) {
      if (entry & SECOND) {
        bits >>= LITERAL_BITS;
        many -= LITERAL_BITS;
        entry = secondEntry(LITERALS, entry, bits);
        if (entry & LITERAL) {
          store<u8>(to++, entry >> 16);
          bits >>= entry & 0xff;
          many -= entry & 0xff;
          continue;
        }
      }
      if (entry & SPECIAL) {
        if (!(entry & END)) return 0;
        bits >>= entry & 0xff;
        many -= entry & 0xff;
        break;
      }
    }
    let total = entry & 0xff;
    const length = (entry >> 16) + ((<u32>bits & ((1 << total) - 1)) >> ((entry >> 8) & 15));
    bits >>= total;
    many -= total;
    bits |= load<u64>(at) << many;
    at += (63 - many) >> 3;
    many |= 56;
    entry = load<u32>(DISTANCES + ((<usize>bits & 255) << 2));
    if (entry & SPECIAL) {
      if (!(entry & SECOND)) return 0;
      bits >>= DISTANCE_BITS;
      many -= DISTANCE_BITS;
      entry = secondEntry(DISTANCES, entry, bits);
      if (entry & SPECIAL) return 0;
    }
    total = entry & 0xff;
    const distance = (entry >> 16) + ((<u32>bits & ((1 << total) - 1)) >> ((entry >> 8) & 15));
    bits >>= total;
    many -= total;
    if (<usize>distance > to - start) return 0;
    copyMatch(to, distance, length);
    to += length;
  }
  source = at;
  held = bits;
  count = many;
  return to;
}

/** Whether the reader has taken more than the input holds. */
function isBehind(end: usize): bool {
  return source - (count >> 3) > end;
}

/** Copies a stored block; where the output goes on, 0: ask zlib. */
function stored(output: usize, end: usize, inputEnd: usize): usize {
  take(count & 7);
  source -= count >> 3;
  held = 0;
  count = 0;
  if (source + 4 > inputEnd) return 0;
  const bytes: usize = load<u16>(source);
  if (bytes !== (<usize>load<u16>(source + 2) ^ 0xffff)) return 0;
  source += 4;
  const taken = min(bytes, end - output);
  if (source + taken > inputEnd) return 0;
  memory.copy(output, source, taken);
  source += taken;
  return output + taken;
}

/** See the head of the file. */
export function inflate(input: usize, bytes: usize, output: usize, room: usize): i32 {
  const inputEnd = input + bytes;
  const end = output + room;
  const limit = inputEnd + 8;
  source = input;
  held = 0;
  count = 0;
  let to = output;
  for (let isLast: u32 = 0; isLast === 0 && to < end;) {
    refill();
    if (isBehind(inputEnd)) return -1;
    isLast = take(1);
    const kind = take(2);
    if (kind === 0) to = stored(to, end, inputEnd);
    else if (kind === 3) return -1;
    else if (kind === 1 ? buildFixed() : readCodes(limit)) to = block(output, to, end, limit);
    else return -1;
    if (to === 0 || isBehind(inputEnd)) return -1;
  }
  return <i32>(min(to, end) - output);
}
