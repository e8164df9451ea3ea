/**
 * Encryption of disk sectors: AES in the modes ecb, cbc, ctr and xts over the platform's block cipher, with the IV of
 * each 512-byte sector out of its number (plain, plain64, essiv). All sectors of a request go to the block cipher at
 * once: one call for the IVs and one for the data, and 32 for cbc encryption, whose blocks depend on each other.
 * Source: IEEE 1619 (xts), NIST SP 800-38A, the dm-crypt documentation (IV generators).
 *
 * Invariant: everything is synchronous, so the scratch memory of a cipher is used by one request at a time.
 */
import { assert } from "../base/assert.ts";
import { blockError } from "../base/errors.ts";
import type { HashName, HostBlockCipher, HostCrypto } from "../base/host.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import type { TypeOf } from "../wire/qapi/index.ts";

/** How blocks of a sector are chained. */
export type CipherMode = TypeOf<"QCryptoCipherMode">;

/** How a sector's IV follows from its number. */
export type IvGenerator = TypeOf<"QCryptoIVGenAlgorithm">;

/** A cipher for sectors. */
export interface SectorCipherSpec {
  readonly mode: CipherMode;
  readonly ivGenerator: IvGenerator;
  /** Of the key, for essiv. */
  readonly ivHash?: HashName | undefined;
  /** 16, 24 or 32 bytes; twice as many for xts. */
  readonly key: Uint8Array;
}

/** Encrypts and decrypts whole sectors. `output` is as long as `input`, and may be the same bytes. */
export interface SectorCipher {
  /** `sector` is the number of the first. */
  encrypt(sector: number, input: Uint8Array, output: Uint8Array): void;
  decrypt(sector: number, input: Uint8Array, output: Uint8Array): void;
}

const BLOCK = 16;
/** 32-bit words of a block and of a sector. */
const BLOCK_WORDS = 4;
const SECTOR_WORDS = SECTOR_SIZE / 4;
const SECTOR_BLOCKS = SECTOR_SIZE / BLOCK;
/** Sectors that are worked on at once: 64 KiB, which stay in the processor's cache. */
const BATCH = 128;

/** Words and the same memory as bytes. */
interface Scratch {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
}

function scratch(bytes: number): Scratch {
  const words = new Int32Array(bytes / 4);
  return { words, bytes: new Uint8Array(words.buffer) };
}

function xorInto(target: Int32Array, other: Int32Array, words: number): void {
  for (let at = 0; at < words; at++) target[at] = (target[at] as number) ^ (other[at] as number);
}

/** Fills IVs of 16 bytes, one a sector. */
type FillIvs = (ivs: Scratch, sector: number, count: number) => void;

function ivFiller(crypto: HostCrypto, { ivGenerator, ivHash, key }: SectorCipherSpec): FillIvs {
  const wide = ivGenerator !== "plain";
  const numbers: FillIvs = ({ words }, sector, count) => {
    words.fill(0, 0, count * BLOCK_WORDS);
    for (let at = 0; at < count; at++) {
      words[at * BLOCK_WORDS] = (sector + at) | 0;
      if (wide) words[at * BLOCK_WORDS + 1] = Math.floor((sector + at) / 2 ** 32) | 0;
    }
  };
  if (ivGenerator !== "essiv") return numbers;
  const salt = crypto.hash(ivHash ?? "sha256", key);
  if (![16, 24, 32].includes(salt.byteLength)) {
    const message = `No AES cipher with key size ${salt.byteLength} available`;
    throw blockError("EINVAL", "crypto", message);
  }
  const cipher = crypto.aes(salt);
  return (ivs, sector, count) => {
    numbers(ivs, sector, count);
    const bytes = ivs.bytes.subarray(0, count * BLOCK);
    cipher.encrypt(bytes, bytes);
  };
}

/** Works on at most BATCH sectors, in place in `data`; `ivs` are filled. */
interface Mode {
  encrypt(data: Scratch, ivs: Scratch, count: number): void;
  decrypt(data: Scratch, ivs: Scratch, count: number): void;
}

function ecbMode(cipher: HostBlockCipher): Mode {
  const run =
    (direction: "encrypt" | "decrypt") =>
    (data: Scratch, _ivs: Scratch, count: number): void => {
      const bytes = data.bytes.subarray(0, count * SECTOR_SIZE);
      cipher[direction](bytes, bytes);
    };
  return { encrypt: run("encrypt"), decrypt: run("decrypt") };
}

function cbcMode(cipher: HostBlockCipher): Mode {
  const column = scratch(BATCH * BLOCK);
  const before = scratch(BATCH * SECTOR_SIZE);
  return {
    /** Block by block, each for all sectors at once. */
    encrypt({ words }, ivs, count) {
      const chained = column.bytes.subarray(0, count * BLOCK);
      column.words.set(ivs.words.subarray(0, count * BLOCK_WORDS));
      for (let block = 0; block < SECTOR_BLOCKS; block++) {
        for (let sector = 0; sector < count; sector++) {
          const from = sector * SECTOR_WORDS + block * BLOCK_WORDS;
          for (let word = 0; word < BLOCK_WORDS; word++) {
            const at = sector * BLOCK_WORDS + word;
            column.words[at] = (column.words[at] as number) ^ (words[from + word] as number);
          }
        }
        cipher.encrypt(chained, chained);
        for (let sector = 0; sector < count; sector++) {
          const from = sector * SECTOR_WORDS + block * BLOCK_WORDS;
          for (let word = 0; word < BLOCK_WORDS; word++) {
            words[from + word] = column.words[sector * BLOCK_WORDS + word] as number;
          }
        }
      }
    },
    decrypt({ words, bytes }, ivs, count) {
      const all = bytes.subarray(0, count * SECTOR_SIZE);
      before.bytes.set(all);
      cipher.decrypt(all, all);
      for (let sector = 0; sector < count; sector++) {
        const from = sector * SECTOR_WORDS;
        for (let word = 0; word < BLOCK_WORDS; word++) {
          words[from + word] =
            (words[from + word] as number) ^ (ivs.words[sector * BLOCK_WORDS + word] as number);
        }
        for (let at = from + BLOCK_WORDS; at < from + SECTOR_WORDS; at++) {
          words[at] = (words[at] as number) ^ (before.words[at - BLOCK_WORDS] as number);
        }
      }
    },
  };
}

