/**
 * Finds data and holes of a file by SEEK_DATA and SEEK_HOLE. The last answer is kept so that one extent costs one pair of
 * calls: a data extent always (calling data what has become a hole is only slower), a hole only while nobody else may
 * write to the file, because reading a stale hole as zeroes would lose what another process wrote.
 * Source: lseek(2).
 */
import * as fs from "node:fs";
import type { FileExtent } from "../../base/host.ts";
import { nativeError, nodeError } from "./errors.ts";
import type { NativeCalls } from "./native.ts";

const ENXIO = 6;
/** -errno values by which a filesystem says that it has no SEEK_DATA. */
const cannotSeek: ReadonlySet<number> = new Set([-22, -95, -38, -29]);

interface Known {
  start: number;
  end: number;
  data: boolean;
}

/** The holes of one open file. */
export class ExtentFinder {
  readonly #native: NativeCalls | undefined;
  #known: Known | undefined;
  /** Where the last hole that was found ended: data, as far as is known; -1: nothing is known. */
  #dataAt = -1;
  #supported = true;
  #exclusive = false;

  constructor(native: NativeCalls | undefined) {
    this.#native = native;
  }

  /** Whether nobody else can write, so that holes may be remembered. */
  setExclusive(exclusive: boolean): void {
    this.#exclusive = exclusive;
    this.forget();
  }

  /** What lies at `offset`; undefined beyond the end or where it can't be known. */
  find(fd: number, offset: number): FileExtent | undefined {
    if (!this.#native || !this.#supported) return fullyAllocated(fd, offset);
    const known = this.#known;
    if (known && offset >= known.start && offset < known.end) {
      return { data: known.data, bytes: known.end - offset };
    }
    const found = this.#seek(this.#native, fd, offset);
    if (!found) return undefined;
    this.#known = found.data || this.#exclusive ? found : undefined;
    return { data: found.data, bytes: found.end - found.start };
  }

  /** Bytes start … end were written: what was a hole there may be data now. */
  written(start: number, end: number): void {
    const known = this.#known;
    if (known && !known.data && start < known.end && end > known.start) this.#known = undefined;
  }

  /** Blocks were freed or the size changed. */
  forget(): void {
    this.#known = undefined;
    this.#dataAt = -1;
  }

  #seek(native: NativeCalls, fd: number, start: number): Known | undefined {
    const data = start === this.#dataAt ? start : native.seek(fd, start, "data");
    this.#dataAt = -1;
    if (data > start) {
      this.#dataAt = data;
      return { start, end: data, data: false };
    }
    if (data === start) {
      const hole = native.seek(fd, start, "hole");
      if (hole > start) return { start, end: hole, data: true };
      // What was data before has become a hole.
      if (hole === start) return this.#seek(native, fd, start);
      return hole < 0 && hole !== -ENXIO ? this.#failed(hole) : undefined;
    }
    if (data !== -ENXIO) return this.#failed(data);
    const end = native.seek(fd, 0, "end");
    return end > start ? { start, end, data: false } : undefined;
  }

  #failed(result: number): undefined {
    if (!cannotSeek.has(result)) throw nativeError(-result, "blockStatus");
    this.#supported = false;
    return undefined;
  }
}

/** Without SEEK_DATA: a file with a block for every byte has no holes; of others nothing is known. */
function fullyAllocated(fd: number, offset: number): FileExtent | undefined {
  try {
    const { blocks, size } = fs.fstatSync(fd);
    return offset < size && blocks * 512 >= size ? { data: true, bytes: size - offset } : undefined;
  } catch (error) {
    throw nodeError(error, "blockStatus");
  }
}
