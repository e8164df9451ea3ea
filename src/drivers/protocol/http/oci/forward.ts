/**
 * A stream that is read forward, as an archive is.
 */
import { blockError } from "../../../../base/errors.ts";
import type { HostFile } from "../../../../base/host.ts";
import type { Member } from "./tar.ts";

/** Bytes of a piece that is left out where it is all zeroes. */
const HOLE = 4096;

/** Reads a stream forward. */
export class Forward {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);
  /** Where the piece begins. */
  #at = 0;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  async #next(): Promise<boolean> {
    const next = await this.#pieces.next();
    if (next.done) return false;
    this.#at += this.#piece.byteLength;
    this.#piece = next.value;
    return true;
  }

  /** The next bytes that are there, from `offset` on, at most so many. Undefined: the stream has ended. */
  async #some(offset: number, most: number): Promise<Uint8Array | undefined> {
    while (offset >= this.#at + this.#piece.byteLength) if (!(await this.#next())) return undefined;
    return this.#piece.subarray(offset - this.#at, offset - this.#at + most);
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    const buffer = new Uint8Array(bytes);
    // An archive may end without its last blocks: they are zeroes.
    for (let done = 0; done < bytes;) {
      const some = await this.#some(offset + done, bytes - done);
      if (!some) break;
      buffer.set(some, done);
      done += some.byteLength;
    }
    return buffer;
  }

  /** Writes a member's content into a file; runs of zeroes are left out. */
  async copy({ offset, size }: Member, file: HostFile): Promise<void> {
    for (let done = 0; done < size;) {
      const most = Math.min(size - done, HOLE - (done % HOLE));
      const some = await this.#some(offset + done, most);
      if (!some) throw blockError("EIO", "open", "the layer ends in the middle of the disk");
      if (some.some((byte) => byte !== 0)) await file.write(some, done);
      done += some.byteLength;
    }
    await file.truncate(size);
  }

  async end(): Promise<void> {
    while (await this.#next());
  }
}