function ctrMode(cipher: HostBlockCipher): Mode {
  const stream = scratch(BATCH * SECTOR_SIZE);
  /** The IV is a big-endian counter of blocks. */
  const run = ({ words }: Scratch, ivs: Scratch, count: number): void => {
    for (let sector = 0; sector < count; sector++) {
      const counter = ivs.bytes.subarray(sector * BLOCK, (sector + 1) * BLOCK);
      for (let block = 0; block < SECTOR_BLOCKS; block++) {
        stream.bytes.set(counter, sector * SECTOR_SIZE + block * BLOCK);
        for (let at = BLOCK - 1; at >= 0; at--) {
          counter[at] = (counter[at] as number) + 1;
          if (counter[at] !== 0) break;
        }
      }
    }
    const bytes = stream.bytes.subarray(0, count * SECTOR_SIZE);
    cipher.encrypt(bytes, bytes);
    xorInto(words, stream.words, count * SECTOR_WORDS);
  };
  return { encrypt: run, decrypt: run };
}

/** Fills in the tweak of each block: the sector's, doubled in GF(2^128) from block to block. */
function fillTweaks(tweaks: Int32Array, ivs: Int32Array, count: number): void {
  let at = 0;
  for (let sector = 0; sector < count; sector++) {
    let a = ivs[sector * BLOCK_WORDS] as number;
    let b = ivs[sector * BLOCK_WORDS + 1] as number;
    let c = ivs[sector * BLOCK_WORDS + 2] as number;
    let d = ivs[sector * BLOCK_WORDS + 3] as number;
    for (let block = 0; block < SECTOR_BLOCKS; block++) {
      tweaks[at] = a;
      tweaks[at + 1] = b;
      tweaks[at + 2] = c;
      tweaks[at + 3] = d;
      at += BLOCK_WORDS;
      const carry = (d >> 31) & 0x87;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ carry;
    }
  }
}

function xtsMode(cipher: HostBlockCipher, tweakCipher: HostBlockCipher): Mode {
  const tweaks = scratch(BATCH * SECTOR_SIZE);
  const run =
    (direction: "encrypt" | "decrypt") =>
    (data: Scratch, ivs: Scratch, count: number): void => {
      const numbers = ivs.bytes.subarray(0, count * BLOCK);
      tweakCipher.encrypt(numbers, numbers);
      fillTweaks(tweaks.words, ivs.words, count);
      const bytes = data.bytes.subarray(0, count * SECTOR_SIZE);
      xorInto(data.words, tweaks.words, count * SECTOR_WORDS);
      cipher[direction](bytes, bytes);
      xorInto(data.words, tweaks.words, count * SECTOR_WORDS);
    };
  return { encrypt: run("encrypt"), decrypt: run("decrypt") };
}

function makeMode(crypto: HostCrypto, { mode, key }: SectorCipherSpec): Mode {
  if (mode === "xts") {
    const half = key.byteLength / 2;
    return xtsMode(crypto.aes(key.subarray(0, half)), crypto.aes(key.subarray(half)));
  }
  const cipher = crypto.aes(key);
  if (mode === "cbc") return cbcMode(cipher);
  return mode === "ctr" ? ctrMode(cipher) : ecbMode(cipher);
}

/** A cipher for sectors. Errors: EINVAL for an essiv hash whose size is no key size, ENOTSUP for a hash that is missing. */
export function sectorCipher(crypto: HostCrypto, spec: SectorCipherSpec): SectorCipher {
  const fillIvs = ivFiller(crypto, spec);
  const mode = makeMode(crypto, spec);
  const data = scratch(BATCH * SECTOR_SIZE);
  const ivs = scratch(BATCH * BLOCK);
  const run =
    (direction: "encrypt" | "decrypt") =>
    (sector: number, input: Uint8Array, output: Uint8Array): void => {
      assert(input.byteLength % SECTOR_SIZE === 0, "whole sectors are encrypted");
      for (let at = 0; at < input.byteLength; at += BATCH * SECTOR_SIZE) {
        const part = input.subarray(at, at + BATCH * SECTOR_SIZE);
        const count = part.byteLength / SECTOR_SIZE;
        data.bytes.set(part);
        fillIvs(ivs, sector + at / SECTOR_SIZE, count);
        mode[direction](data, ivs, count);
        output.set(data.bytes.subarray(0, part.byteLength), at);
      }
    };
  return { encrypt: run("encrypt"), decrypt: run("decrypt") };
}
