/**
 * Finds data and holes of a file by SEEK_DATA and SEEK_HOLE, at once or, where others must not wait for the disk, elsewhere. The last answer is kept so that one extent costs one pair of
 * calls: a data extent always (calling data what has become a hole is only slower), a hole only while nobody else may
 * write to the file, because reading a stale hole as zeroes would lose what another process wrote.
 * Source: lseek(2).
 */
import { type Answer, andThen, isPromise } from "../../base/answer.ts";
import type { FileExtent } from "../../base/host.ts";
import type { FileFacts } from "./calls.ts";
import { nativeError } from "./errors.ts";
import type { SeekKind } from "./native.ts";

const ENXIO = 6;
/** -errno values by which a filesystem says that it has no SEEK_DATA. */
const cannotSeek: ReadonlySet<number> = new Set([-22, -95, -38, -29]);

interface Known {
  start: number;
  end: number;
  data: boolean;
}

/** How one file is asked. */
export interface ExtentCalls {
  /** As NativeCalls.seek; absent where the platform has none. */
  readonly seek: ((fd: number, offset: number, kind: SeekKind) => Answer<number>) | undefined;
  /** fstat(2). */
  facts(fd: number): Answer<FileFacts>;
}

/** The holes of one open file. */
export class ExtentFinder {
  readonly #calls: ExtentCalls;
  #known: Known | undefined;
  /** Until an answer that was asked for elsewhere is here. */
  #looking: Promise<void> | undefined;
  /** Where the last hole that was found ended: data, as far as is known; -1: nothing is known. */
  #dataAt = -1;
  #supported = true;
  /** Where the file ends, if it was found to lie in memory with all of its pages; 0: not so; undefined: not looked at. */
  #wholeBytes: number | undefined;
  #exclusive = false;
  /** They grow with each change, and with those that end all that is known: what was asked for before them is not kept. */
  #changes = 0;
  #endings = 0;

  constructor(calls: ExtentCalls) {
    this.#calls = calls;
  }

  /** Whether nobody else can write, so that holes may be remembered. */
  setExclusive(exclusive: boolean): void {
    this.#exclusive = exclusive;
    this.forget();
  }

  /** What lies at `offset`; undefined beyond the end or where it can't be known. */
  find(fd: number, offset: number): Answer<FileExtent | undefined> {
    if (!this.#calls.seek || !this.#supported)
      return andThen(this.#calls.facts(fd), (facts) => fullyAllocated(facts, offset));
    // Many ask at once when a client begins, mostly of one extent, which may be long to look through.
    return (
      this.#kept(offset) ??
      this.#looking?.then(() => this.#kept(offset) ?? this.#look(fd, offset)) ??
      this.#look(fd, offset)
    );
  }

  #kept(offset: number): FileExtent | undefined {
    const known = this.#known;
    return known && offset >= known.start && offset < known.end
      ? { data: known.data, bytes: known.end - offset }
      : undefined;
  }

  #look(fd: number, offset: number): Answer<FileExtent | undefined> {
    const changes = this.#changes;
    const endings = this.#endings;
    const looking = andThen(this.#seekData(fd, offset), (found) => {
      if (!found) return undefined;
      const isLasting = found.data ? endings === this.#endings : this.#exclusive && changes === this.#changes;
      if (isLasting) this.#known = found;
      else if (changes === this.#changes) this.#known = undefined;
      return { data: found.data, bytes: found.end - found.start };
    });
    if (isPromise(looking) && !this.#looking) {
      const forget = (): void => (this.#looking = undefined);
      this.#looking = looking.then(forget, forget);
    }
    return looking;
  }

  /** Bytes start … end were written: what was a hole there may be data now. */
  written(start: number, end: number): void {
    this.#changes += 1;
    const known = this.#known;
    if (known && !known.data && start < known.end && end > known.start) this.#known = undefined;
  }

  /** Blocks were freed or the size changed. */
  forget(): void {
    this.#changes += 1;
    this.#endings += 1;
    this.#known = undefined;
    this.#dataAt = -1;
    this.#wholeBytes = undefined;
  }

  #seek(fd: number, offset: number, kind: SeekKind): Answer<number> {
    return this.#calls.seek?.(fd, offset, kind) ?? -95;
  }

  #seekData(fd: number, start: number): Answer<Known | undefined> {
    const before = this.#changes;
    const data = start === this.#dataAt ? start : this.#seek(fd, start, "data");
    this.#dataAt = -1;
    return andThen(data, (at) => {
      if (at > start) {
        if (before === this.#changes) this.#dataAt = at;
        return { start, end: at, data: false };
      }
      if (at === start) return this.#dataFrom(fd, start);
      return at === -ENXIO ? this.#holeAtEnd(fd, start) : this.#failed(at);
    });
  }

  /** Data begins at `start`: looks for its end, unless the file plainly has no hole. */
  #dataFrom(fd: number, start: number): Answer<Known | undefined> {
    return andThen(this.#whole(fd), (end) =>
      end > start ? { start, end, data: true } : this.#seekHole(fd, start),
    );
  }

  #whole(fd: number): Answer<number> {
    if (this.#wholeBytes !== undefined) return this.#wholeBytes;
    const endings = this.#endings;
    return andThen(this.#calls.facts(fd), (facts) => {
      const bytes = hasEveryPage(facts) ? Number(facts.size) : 0;
      if (endings === this.#endings) this.#wholeBytes = bytes;
      return bytes;
    });
  }

  #seekHole(fd: number, start: number): Answer<Known | undefined> {
    return andThen(this.#seek(fd, start, "hole"), (hole) => {
      if (hole > start) return { start, end: hole, data: true };
      // What was data before has become a hole.
      if (hole === start) return this.#seekData(fd, start);
      return hole < 0 && hole !== -ENXIO ? this.#failed(hole) : undefined;
    });
  }

  #holeAtEnd(fd: number, start: number): Answer<Known | undefined> {
    return andThen(this.#seek(fd, 0, "end"), (end) =>
      end > start ? { start, end, data: false } : undefined,
    );
  }

  #failed(result: number): undefined {
    if (!cannotSeek.has(result)) throw nativeError(-result, "blockStatus");
    this.#supported = false;
    return undefined;
  }
}

/** Without SEEK_DATA: a file with a block for every byte has no holes; of others nothing is known. */
function fullyAllocated({ blocks, size }: FileFacts, offset: number): FileExtent | undefined {
  const bytes = Number(size);
  return offset < bytes && blocks * 512n >= size ? { data: true, bytes: bytes - offset } : undefined;
}

/** The bytes of a page, and of the smallest file of which it matters. */
const PAGE = 4096n;
const LARGE = 2n ** 26n;

/**
 * Whether a file without a disk, as on a tmpfs, has as many pages as its length takes: to look for a hole the kernel would go through all of
 * them, which takes as long as copying a tenth of them. Should one lie beyond the end, a hole is told as data.
 */
function hasEveryPage({ dev, blocks, size }: FileFacts): boolean {
  const hasDisk = ((dev >> 8n) & 0xf_ffn) !== 0n;
  return !hasDisk && size >= LARGE && blocks * 512n === ((size + PAGE - 1n) / PAGE) * PAGE;
}
