/**
 * A bit array longer than one of the kernels' may be: arrays of MAX_BITS one after the other. A run of ones that crosses
 * from one to the next is told as two.
 */
import { type Bits, type Kernels, MAX_BITS } from "./kernels.ts";

/** A bit array of any length; `piece`, a multiple of 8, bits of it lie in one array. Throws BlockError ENOMEM when the memory for bitmaps is used up. */
export function createLongBits(kernels: Pick<Kernels, "createBits">, bits: number, piece = MAX_BITS): Bits {
  return bits > piece ? new JoinedBits(kernels, bits, piece) : kernels.createBits(bits);
}

/** ORs `source` into `target`, run by run; see Bits.merge(). */
export function mergeRuns(target: Bits, source: Bits, shift: number): number {
  const scale = 2 ** -shift;
  const run = new Float64Array(2);
  let changed = 0;
  for (let at = 0; source.extents(at, source.length, run, 1) === 1;) {
    const first = Math.floor(run[0]! * scale);
    at = run[0]! + run[1]!;
    const end = Math.min(target.length, Math.ceil(at * scale));
    if (first < end) changed += target.set(first, end - first);
  }
  return changed;
}

/** See Bits. */
export class JoinedBits implements Bits {
  readonly length: number;
  readonly #piece: number;
  readonly #parts: Bits[] = [];

  constructor(kernels: Pick<Kernels, "createBits">, bits: number, piece: number) {
    this.length = bits;
    this.#piece = piece;
    try {
      for (let at = 0; at < bits; at += piece)
        this.#parts.push(kernels.createBits(Math.min(piece, bits - at)));
    } catch (error) {
      this.free();
      throw error;
    }
  }

  set(first: number, count: number): number {
    return this.#sum(first, first + count, (part, from, to) => part.set(from, to - from));
  }

  reset(first: number, count: number): number {
    return this.#sum(first, first + count, (part, from, to) => part.reset(from, to - from));
  }

  test(index: number): boolean {
    return this.#parts[Math.floor(index / this.#piece)]!.test(index % this.#piece);
  }

  nextOne(from: number, end: number): number {
    return this.#find(from, end, (part, at, to) => part.nextOne(at, to));
  }

  nextZero(from: number, end: number): number {
    return this.#find(from, end, (part, at, to) => part.nextZero(at, to));
  }

  extents(from: number, end: number, out: Float64Array, unit: number): number {
    let count = 0;
    for (const { part, base, at, to } of this.#pieces(from, end)) {
      const rest = out.subarray(2 * count);
      if (rest.length < 2) break;
      const got = part.extents(at, to, rest, unit);
      for (let index = 0; index < got; index++) rest[2 * index]! += base * unit;
      count += got;
    }
    return count;
  }

  count(from: number, end: number): number {
    return this.#sum(from, end, (part, at, to) => part.count(at, to));
  }

  merge(source: Bits, shift: number): number {
    if (!(source instanceof JoinedBits) || shift !== 0) return mergeRuns(this, source, shift);
    return this.#parts.reduce((sum, part, index) => sum + part.merge(source.#parts[index]!, 0), 0);
  }

  clear(): void {
    for (const part of this.#parts) part.clear();
  }

  read(at: number, target: Uint8Array): void {
    this.#bytes(at, target, (part, from, bytes) => part.read(from, bytes));
  }

  write(at: number, source: Uint8Array): void {
    this.#bytes(at, source, (part, from, bytes) => part.write(from, bytes));
  }

  free(): void {
    for (const part of this.#parts) part.free();
  }

  /** The parts that `from` … `end` touches, with the range in each. */
  *#pieces(from: number, end: number): Generator<{ part: Bits; base: number; at: number; to: number }> {
    for (let at = from; at < end;) {
      const index = Math.floor(at / this.#piece);
      const base = index * this.#piece;
      const to = Math.min(end, base + this.#piece);
      yield { part: this.#parts[index]!, base, at: at - base, to: to - base };
      at = to;
    }
  }

  #sum(from: number, end: number, body: (part: Bits, at: number, to: number) => number): number {
    let sum = 0;
    for (const { part, at, to } of this.#pieces(from, end)) sum += body(part, at, to);
    return sum;
  }

  #find(from: number, end: number, body: (part: Bits, at: number, to: number) => number): number {
    for (const { part, base, at, to } of this.#pieces(from, end)) {
      const found = body(part, at, to);
      if (found < to) return base + found;
    }
    return end;
  }

  #bytes(at: number, bytes: Uint8Array, body: (part: Bits, from: number, bytes: Uint8Array) => void): void {
    const piece = this.#piece / 8;
    for (let done = 0; done < bytes.length;) {
      const from = (at + done) % piece;
      const count = Math.min(bytes.length - done, piece - from);
      body(this.#parts[Math.floor((at + done) / piece)]!, from, bytes.subarray(done, done + count));
      done += count;
    }
  }
}
