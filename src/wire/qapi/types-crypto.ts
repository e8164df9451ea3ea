/**
 * Encryption of block devices: options of LUKS1 volumes and of qcow2's encryption.
 * Source: QAPI crypto and block-core schemas, QEMU 7.2.
 */
import { enumOf, extend, struct, union } from "./schema.ts";

/** The types of encrypted images. */
export const cryptoTypes = {
  QCryptoBlockFormat: () => enumOf("qcow", "luks"),
  QCryptoHashAlgorithm: () => enumOf("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"),
  QCryptoCipherAlgorithm: () =>
    enumOf(
      "aes-128",
      "aes-192",
      "aes-256",
      "des",
      "3des",
      "cast5-128",
      "serpent-128",
      "serpent-192",
      "serpent-256",
      "twofish-128",
      "twofish-192",
      "twofish-256",
    ),
  QCryptoCipherMode: () => enumOf("ecb", "cbc", "xts", "ctr"),
  QCryptoIVGenAlgorithm: () => enumOf("plain", "plain64", "essiv"),

  QCryptoBlockOptionsQCow: () => struct({ "*key-secret": "str" }),
  QCryptoBlockOptionsLUKS: () => struct({ "*key-secret": "str" }),
  BlockdevQcow2EncryptionFormat: () => enumOf("aes", "luks"),
  BlockdevQcow2Encryption: () =>
    union({
      base: { format: "BlockdevQcow2EncryptionFormat" },
      tag: "format",
      branches: { aes: "QCryptoBlockOptionsQCow", luks: "QCryptoBlockOptionsLUKS" },
    }),

  QCryptoBlockCreateOptionsLUKS: () =>
    extend("QCryptoBlockOptionsLUKS", {
      "*cipher-alg": "QCryptoCipherAlgorithm",
      "*cipher-mode": "QCryptoCipherMode",
      "*ivgen-alg": "QCryptoIVGenAlgorithm",
      "*ivgen-hash-alg": "QCryptoHashAlgorithm",
      "*hash-alg": "QCryptoHashAlgorithm",
      "*iter-time": "int",
    }),
  QCryptoBlockCreateOptions: () =>
    union({
      base: { format: "QCryptoBlockFormat" },
      tag: "format",
      branches: { luks: "QCryptoBlockCreateOptionsLUKS", qcow: "QCryptoBlockOptionsQCow" },
    }),

  QCryptoBlockLUKSKeyslotState: () => enumOf("active", "inactive"),
  QCryptoBlockAmendOptionsLUKS: () =>
    struct({
      state: "QCryptoBlockLUKSKeyslotState",
      "*new-secret": "str",
      "*old-secret": "str",
      "*keyslot": "int",
      "*iter-time": "int",
      "*secret": "str",
    }),
  QCryptoBlockAmendOptions: () =>
    union({
      base: { format: "QCryptoBlockFormat" },
      tag: "format",
      branches: { luks: "QCryptoBlockAmendOptionsLUKS", qcow: null },
    }),
} as const;
