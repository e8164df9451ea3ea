/**
 * Ciphers of LUKS1 as options and as headers name them, and the options of a new volume.
 * Source: QAPI QCryptoBlockCreateOptionsLUKS; words of QEMU 7.2.
 */
import { blockError } from "../base/errors.ts";
import type { HashName } from "../base/host.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import { HEADER_SECTORS, type LuksHeader, SLOTS, slotSectors } from "./luks-header.ts";
import type { CipherMode, IvGenerator } from "./sector-cipher.ts";
import { valuesOf } from "../wire/qapi/option-types.ts";

/** A cipher with its mode, its IVs, and the hash that keys are derived with. */
export interface LuksCipher {
  /** As options name it: aes-256. */
  readonly algorithm: string;
  /** Bytes of the master key: of two keys for xts. */
  readonly keyBytes: number;
  readonly mode: CipherMode;
  readonly ivGenerator: IvGenerator;
  readonly ivHash: HashName | undefined;
  readonly hash: HashName;
}

/** What a new volume is made with. */
export interface LuksCreateOptions extends LuksCipher {
  /** Id of the passphrase's secret. */
  readonly keySecret: string | undefined;
  /** How long the derivation of a slot's key shall take here, ms. */
  readonly iterTimeMs: number;
}

/** The default of iter-time, ms. */
const DEFAULT_ITER_TIME_MS = 2000;

const CIPHERS = valuesOf("QCryptoCipherAlgorithm");
type Cipher = (typeof CIPHERS)[number];
/** The ciphers that this library has, of those that QEMU knows, with the bytes of one key. */
const KEY_BYTES: Readonly<Partial<Record<Cipher, number>>> = { "aes-128": 16, "aes-192": 24, "aes-256": 32 };

const MODES = valuesOf("QCryptoCipherMode");
const GENERATORS = valuesOf("QCryptoIVGenAlgorithm");
const HASHES: readonly HashName[] = valuesOf("QCryptoHashAlgorithm");

/** That of `known` which `word` is. */
function among<T extends string>(known: readonly T[], word: string): T | undefined {
  return known.find((one) => one === word);
}

/** An error of an option. */
export function optionFault(message: string): Error {
  return blockError("EINVAL", "crypto", message);
}

function choice<T extends string>(
  options: Readonly<Record<string, unknown>>,
  name: string,
  allowed: readonly T[],
): T | undefined {
  const value = options[name];
  if (value === undefined) return undefined;
  if (typeof value !== "string") throw optionFault(`Invalid parameter type for '${name}', expected: string`);
  const chosen = among(allowed, value);
  if (chosen !== undefined) return chosen;
  throw optionFault(`Parameter '${name}' does not accept value '${value}'`);
}

/** An integer option >= 0; `what` stands for it in the error. */
export function countOption(options: Readonly<Record<string, unknown>>, name: string): number | undefined {
  const value = options[name];
  if (value === undefined) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw optionFault(`Parameter '${name}' expects an integer`);
}

/** A string option. */
export function textOption(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name];
  if (value === undefined || typeof value === "string") return value;
  throw optionFault(`Invalid parameter type for '${name}', expected: string`);
}

/** iter-time, ms. As in QEMU 0 asks for the fewest rounds, and a negative number is a very large one. */
export function iterTimeOption(options: Readonly<Record<string, unknown>>): number {
  const value = countOption(options, "iter-time") ?? DEFAULT_ITER_TIME_MS;
  return value < 0 ? Number.MAX_SAFE_INTEGER : value;
}

/** Reads and completes the options of a new volume (wire names). Throws EINVAL; ENOTSUP for a cipher that is missing. */
export function parseLuksCreateOptions(options: Readonly<Record<string, unknown>>): LuksCreateOptions {
  const algorithm = choice(options, "cipher-alg", CIPHERS) ?? "aes-256";
  const mode = choice(options, "cipher-mode", MODES) ?? "xts";
  const ivGenerator = choice(options, "ivgen-alg", GENERATORS) ?? "plain64";
  const ivHash = choice(options, "ivgen-hash-alg", HASHES);
  const single = KEY_BYTES[algorithm];
  if (single === undefined) throw blockError("ENOTSUP", "crypto", `Algorithm '${algorithm}' not supported`);
  return {
    algorithm,
    mode,
    keyBytes: mode === "xts" ? 2 * single : single,
    ivGenerator,
    ivHash: ivGenerator === "essiv" ? (ivHash ?? "sha256") : undefined,
    hash: choice(options, "hash-alg", HASHES) ?? "sha256",
    keySecret: textOption(options, "key-secret"),
    iterTimeMs: iterTimeOption(options),
  };
}

/** How a header names a cipher's mode and IVs. */
export function cipherModeText({ mode, ivGenerator, ivHash }: LuksCipher): string {
  return `${mode}-${ivGenerator}${ivHash === undefined ? "" : `:${ivHash}`}`;
}

function headerFault(message: string): Error {
  return blockError("ENOTSUP", "open", message);
}

function hashOf(name: string): HashName {
  const hash = among(HASHES, name);
  if (hash !== undefined) return hash;
  throw headerFault(`Hash algorithm '${name}' not supported`);
}

/** The cipher that a header names. Throws ENOTSUP for what is not supported. */
export function cipherOfHeader({ cipherName, cipherMode, hash, keyBytes }: LuksHeader): LuksCipher {
  const dash = cipherMode.indexOf("-");
  if (dash < 0) throw headerFault(`Unexpected cipher mode string format '${cipherMode}'`);
  const modeName = cipherMode.slice(0, dash);
  const mode = among(MODES, modeName);
  const [generatorName = "", generatorHash] = cipherMode.slice(dash + 1).split(":");
  const kdfHash = hashOf(hash);
  if (mode === undefined) throw headerFault(`Cipher mode '${modeName}' not supported`);
  const single = mode === "xts" ? Math.floor(keyBytes / 2) : keyBytes;
  const known = Object.entries(KEY_BYTES).find(([, bytes]) => bytes === single);
  if (cipherName !== "aes" || !known || (mode === "xts" && keyBytes !== 2 * single)) {
    throw headerFault(`Algorithm '${cipherName}' with key size ${single} bytes not supported`);
  }
  const ivHash = generatorHash === undefined ? undefined : hashOf(generatorHash);
  const generator = among(GENERATORS, generatorName);
  if (generator === undefined) throw headerFault(`IV generator '${generatorName}' not supported`);
  if (generator === "essiv" && ivHash === undefined) {
    throw headerFault("Missing IV generator hash specification");
  }
  return {
    algorithm: known[0],
    keyBytes,
    mode,
    ivGenerator: generator,
    ivHash: generator === "essiv" ? ivHash : undefined,
    hash: kdfHash,
  };
}

/** Bytes in front of the payload of a new volume with keys of that many bytes. */
export function payloadOffset(keyBytes: number): number {
  return (HEADER_SECTORS + SLOTS * slotSectors(keyBytes)) * SECTOR_SIZE;
}
