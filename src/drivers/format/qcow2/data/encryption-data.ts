/**
 * The path of an encrypted image's data: what lies in the file is decrypted after it was read, and written encrypted.
 * Metadata and compressed clusters are not encrypted. Sectors are numbered by their place in the file (LUKS) or on the
 * disk (the old AES). Source: qcow2.txt, "crypt_method", "Data encryption".
 */
import { type Answer, andThen, repeat } from "../../../../base/answer.ts";
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

  read(
    image: Image,
    place: DataPlace,
    { buffer, flags }: { buffer: Uint8Array; flags: RequestFlags },
  ): Answer<void> {
    const { cipher } = this;
    return this.#inPieces(buffer, place, (part, { sector, host }) =>
      andThen(image.data.pread(host, part, flags), () => cipher.decrypt(sector, part, part)),
    );
  }

  write(image: Image, place: DataPlace, data: Uint8Array): Answer<void> {
    const { cipher } = this;
    return this.#inPieces(data, place, (part, { sector, host }) => {
      const stored = new Uint8Array(part.byteLength);
      cipher.encrypt(sector, part, stored);
      return image.data.pwrite(host, stored);
    });
  }

  /** One piece after the other, each with the number of its first sector and where it lies in the file. */
  #inPieces(
    buffer: Uint8Array,
    place: DataPlace,
    work: (part: Uint8Array, where: { sector: number; host: number }) => Answer<void>,
  ): Answer<void> {
    const first = this.#sector(place);
    let at = 0;
    return repeat(() => {
      const part = buffer.subarray(at, at + PIECE_BYTES);
      const where = { sector: first + at / SECTOR_SIZE, host: place.host + at };
      at += PIECE_BYTES;
      return andThen(work(part, where), () => at < buffer.byteLength);
    });
  }
}
