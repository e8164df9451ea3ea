/**
 * XXH3-64 with seed 0 and the default secret, in plain TypeScript. Source: the XXH3 algorithm of doc/xxhash_spec.md
 * (xxHash 0.8). The long form's lanes are pairs of 32-bit halves, since BigInt is a hundred times slower; the short
 * forms, which run once a call, are in BigInt.
 */

const SECRET_HEX =
  "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221" +
  "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8" +
  "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb17" +
  "0ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e";

// Marked pure, so that bundles without twins leave it out.
const secret = /* @__PURE__ */ parseSecret();
/** The secret's 32-bit words at every multiple of 8 bytes (and 4 behind), for the long form. */
const secretWords = /* @__PURE__ */ splitSecret();

function parseSecret(): DataView {
  const bytes = new DataView(new ArrayBuffer(192));
  for (let i = 0; i < 192; i++) bytes.setUint8(i, Number.parseInt(SECRET_HEX.slice(2 * i, 2 * i + 2), 16));
  return bytes;
}

function splitSecret(): Uint32Array {
  return Uint32Array.from({ length: 48 }, (_, i) => secret.getUint32(4 * i, true));
}

const MASK = (1n << 64n) - 1n;
const PRIME32_1 = 0x9e3779b1;
const PRIME64_1 = 0x9e3779b185ebca87n;
const PRIME64_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME64_3 = 0x165667b19e3779f9n;
const PRIME64_4 = 0x85ebca77c2b2ae63n;
const PRIME64_5 = 0x27d4eb2f165667c5n;
const RRMXMX = 0x9fb21c651e98df25n;
const START_LANES = [
  0xc2b2ae3dn,
  PRIME64_1,
  PRIME64_2,
  PRIME64_3,
  PRIME64_4,
  0x85ebca77n,
  PRIME64_5,
  0x9e3779b1n,
];

function secret64(at: number): bigint {
  return secret.getBigUint64(at, true);
}

function multiplyFold(a: bigint, b: bigint): bigint {
  const product = a * b;
  return (product & MASK) ^ (product >> 64n);
}

function avalanche(hash: bigint): bigint {
  const mixed = ((hash ^ (hash >> 37n)) * 0x165667919e3779f9n) & MASK;
  return mixed ^ (mixed >> 32n);
}

function avalanche64(hash: bigint): bigint {
  const once = ((hash ^ (hash >> 33n)) * PRIME64_2) & MASK;
  const twice = ((once ^ (once >> 29n)) * PRIME64_3) & MASK;
  return twice ^ (twice >> 32n);
}

function rotateLeft(value: bigint, by: bigint): bigint {
  return ((value << by) | (value >> (64n - by))) & MASK;
}

function swapBytes(value: bigint): bigint {
  let swapped = 0n;
  for (let i = 0n; i < 64n; i += 8n) swapped = (swapped << 8n) | ((value >> i) & 255n);
  return swapped;
}

function upTo16(input: DataView): bigint {
  const bytes = input.byteLength;
  const size = BigInt(bytes);
  if (bytes > 8) {
    const low = input.getBigUint64(0, true) ^ secret64(24) ^ secret64(32);
    const high = input.getBigUint64(bytes - 8, true) ^ secret64(40) ^ secret64(48);
    return avalanche((size + swapBytes(low) + high + multiplyFold(low, high)) & MASK);
  }
  if (bytes >= 4) {
    const word = BigInt(input.getUint32(bytes - 4, true)) + (BigInt(input.getUint32(0, true)) << 32n);
    const keyed = word ^ secret64(8) ^ secret64(16);
    let hash = ((keyed ^ rotateLeft(keyed, 49n) ^ rotateLeft(keyed, 24n)) * RRMXMX) & MASK;
    hash = ((hash ^ (((hash >> 35n) + size) & MASK)) * RRMXMX) & MASK;
    return hash ^ (hash >> 28n);
  }
  if (bytes === 0) return avalanche64(secret64(56) ^ secret64(64));
  const first = input.getUint8(0);
  const middle = input.getUint8(bytes >> 1);
  const last = input.getUint8(bytes - 1);
  const word = ((first << 16) | (middle << 24) | last | (bytes << 8)) >>> 0;
  return avalanche64(BigInt((word ^ secret.getUint32(0, true) ^ secret.getUint32(4, true)) >>> 0));
}

function mix16(input: DataView, at: number, key: number): bigint {
  return multiplyFold(
    input.getBigUint64(at, true) ^ secret64(key),
    input.getBigUint64(at + 8, true) ^ secret64(key + 8),
  );
}

