/**
 * What a disk must show: bytes, and for each sector whether they are certain. A failed write leaves its sectors unknown;
 * after a discard a sector shows its old bytes or zeroes.
 */
import { BlockBackend } from "../block/graph/backend.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { BlockNode } from "../block/model/node.ts";
import { Perm } from "../block/model/permissions.ts";

const SECTOR = 512;

const exact = 0;
const oldOrZero = 1;
const unknown = 2;

/** The expected content of a disk. */
export class Model {
  readonly content: Uint8Array;
  readonly #certainty: Uint8Array;

  constructor(content: Uint8Array, certainty?: Uint8Array) {
    this.content = content;
    this.#certainty = certainty ?? new Uint8Array(Math.ceil(content.byteLength / SECTOR));
  }

  get length(): number {
    return this.content.byteLength;
  }

  copy(): Model {
    return new Model(this.content.slice(), this.#certainty.slice());
  }

  /** A copy of another length: cut off, or with zeroes behind. */
  resized(length: number): Model {
    const content = new Uint8Array(length);
    content.set(this.content.subarray(0, length));
    const certainty = new Uint8Array(Math.ceil(length / SECTOR));
    certainty.set(this.#certainty.subarray(0, certainty.byteLength));
    return new Model(content, certainty);
  }

  write(offset: number, data: Uint8Array): void {
    this.content.set(data, offset);
    this.#each(offset, data.byteLength, (sector, whole) => {
      if (whole) this.#certainty[sector] = exact;
      else if (this.#certainty[sector] !== exact) this.#certainty[sector] = unknown;
    });
  }

  zero(offset: number, bytes: number): void {
    this.write(offset, new Uint8Array(bytes));
  }

  /** The content may now be zeroes; `vague`: anything. */
  discard(offset: number, bytes: number, vague: boolean): void {
    this.#each(offset, bytes, (sector, whole) => {
      if (whole && !vague && this.#certainty[sector] !== unknown) this.#certainty[sector] = oldOrZero;
      else this.#certainty[sector] = unknown;
    });
  }

  forget(offset: number, bytes: number): void {
    this.#each(offset, bytes, (sector) => {
      this.#certainty[sector] = unknown;
    });
  }

  /** Takes a range over from another model. */
  take(from: Model, offset: number, bytes: number): void {
    this.content.set(from.content.subarray(offset, offset + bytes), offset);
    this.#each(offset, bytes, (sector) => {
      this.#certainty[sector] = from.#certainty[sector]!;
    });
  }

  /** The first offset at which `actual`, the bytes from `offset` on, is not as it should be; -1 if there is none. */
  difference(offset: number, actual: Uint8Array): number {
    const end = offset + actual.byteLength;
    for (let at = offset; at < end;) {
      const sector = Math.floor(at / SECTOR);
      const to = Math.min(end, (sector + 1) * SECTOR);
      const certainty = this.#certainty[sector]!;
      const bad =
        certainty === unknown ? -1 : this.#compare(at, to, actual.subarray(at - offset, to - offset));
      if (bad >= 0 && !(certainty === oldOrZero && isZero(actual.subarray(at - offset, to - offset))))
        return bad;
      at = to;
    }
    return -1;
  }

  #compare(from: number, to: number, actual: Uint8Array): number {
    for (let at = from; at < to; at++) if (this.content[at] !== actual[at - from]) return at;
    return -1;
  }

  #each(offset: number, bytes: number, body: (sector: number, whole: boolean) => void): void {
    const end = offset + bytes;
    for (let sector = Math.floor(offset / SECTOR); sector * SECTOR < end; sector++) {
      const whole = sector * SECTOR >= offset && Math.min((sector + 1) * SECTOR, this.length) <= end;
      body(sector, whole);
    }
  }
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Bytes that tell which write they come from and where they belong. */
export function stamp(offset: number, bytes: number, tag: number): Uint8Array {
  const data = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++)
    data[i] = (Math.imul(((offset + i) >>> 2) ^ (tag * 0x9e3779b1), 0x01000193) >>> (8 * (i & 3))) & 0xff;
  return data;
}

/** All bytes of a node, read as a guest would. */
export async function contentOf(graph: BlockGraph, node: BlockNode): Promise<Uint8Array> {
  const backend = new BlockBackend(graph);
  await backend.attach(node, { perm: Perm.consistentRead, shared: Perm.all });
  try {
    const content = new Uint8Array(node.length);
    for (let at = 0; at < content.byteLength; at += 2 ** 20)
      await backend.pread(at, content.subarray(at, at + 2 ** 20));
    return content;
  } finally {
    await backend.close();
  }
}
