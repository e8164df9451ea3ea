/**
 * The saved machine of an image: bytes behind the end of the disk in the guest's address space, from the first L2 table on
 * that the disk does not need. Source: qcow2.txt, "Snapshots" (vm state); behaviour of QEMU 7.2.
 */
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import { blockError } from "../../../../base/errors.ts";
import type { VmStateStore } from "../../../../block/model/contract.ts";
import type { Image } from "../metadata/image.ts";
import { l1EntriesFor } from "../disk/layout.ts";
import { readGuest } from "../data/read.ts";
import { growL1 } from "./truncate.ts";
import { makeRoom } from "../metadata/write-back.ts";
import { writeGuest } from "../data/write.ts";

/** Where the saved machine begins in the guest's address space, bytes. */
export function vmStateOffset(image: Image): number {
  return l1EntriesFor(image.size, image.geometry) * image.geometry.l2Coverage;
}

/** Encrypted data is read and written in whole sectors. */
function checkSectors(image: Image, at: number, { byteLength }: Uint8Array): void {
  if (!image.encryption || (at % SECTOR_SIZE === 0 && byteLength % SECTOR_SIZE === 0)) return;
  throw blockError("EINVAL", "vmstate", "the saved machine of an encrypted image consists of whole sectors");
}

/** Reads and writes the saved machine of an image. */
export class Qcow2VmState implements VmStateStore {
  readonly #image: Image;

  constructor(image: Image) {
    this.#image = image;
  }

  async read(at: number, buffer: Uint8Array): Promise<void> {
    const image = this.#image;
    const offset = vmStateOffset(image) + at;
    const end = image.header.l1Size * image.geometry.l2Coverage;
    checkSectors(image, at, buffer);
    const known = Math.max(0, Math.min(buffer.byteLength, end - offset));
    if (known > 0) await readGuest(image, { offset, buffer: buffer.subarray(0, known), flags: 0 });
    buffer.fill(0, known);
  }

  async write(at: number, buffer: Uint8Array): Promise<void> {
    const image = this.#image;
    const offset = vmStateOffset(image) + at;
    const end = offset + buffer.byteLength;
    if (end > limits.maxImageBytes) throw blockError("EFBIG", "pwrite");
    checkSectors(image, at, buffer);
    await image.locked(async () => {
      await makeRoom(image);
      await growL1(image, Math.ceil(end / image.geometry.l2Coverage));
    });
    await writeGuest(image, offset, buffer);
  }
}