function upTo240(input: DataView): bigint {
  const bytes = input.byteLength;
  let hash = BigInt(bytes) * PRIME64_1;
  if (bytes <= 128) {
    for (let i = 0; i <= (bytes - 1) >> 5; i++) {
      hash += mix16(input, i * 16, i * 32) + mix16(input, bytes - 16 - i * 16, i * 32 + 16);
    }
    return avalanche(hash & MASK);
  }
  for (let i = 0; i < 8; i++) hash += mix16(input, i * 16, i * 16);
  hash = avalanche(hash & MASK);
  for (let i = 8; i < bytes >> 4; i++) hash += mix16(input, i * 16, (i - 8) * 16 + 3);
  return avalanche((hash + mix16(input, bytes - 16, 136 - 17)) & MASK);
}

/** High 32 bits of a 32x32-bit product. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const cross = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (cross & 0xffff);
  return (aHigh * bHigh + (cross >>> 16) + (other >>> 16)) >>> 0;
}

/** Adds a 64-bit number, given in halves, to a lane (two words of `lanes` from `at`, low half first). */
function add(lanes: Uint32Array, at: number, halves: { low: number; high: number }): void {
  const low = lanes[at]! + (halves.low >>> 0);
  lanes[at] = low;
  lanes[at + 1] = lanes[at + 1]! + halves.high + (low > 0xffffffff ? 1 : 0);
}

/** One stripe of 64 bytes; `keys` are the 16 words of the secret under it. */
function accumulate(lanes: Uint32Array, input: DataView, options: { at: number; keys: Uint32Array }): void {
  const halves = { low: 0, high: 0 };
  for (let lane = 0; lane < 16; lane += 2) {
    const low = input.getUint32(options.at + lane * 4, true);
    const high = input.getUint32(options.at + lane * 4 + 4, true);
    halves.low = low;
    halves.high = high;
    add(lanes, lane ^ 2, halves);
    const keyedLow = (low ^ options.keys[lane]!) >>> 0;
    const keyedHigh = (high ^ options.keys[lane + 1]!) >>> 0;
    halves.low = Math.imul(keyedLow, keyedHigh);
    halves.high = multiplyHigh(keyedLow, keyedHigh);
    add(lanes, lane, halves);
  }
}

function scramble(lanes: Uint32Array): void {
  for (let lane = 0; lane < 16; lane += 2) {
    const low = lanes[lane]!;
    const high = lanes[lane + 1]!;
    const mixedLow = (low ^ (high >>> 15) ^ secretWords[32 + lane]!) >>> 0;
    const mixedHigh = (high ^ secretWords[33 + lane]!) >>> 0;
    lanes[lane] = Math.imul(mixedLow, PRIME32_1);
    lanes[lane + 1] = Math.imul(mixedHigh, PRIME32_1) + multiplyHigh(mixedLow, PRIME32_1);
  }
}

/** The 16 words of the secret from byte `at` on. */
function keysAt(at: number): Uint32Array {
  return Uint32Array.from({ length: 16 }, (_, i) => secret.getUint32(at + 4 * i, true));
}

function long(input: DataView): bigint {
  const bytes = input.byteLength;
  const lanes = new Uint32Array(16);
  START_LANES.forEach((start, i) => {
    lanes[2 * i] = Number(start & 0xffffffffn);
    lanes[2 * i + 1] = Number(start >> 32n);
  });
  const stripes = Math.floor((bytes - 1) / 64);
  const keys = Array.from({ length: 16 }, (_, i) => secretWords.subarray(2 * i, 2 * i + 16));
  for (let stripe = 0; stripe < stripes; stripe++) {
    accumulate(lanes, input, { at: stripe * 64, keys: keys[stripe & 15]! });
    if ((stripe & 15) === 15) scramble(lanes);
  }
  accumulate(lanes, input, { at: bytes - 64, keys: keysAt(192 - 64 - 7) });
  const lane = (i: number): bigint => BigInt(lanes[2 * i]!) | (BigInt(lanes[2 * i + 1]!) << 32n);
  let hash = BigInt(bytes) * PRIME64_1;
  for (let i = 0; i < 8; i += 2) {
    hash += multiplyFold(lane(i) ^ secret64(11 + 8 * i), lane(i + 1) ^ secret64(19 + 8 * i));
  }
  return avalanche(hash & MASK);
}

/** XXH3-64 of `bytes`. */
export function twinXxh3(bytes: Uint8Array): bigint {
  const input = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length <= 16) return upTo16(input);
  return bytes.length <= 240 ? upTo240(input) : long(input);
}
