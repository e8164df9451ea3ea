/**
 * A backup of a repository of chunks as a disk that is read where it is asked: the lowest node of a disk that is restored while it
 * is used. Invariant: each chunk is held against its hash when it is read.
 */
import type { BlockDriver, BlockStatus, DriverType } from "../../../block/model/contract.ts";
import type { BackupReader } from "../../../store/reader.ts";

class BackupDisk implements BlockDriver {
  readonly #reader: BackupReader;
  readonly #size: number;
  readonly #onError: (error: unknown) => void;

  constructor(reader: BackupReader, size: number, onError: (error: unknown) => void) {
    this.#reader = reader;
    this.#size = size;
    this.#onError = onError;
  }

  length(): number {
    return this.#size;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    try {
      buffer.set(await this.#reader.read(offset, buffer.byteLength));
    } catch (error) {
      this.#onError(error);
      throw error;
    }
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const found = await this.#reader.extent(offset, bytes);
    return { bytes: found.bytes, data: found.data, zero: false, allocated: found.data };
  }
}

/** The driver of one backup's disk; its node takes no options. `onError` is told what can't be read: guests hear no words. */
export function backupDisk(
  name: string,
  { reader, size, onError }: { reader: BackupReader; size: number; onError: (error: unknown) => void },
): DriverType {
  return {
    name,
    kind: "format",
    // What it does not hold is nothing: a stream passes it by.
    supportsBacking: true,
    isLibraryOnly: true,
    staysAsOpened: true,
    open: () => Promise.resolve(new BackupDisk(reader, size, onError)),
  };
}
