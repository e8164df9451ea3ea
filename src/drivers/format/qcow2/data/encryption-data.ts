/**
 * The path of an encrypted image's data: what lies in the file is decrypted after it was read, and written encrypted.
 * Metadata and compressed clusters are not encrypted. Sectors are numbered by their place in the file (LUKS) or on the
 * disk (the old AES). Source: qcow2.txt, "crypt_method", "Data encryption".
 */
import { MiB, SECTOR_SIZE } from "../../../../base/limits.ts";
import type { RequestFlags } from "../../../../block/model/contract.ts";
import type { SectorCipher } from "../../../../crypto/sector-cipher.ts";
import type { DataPlace, Image, ImageEncryption } from "../metadata/image.ts";

/** What is read, or encrypted and written, at a time, bytes: bounds the copy that a write makes. */
const PIECE_BYTES = MiB;

/** The data path over a cipher that the kind of encryption brings. */
export abstract class EncryptedData implements ImageEncryption {
  abstract readonly format: "aes" | "luks";
  /** Throws EPERM where there is no key. */
  abstract readonly cipher: SectorCipher;

  abstract info(): Record<string, unknown>;

  #sector({ guest, host }: DataPlace): number {
    return (this.format === "luks" ? host : guest) / SECTOR_SIZE;
  }

  async read(
    image: Image,
    place: DataPlace,
    { buffer, flags }: { buffer: Uint8Array; flags: RequestFlags },
  ): Promise<void> {
    const { cipher } = this;
    const first = this.#sector(place);
    for (let at = 0; at < buffer.byteLength; at += PIECE_BYTES) {
      const part = buffer.subarray(at, at + PIECE_BYTES);
      await image.data.pread(place.host + at, part, flags);
      cipher.decrypt(first + at / SECTOR_SIZE, part, part);
    }
  }

  readNow(image: Image, place: DataPlace, buffer: Uint8Array): boolean {
    const { cipher } = this;
    if (!image.data.preadNow(place.host, buffer)) return false;
    cipher.decrypt(this.#sector(place), buffer, buffer);
    return true;
  }

  async write(image: Image, place: DataPlace, data: Uint8Array): Promise<void> {
    const { cipher } = this;
    const first = this.#sector(place);
    for (let at = 0; at < data.byteLength; at += PIECE_BYTES) {
      const part = data.subarray(at, at + PIECE_BYTES);
      const stored = new Uint8Array(part.byteLength);
      cipher.encrypt(first + at / SECTOR_SIZE, part, stored);
      await image.data.pwrite(place.host + at, stored);
    }
  }
}
