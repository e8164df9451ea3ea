/**
 * A LUKS1 volume as the format drivers use it: its header is opened or made in storage that the driver gives, and its
 * payload's sectors go through `cipher`. Nothing here knows where the payload lies.
 * Source: LUKS1 on-disk format specification 1.2.3; behaviour and words of QEMU 7.2.
 */
import { blockError } from "../base/errors.ts";
import type { Host, HostCrypto } from "../base/host.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import { Mutex } from "../base/signals.ts";
import { amendSlots, type SlotChange } from "./luks-amend.ts";
import {
  DIGEST_BYTES,
  HEADER_BYTES,
  HEADER_SECTORS,
  type KeySlot,
  type LuksHeader,
  parseLuksHeader,
  SALT_BYTES,
  SLOTS,
  slotSectors,
  STRIPES,
} from "./luks-header.ts";
import {
  cipherWith,
  findMasterKey,
  type HeaderStorage,
  type LuksContext,
  setMasterKey,
  storeKey,
} from "./luks-keys.ts";
import {
  cipherModeText,
  cipherOfHeader,
  type LuksCipher,
  type LuksCreateOptions,
  optionFault,
  payloadOffset,
} from "./luks-options.ts";
import type { Secrets } from "./secrets.ts";
import type { SectorCipher } from "./sector-cipher.ts";

/** The platform's cryptography. Throws ENOTSUP where it has none. */
export async function cryptoOf(host: Host): Promise<HostCrypto> {
  if (host.crypto) return host.crypto();
  throw blockError("ENOTSUP", "open", "this platform has no cryptography for encrypted images");
}

/** The passphrase or key that an option names; `prefix` is what stands before key-secret in QEMU's error. */
export function requiredSecret(secrets: Secrets, id: string | undefined, prefix = ""): Uint8Array {
  if (id === undefined) throw optionFault(`Parameter '${prefix}key-secret' is required for cipher`);
  return secrets.lookupText(id);
}

/** An opened volume. */
export class LuksVolume {
  readonly #context: LuksContext;
  readonly #isDetached: boolean;
  readonly #amending = new Mutex();
  /** For the payload; absent until the volume is unlocked. */
  #cipher: SectorCipher | undefined;
  /** The secret that opened it. */
  #keySecret = "";

  private constructor(context: LuksContext, isDetached: boolean) {
    this.#context = context;
    this.#isDetached = isDetached;
  }

  /**
   * Reads the header; detached: the payload lies elsewhere. Throws ImageError for a bad one, ENOTSUP for a cipher or a platform
   * that lacks what it needs.
   */
  static async open(host: Host, storage: HeaderStorage, isDetached = false): Promise<LuksVolume> {
    const crypto = await cryptoOf(host);
    const bytes = new Uint8Array(HEADER_BYTES);
    await storage.read(0, bytes);
    const header = parseLuksHeader(bytes, isDetached);
    const cipher = cipherOfHeader(header);
    return new LuksVolume({ crypto, clock: host.clock, storage, header, cipher }, isDetached);
  }

  /** Makes a header with a new master key in slot 0 under a passphrase; detached: of a payload elsewhere, from its first byte on. The volume is unlocked. */
  static async create(
    host: Host,
    storage: HeaderStorage,
    options: LuksCreateOptions & { readonly passphrase: Uint8Array; readonly isDetached?: boolean },
  ): Promise<LuksVolume> {
    const crypto = await cryptoOf(host);
    const context = {
      crypto,
      clock: host.clock,
      storage,
      header: newHeader(crypto, options, options.isDetached ?? false),
      cipher: options,
    };
    const key = crypto.randomBytes(options.keyBytes);
    // Refused combinations are refused before anything is written.
    const payload = cipherWith(crypto, options, key);
    const { passphrase, iterTimeMs, isDetached = false } = options;
    await setMasterKey(context, key, iterTimeMs);
    await storeKey(context, 0, { key, passphrase, iterTimeMs });
    key.fill(0);
    const volume = new LuksVolume(context, isDetached);
    volume.#cipher = payload;
    volume.#keySecret = options.keySecret ?? "";
    return volume;
  }

  /** Finds the master key by the secret of that id. Throws EPERM for a wrong passphrase. */
  async unlock(secrets: Secrets, keySecret: string | undefined, prefix?: string): Promise<void> {
    const passphrase = requiredSecret(secrets, keySecret, prefix);
    const key = await findMasterKey(this.#context, passphrase);
    if (!key) throw blockError("EPERM", "open", "Invalid password, cannot unlock any keyslot");
    this.#cipher = cipherWith(this.#context.crypto, this.#context.cipher, key);
    this.#keySecret = keySecret ?? "";
    key.fill(0);
  }

  /** For the payload's sectors, counted as the driver likes. Throws EPERM before the volume is unlocked. */
  get cipher(): SectorCipher {
    if (!this.#cipher) throw blockError("EPERM", "read", "the volume is not unlocked");
    return this.#cipher;
  }

  /** Where the payload begins in what holds it, bytes. */
  get payloadOffset(): number {
    return this.#context.header.payloadSector * SECTOR_SIZE;
  }

  /** Adds or erases key slots; one change at a time. */
  async amend(change: Omit<SlotChange, "keySecret">): Promise<void> {
    const unlock = await this.#amending.lock();
    try {
      await amendSlots(this.#context, { ...change, keySecret: this.#keySecret });
    } finally {
      unlock();
    }
  }

  /** QAPI's QCryptoBlockInfoLUKS, in the order in which QEMU prints it; `detached-header` only where it is one. */
  info(): Record<string, unknown> {
    const { header, cipher } = this.#context;
    return {
      "ivgen-alg": cipher.ivGenerator,
      "hash-alg": cipher.hash,
      "cipher-alg": cipher.algorithm,
      uuid: header.uuid,
      ...(cipher.ivHash === undefined ? {} : { "ivgen-hash-alg": cipher.ivHash }),
      "cipher-mode": cipher.mode,
      ...(this.#isDetached ? { "detached-header": true } : {}),
      slots: header.slots.map(slotInfo),
      "payload-offset": this.payloadOffset,
      "master-key-iters": header.digestIterations,
    };
  }
}

function slotInfo({ active, iterations, keySector }: KeySlot): Record<string, unknown> {
  const offset = { "key-offset": keySector * SECTOR_SIZE };
  return active ? { active, iters: iterations, ...offset, stripes: STRIPES } : { active, ...offset };
}

function uuid(crypto: HostCrypto): string {
  const bytes = crypto.randomBytes(16);
  // Version 4, of the usual variant.
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function newHeader(crypto: HostCrypto, cipher: LuksCipher, isDetached: boolean): LuksHeader {
  const distance = slotSectors(cipher.keyBytes);
  return {
    cipherName: "aes",
    cipherMode: cipherModeText(cipher),
    hash: cipher.hash,
    payloadSector: isDetached ? 0 : payloadOffset(cipher.keyBytes) / SECTOR_SIZE,
    keyBytes: cipher.keyBytes,
    digest: new Uint8Array(DIGEST_BYTES),
    digestSalt: new Uint8Array(SALT_BYTES),
    digestIterations: 0,
    uuid: uuid(crypto),
    slots: Array.from({ length: SLOTS }, (_, index) => ({
      active: false,
      iterations: 0,
      salt: new Uint8Array(SALT_BYTES),
      keySector: HEADER_SECTORS + index * distance,
    })),
  };
}
