/**
 * The keys of a LUKS1 volume: finding the master key by a passphrase, and storing or erasing it in a slot.
 * Source: LUKS1 on-disk format specification 1.2.3, sections 3 and 5.
 *
 * A slot is written before the header names it, and the header lets go of it before it is erased, with a flush between.
 */
import { strerror } from "../base/errno.ts";
import { blockError } from "../base/errors.ts";
import type { Clock, HostCrypto } from "../base/host.ts";
import { limits, SECTOR_SIZE } from "../base/limits.ts";
import { merge, split } from "./anti-forensic.ts";
import {
  DIGEST_BYTES,
  iterationsOfAllSlots,
  type KeySlot,
  type LuksHeader,
  materialSectors,
  SALT_BYTES,
  serializeLuksHeader,
  STRIPES,
} from "./luks-header.ts";
import type { LuksCipher } from "./luks-options.ts";
import { type SectorCipher, sectorCipher } from "./sector-cipher.ts";

/** Where a volume's header lies; offsets in bytes from the header's start. */
export interface HeaderStorage {
  read(offset: number, buffer: Uint8Array): Promise<void>;
  write(offset: number, data: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

/** A header with what is needed to work on it. */
export interface LuksContext {
  readonly crypto: HostCrypto;
  readonly clock: Clock;
  readonly storage: HeaderStorage;
  readonly header: LuksHeader;
  readonly cipher: LuksCipher;
}

/** The least iterations of a slot and of the master key's digest. */
const MIN_ITERATIONS = 1000;
/** The measurement of PBKDF2 ends when one run takes that long, ms, or that many iterations. */
const MEASURE_MS = 40;
const MEASURE_MOST = 2 ** 22;
/** How often erased key material is overwritten. */
const ERASE_PASSES = 4;
const MAX_U32 = 2 ** 32 - 1;

/** The cipher for a volume's payload, or (with a slot's key) for its key material. */
export function cipherWith(
  crypto: HostCrypto,
  { mode, ivGenerator, ivHash }: LuksCipher,
  key: Uint8Array,
): SectorCipher {
  return sectorCipher(crypto, { mode, ivGenerator, ivHash, key });
}

function digestOf({ crypto, header, cipher }: LuksContext, key: Uint8Array): Promise<Uint8Array> {
  const { digestSalt: salt, digestIterations: iterations } = header;
  return crypto.pbkdf2({ hash: cipher.hash, secret: key, salt, iterations, bytes: DIGEST_BYTES });
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.byteLength ^ b.byteLength;
  for (let at = 0; at < a.byteLength; at++) difference |= (a[at] as number) ^ (b[at] as number);
  return difference === 0;
}

function slotKey(
  { crypto, cipher }: LuksContext,
  slot: KeySlot,
  passphrase: Uint8Array,
): Promise<Uint8Array> {
  const { salt, iterations } = slot;
  return crypto.pbkdf2({ hash: cipher.hash, secret: passphrase, salt, iterations, bytes: cipher.keyBytes });
}

/** The master key out of one active slot; undefined if the passphrase is another's. */
export async function openSlot(
  context: LuksContext,
  slot: KeySlot,
  passphrase: Uint8Array,
): Promise<Uint8Array | undefined> {
  const { crypto, cipher, storage } = context;
  const key = await slotKey(context, slot, passphrase);
  const material = new Uint8Array(materialSectors(cipher.keyBytes) * SECTOR_SIZE);
  await storage.read(slot.keySector * SECTOR_SIZE, material);
  cipherWith(crypto, cipher, key).decrypt(0, material, material);
  const { hash, keyBytes } = cipher;
  const candidate = merge(crypto, material, { hash, stripes: STRIPES, keyBytes });
  material.fill(0);
  return isEqual(await digestOf(context, candidate), context.header.digest) ? candidate : undefined;
}

/** The master key by whichever slot the passphrase opens; undefined if none. */
export async function findMasterKey(
  context: LuksContext,
  passphrase: Uint8Array,
): Promise<Uint8Array | undefined> {
  for (const slot of context.header.slots) {
    const key = slot.active ? await openSlot(context, slot, passphrase) : undefined;
    if (key) return key;
  }
  return undefined;
}

/** Iterations of PBKDF2 that this machine does in a second. */
async function iterationsPerSecond(context: LuksContext, bytes: number): Promise<number> {
  const { crypto, clock, cipher } = context;
  const secret = new Uint8Array(SALT_BYTES);
  for (let iterations = 2 ** 14; ; iterations *= 2) {
    const started = clock.nowMs();
    await crypto.pbkdf2({ hash: cipher.hash, secret, salt: secret, iterations, bytes });
    const took = clock.nowMs() - started;
    if (took >= MEASURE_MS || iterations >= MEASURE_MOST) return (iterations * 1000) / Math.max(took, 1);
  }
}

function iterationsFor(perSecond: number, timeMs: number): number {
  const iterations = Math.max(MIN_ITERATIONS, Math.floor((perSecond * timeMs) / 1000));
  if (iterations > MAX_U32) {
    const message = `PBKDF iterations ${iterations} larger than ${MAX_U32}: ${strerror("ERANGE")}`;
    throw blockError("ERANGE", "crypto", message);
  }
  return iterations;
}

/** Refuses what we would not open again, before anything is derived or written. */
function checkSum(sum: number): void {
  if (sum <= limits.luksMaxIterations) return;
  const message = `The key slots in use would take ${sum} iterations together, more than ${limits.luksMaxIterations} (limits.luksMaxIterations): choose a smaller iter-time`;
  throw blockError("ERANGE", "crypto", message);
}

/** Puts a new salt and the digest of a new master key into the header in memory. */
export async function setMasterKey(context: LuksContext, key: Uint8Array, iterTimeMs: number): Promise<void> {
  const { header, crypto } = context;
  const perSecond = await iterationsPerSecond(context, DIGEST_BYTES);
  // An eighth of the time for the digest, half for the slot: what else is done takes time too.
  header.digestIterations = iterationsFor(perSecond / 8, iterTimeMs);
  checkSum(header.digestIterations);
  header.digestSalt = crypto.randomBytes(SALT_BYTES);
  header.digest = await digestOf(context, key);
}

/** Writes the header. */
export async function writeHeader({ storage, header }: LuksContext): Promise<void> {
  await storage.write(0, serializeLuksHeader(header));
  await storage.flush();
}

/** What goes into a slot. */
export interface NewKey {
  readonly key: Uint8Array;
  readonly passphrase: Uint8Array;
  readonly iterTimeMs: number;
}

/** Stores the master key under a passphrase in slot `index`, whatever is in it. */
export async function storeKey(
  context: LuksContext,
  index: number,
  { key, passphrase, iterTimeMs }: NewKey,
): Promise<void> {
  const { crypto, cipher, storage, header } = context;
  const slot = header.slots[index] as KeySlot;
  const perSecond = await iterationsPerSecond(context, cipher.keyBytes);
  const next: KeySlot = {
    active: true,
    iterations: iterationsFor(perSecond / 2, iterTimeMs),
    salt: crypto.randomBytes(SALT_BYTES),
    keySector: slot.keySector,
  };
  checkSum(iterationsOfAllSlots({ ...header, slots: header.slots.with(index, next) }));
  const { hash } = cipher;
  const stripes = split(crypto, key, { hash, stripes: STRIPES });
  const material = crypto.randomBytes(materialSectors(cipher.keyBytes) * SECTOR_SIZE);
  material.set(stripes);
  cipherWith(crypto, cipher, await slotKey(context, next, passphrase)).encrypt(0, material, material);
  await storage.write(slot.keySector * SECTOR_SIZE, material);
  await storage.flush();
  Object.assign(slot, next);
  await writeHeader(context);
}

/** Forgets what a slot holds: the header first, then the key material itself is overwritten. */
export async function eraseSlot(context: LuksContext, index: number): Promise<void> {
  const { crypto, cipher, storage, header } = context;
  const slot = header.slots[index] as KeySlot;
  Object.assign(slot, { active: false, iterations: 0, salt: new Uint8Array(SALT_BYTES) });
  await writeHeader(context);
  const bytes = materialSectors(cipher.keyBytes) * SECTOR_SIZE;
  for (let pass = 0; pass < ERASE_PASSES; pass++) {
    await storage.write(slot.keySector * SECTOR_SIZE, crypto.randomBytes(bytes));
    await storage.flush();
  }
}
