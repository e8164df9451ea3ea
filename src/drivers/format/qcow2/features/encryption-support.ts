/**
 * Opening and making encrypted images: LUKS, whose header lies in clusters that a header extension names, and the old
 * AES, which has no header. A file of its own, so that bundles may leave the cryptography out.
 * Source: qcow2.txt, "Full disk encryption header pointer"; behaviour and words of QEMU 7.2.
 */
import { type BlockError, ImageError } from "../../../../base/errors.ts";
import type { AmendContext } from "../../../../block/model/contract.ts";
import { headerStorage } from "../../../../block/model/header-storage.ts";
import type { Edge } from "../../../../block/model/contract.ts";
import { legacyAes } from "../../../../crypto/legacy-aes.ts";
import type { HeaderStorage } from "../../../../crypto/luks-keys.ts";
import {
  optionFault,
  parseLuksCreateOptions,
  payloadOffset,
  textOption,
} from "../../../../crypto/luks-options.ts";
import { LuksVolume, requiredSecret } from "../../../../crypto/luks.ts";
import type { Secrets } from "../../../../crypto/secrets.ts";
import type { SectorCipher } from "../../../../crypto/sector-cipher.ts";
import { allocate } from "../metadata/allocate.ts";
import { writeHeader } from "../metadata/header-update.ts";
import { blockError } from "../../../../base/errors.ts";
import { EncryptedData } from "../data/encryption-data.ts";
import type { EncryptionSupport, EncryptOptions } from "../data/encryption.ts";
import { CryptMethod, Extension, type HeaderExtension } from "../disk/header-extensions.ts";
import { type CryptoHeaderPlace, parseCryptoHeader, serializeCryptoHeader } from "../disk/crypto-header.ts";
import type { Image, ImageEncryption } from "../metadata/image.ts";
import { writeBackLocked } from "../metadata/write-back.ts";

/** What stands before key-secret in errors. */
const PREFIX = "encrypt.";

class LuksEncryption extends EncryptedData {
  readonly format = "luks";
  readonly #volume: LuksVolume;
  readonly #secrets: Secrets;

  constructor(volume: LuksVolume, secrets: Secrets) {
    super();
    this.#volume = volume;
    this.#secrets = secrets;
  }

  get cipher(): SectorCipher {
    return this.#volume.cipher;
  }

  /** The members in the order in which QEMU prints them. */
  info(): Record<string, unknown> {
    const { "cipher-mode": mode, slots, ...info } = this.#volume.info();
    const { "payload-offset": offset, "master-key-iters": iterations, ...first } = info;
    const last = { slots, "payload-offset": offset, "master-key-iters": iterations };
    return { ...first, format: this.format, "cipher-mode": mode, ...last };
  }

  amend(options: EncryptOptions, { force = false }: AmendContext): Promise<void> {
    return this.#volume.amend({ options, force, secrets: this.#secrets });
  }
}

class AesEncryption extends EncryptedData {
  readonly format = "aes";
  readonly #cipher: SectorCipher | undefined;

  constructor(cipher: SectorCipher | undefined) {
    super();
    this.#cipher = cipher;
  }

