/**
 * The header extension that says where the header of an image's encryption lies.
 * Source: qcow2.txt, "Full disk encryption header pointer"; words of QEMU 7.2.
 */
import { ImageError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";

/** A run of clusters, bytes. */
export interface CryptoHeaderPlace {
  readonly offset: number;
  readonly bytes: number;
}

const CRYPTO_HEADER_BYTES = 16;

/** Where the encryption's own header lies, as the record's data says; QEMU's words for what is wrong with it. */
export function parseCryptoHeader(data: Uint8Array, clusterSize: number): CryptoHeaderPlace {
  const fail = (field: string, message: string): never => {
    throw new ImageError({ structure: "header extension", field, message });
  };
  if (data.byteLength !== CRYPTO_HEADER_BYTES) {
    const wanted = `but expected size ${CRYPTO_HEADER_BYTES}`;
    fail("length", `CRYPTO header extension size ${data.byteLength}, ${wanted}`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [offset, bytes] = [view.getBigUint64(0), view.getBigUint64(8)];
  if (offset % BigInt(clusterSize) !== 0n) {
    const words = `is not a multiple of cluster size '${clusterSize}'`;
    fail("offset", `Encryption header offset '${offset}' ${words}`);
  }
  // No file reaches that far, so nothing is there that could be a header.
  if (offset > BigInt(limits.maxImageBytes / 2)) fail("offset", "Volume is not in LUKS format");
  return { offset: Number(offset), bytes: Number(bytes) };
}

/** The record's data. */
export function serializeCryptoHeader({ offset, bytes }: CryptoHeaderPlace): Uint8Array {
  const data = new Uint8Array(CRYPTO_HEADER_BYTES);
  const view = new DataView(data.buffer);
  view.setBigUint64(0, BigInt(offset));
  view.setBigUint64(8, BigInt(bytes));
  return data;
}
