/**
 * What the driver knows of an encrypted image: the contract of its encryption, which bundles may leave out
 * (encryption-support.ts), and the options that must agree with the header.
 * Source: qcow2.txt, "crypt_method"; words of QEMU 7.2.
 */
import { blockError } from "../../../../base/errors.ts";
import type { NodeSpec, OpenContext } from "../../../../block/model/contract.ts";
import type { Header } from "../disk/header.ts";
import { CryptMethod } from "../disk/header-extensions.ts";
import type { Image, ImageEncryption } from "../metadata/image.ts";

/** What encrypted images need beside this file. */
export interface EncryptionSupport {
  /** Opens the encryption that the header tells of. `keySecret` is the id of a secret. */
  open(image: Image, context: OpenContext, keySecret: string | undefined): Promise<ImageEncryption>;
  /** Throws what is wrong with the options of a new image (QCryptoBlockCreateOptions), before anything is written. */
  check(options: EncryptOptions, context: Pick<OpenContext, "graph">): void;
  /** Makes a new, empty image an encrypted one. */
  create(image: Image, options: EncryptOptions): Promise<ImageEncryption>;
}

/** What encrypted images need, or ENOTSUP in a driver without it. */
export function supported(support: EncryptionSupport | undefined): EncryptionSupport {
  if (support) return support;
  throw blockError("ENOTSUP", "open", "qcow2: encrypted images need the driver with encryption");
}

/** QAPI's QCryptoBlockCreateOptions, wire names. */
export type EncryptOptions = Readonly<Record<string, unknown>>;

/** The options `encrypt` of a node, checked against the header; the id of the secret. Throws EINVAL in QEMU's words. */
export function encryptOption(spec: NodeSpec, header: Header): string | undefined {
  const given = spec["encrypt"];
  const encrypt = typeof given === "object" && given !== null ? (given as Record<string, unknown>) : {};
  const { format, "key-secret": secret } = encrypt;
  const own = header.cryptMethod === CryptMethod.luks ? "luks" : "aes";
  if (header.cryptMethod === CryptMethod.none) {
    if (typeof format !== "string") return undefined;
    throw blockError(
      "EINVAL",
      "open",
      `No encryption in image header, but options specified format '${format}'`,
    );
  }
  if (typeof format === "string" && format !== own) {
    const words = `Header reported '${own}' encryption format but options specify '${format}'`;
    throw blockError("EINVAL", "open", words);
  }
  return typeof secret === "string" ? secret : undefined;
}

/** An open image that can be made an encrypted one while it is new and empty; creation does so before it gets its size. */
export interface Encryptable {
  encrypt(options: EncryptOptions): Promise<void>;
}
