/**
 * What queries say of encrypted images.
 * Source: QAPI crypto and block-core schemas, QEMU 7.2.
 */
import { struct, union } from "./schema.ts";

/** The types of answers about encrypted images. */
export const cryptoInfoTypes = {
  QCryptoBlockInfoLUKSSlot: struct({
    active: "bool",
    "*iters": "int",
    "*stripes": "int",
    "key-offset": "int",
  }),
  QCryptoBlockInfoLUKS: struct({
    "cipher-alg": "QCryptoCipherAlgorithm",
    "cipher-mode": "QCryptoCipherMode",
    "ivgen-alg": "QCryptoIVGenAlgorithm",
    "*ivgen-hash-alg": "QCryptoHashAlgorithm",
    "hash-alg": "QCryptoHashAlgorithm",
    "*detached-header": "bool",
    "payload-offset": "int",
    "master-key-iters": "int",
    uuid: "str",
    slots: ["QCryptoBlockInfoLUKSSlot"],
  }),
  ImageInfoSpecificLUKSWrapper: struct({ data: "QCryptoBlockInfoLUKS" }),
  ImageInfoSpecificQCow2Encryption: union({
    base: { format: "BlockdevQcow2EncryptionFormat" },
    tag: "format",
    branches: { luks: "QCryptoBlockInfoLUKS", aes: null },
  }),
} as const;
