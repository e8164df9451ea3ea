/**
 * The part of an amend request that is about encryption: the key slots of LUKS.
 * Source: QAPI QCryptoBlockAmendOptions; behaviour and words of QEMU 7.2.
 */
import { blockError } from "../../../../base/errors.ts";
import type { AmendContext } from "../../../../block/model/contract.ts";
import type { EncryptOptions } from "../data/encryption.ts";
import type { Image } from "../metadata/image.ts";

function refuse(message: string): never {
  throw blockError("EINVAL", "amend", message);
}

/** Changes key slots as `encrypt` says: state, new-secret … and perhaps format. Throws EINVAL in QEMU's words. */
export async function amendEncryption(
  image: Image,
  encrypt: EncryptOptions,
  context: AmendContext,
): Promise<void> {
  const { encryption } = image;
  const { format, ...options } = encrypt;
  if (!encryption) refuse("Can't amend encryption options - encryption not present");
  if (format !== undefined && (format === "luks") !== (encryption.format === "luks")) {
    refuse("Amend can't be used to change the qcow2 encryption format");
  }
  if (!encryption.amend) refuse("Only LUKS encryption options can be amended");
  await encryption.amend(options, context);
}