  get cipher(): SectorCipher {
    if (!this.#cipher) throw blockError("EPERM", "read", "the image is not unlocked");
    return this.#cipher;
  }

  info(): Record<string, unknown> {
    return { format: this.format };
  }
}

/** The LUKS header, which no read or write leaves. */
function storageOf(file: Edge, { offset, bytes }: CryptoHeaderPlace): HeaderStorage {
  const whole = headerStorage(file, offset);
  const check = (at: number, length: number): void => {
    if (at + length <= bytes) return;
    const message = "Request for data outside of extension header";
    throw new ImageError({ structure: "encryption header", field: "length", message });
  };
  return {
    read(at, buffer) {
      check(at, buffer.byteLength);
      return whole.read(at, buffer);
    },
    write(at, data) {
      check(at, data.byteLength);
      return whole.write(at, data);
    },
    flush: () => whole.flush(),
  };
}

async function createLuks(image: Image, options: EncryptOptions, secrets: Secrets): Promise<ImageEncryption> {
  const parsed = parseLuksCreateOptions(options);
  const passphrase = requiredSecret(secrets, parsed.keySecret, PREFIX);
  const { clusterSize } = image.geometry;
  const bytes = payloadOffset(parsed.keyBytes);
  const count = Math.ceil(bytes / clusterSize);
  const offset = await image.locked(async () => {
    const { cluster } = await allocate(image, count);
    await image.file.pwriteZeroes(cluster * clusterSize, count * clusterSize);
    return cluster * clusterSize;
  });
  const storage = storageOf(image.file, { offset, bytes });
  const volume = await LuksVolume.create(image.host, storage, { ...parsed, passphrase });
  const data = serializeCryptoHeader({ offset, bytes });
  await announce(image, CryptMethod.luks, { type: Extension.encryption, data });
  return new LuksEncryption(volume, secrets);
}

async function createAes(image: Image, options: EncryptOptions, secrets: Secrets): Promise<ImageEncryption> {
  const passphrase = requiredSecret(secrets, textOption(options, "key-secret"), PREFIX);
  const cipher = await legacyAes(image.host, passphrase);
  await announce(image, CryptMethod.aes);
  return new AesEncryption(cipher);
}

/** Writes the header with the method and its extension, after everything that it names. */
async function announce(image: Image, method: number, extension?: HeaderExtension): Promise<void> {
  await image.locked(async () => {
    await writeBackLocked(image);
    await image.file.flush();
    const { header } = image;
    header.cryptMethod = method;
    const features = header.extensions.findIndex(({ type }) => type === Extension.featureNames);
    if (extension) header.extensions.splice(features < 0 ? header.extensions.length : features, 0, extension);
    await writeHeader(image);
    await image.file.flush();
  });
}

/** Guests are not given disks of the old AES. */
function tooWeak(): BlockError {
  const message = "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators";
  return blockError("ENOTSUP", "open", message);
}

const AES_OPTIONS = ["format", "key-secret"];

/** Encrypted images: what the whole driver has, and a small one leaves out. */
export const encryptionSupport: EncryptionSupport = {
  async open(image, { graph, metadataOnly, host }, keySecret) {
    const { secrets } = graph;
    const { header } = image;
    const extension = header.extensions.find(({ type }) => type === Extension.encryption);
    if (!extension) {
      if (graph.isForGuests) throw tooWeak();
      const passphrase = metadataOnly ? undefined : requiredSecret(secrets, keySecret, PREFIX);
      return new AesEncryption(passphrase && (await legacyAes(host, passphrase)));
    }
    const place = parseCryptoHeader(extension.data, image.geometry.clusterSize);
    const volume = await LuksVolume.open(host, storageOf(image.file, place));
    if (!metadataOnly) await volume.unlock(secrets, keySecret, PREFIX);
    return new LuksEncryption(volume, secrets);
  },
  check(options, { graph }) {
    const { format } = options;
    if (format === "luks") {
      requiredSecret(graph.secrets, parseLuksCreateOptions(options).keySecret, PREFIX);
      return;
    }
    if (format !== "qcow") throw optionFault(`Parameter 'format' does not accept value '${String(format)}'`);
    const extra = Object.keys(options).find((name) => !AES_OPTIONS.includes(name));
    if (extra !== undefined) throw optionFault(`Parameter '${PREFIX}${extra}' is unexpected`);
    requiredSecret(graph.secrets, textOption(options, "key-secret"), PREFIX);
  },
  create(image, options) {
    const { secrets } = image.node.services;
    return options["format"] === "luks"
      ? createLuks(image, options, secrets)
      : createAes(image, options, secrets);
  },
};
