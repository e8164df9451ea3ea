/**
 * The old encryption of qcow2: AES-128-CBC, whose key is the first 16 bytes of the passphrase as it is. A wrong passphrase
 * cannot be told from the right one. For reading old images; LUKS is for new ones. Source: qcow2.txt, "crypt_method".
 */
import type { Host } from "../base/host.ts";
import { cryptoOf } from "./luks.ts";
import { type SectorCipher, sectorCipher } from "./sector-cipher.ts";

const KEY_BYTES = 16;

/** The cipher of a passphrase; sectors are those of the guest's disk. */
export async function legacyAes(host: Host, passphrase: Uint8Array): Promise<SectorCipher> {
  const key = new Uint8Array(KEY_BYTES);
  key.set(passphrase.subarray(0, KEY_BYTES));
  return sectorCipher(await cryptoOf(host), { mode: "cbc", ivGenerator: "plain64", key });
}
