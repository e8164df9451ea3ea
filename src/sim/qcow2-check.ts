/**
 * An independent judge of qcow2 images: counts every reference from the raw bytes and compares with the refcounts.
 * It shares no code with the driver. Source: the qcow2 specification.
 */

const OFFSET_MASK = 0x00fffffffffffe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

/** What is wrong with an image. */
export interface Qcow2Findings {
  /** What may destroy data. */
  errors: string[];
  /** Clusters that are counted but not used. */
  leaks: number;
}

/** Checks an image without snapshots and bitmaps. */
export function checkQcow2(bytes: Uint8Array): Qcow2Findings {
  return new Judge(bytes).judge();
}

class Judge {
  readonly #view: DataView;
  readonly #size: number;
  readonly #errors: string[] = [];
  #clusterBits = 0;
  #references = new Uint32Array(0);
  #refcountBits = 16;
  #table: bigint[] = [];

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#size = bytes.byteLength;
  }

  judge(): Qcow2Findings {
    const view = this.#view;
    if (this.#size < 72 || view.getUint32(0) !== 0x514649fb) return { errors: ["no qcow2 header"], leaks: 0 };
    const version = view.getUint32(4);
    this.#clusterBits = view.getUint32(20);
    const cluster = 2 ** this.#clusterBits;
    this.#references = new Uint32Array(Math.ceil(this.#size / cluster));
    const l1Size = view.getUint32(36);
    const l1Offset = Number(view.getBigUint64(40));
    const tableOffset = Number(view.getBigUint64(48));
    const tableClusters = view.getUint32(56);
    if (version >= 3) this.#refcountBits = 2 ** view.getUint32(96);
    if (version >= 3 && (view.getBigUint64(72) & 3n) !== 0n) this.#errors.push("dirty or corrupt bit");
    this.#use("header", 0, 1);
    this.#use("L1 table", l1Offset, l1Size * 8);
    this.#use("refcount table", tableOffset, tableClusters * cluster);
    for (let i = 0; i < (tableClusters * cluster) / 8; i++) {
      const offset = this.#u64("refcount table", tableOffset + 8 * i);
      this.#table.push(offset);
      if (offset !== 0n) this.#use("refcount block", Number(offset), cluster);
    }
    this.#guestSize(Number(view.getBigUint64(24)), l1Size);
    for (let i = 0; i < l1Size; i++) this.#l2(this.#u64("L1 table", l1Offset + 8 * i));
    return { errors: this.#errors, leaks: this.#compare() };
  }

  #guestSize(size: number, l1Size: number): void {
    const cluster = 2 ** this.#clusterBits;
    if (l1Size * (cluster / 8) * cluster < size)
      this.#errors.push(`the L1 table is too small for ${size} bytes`);
  }

  #l2(entry: bigint): void {
    const offset = Number(entry & OFFSET_MASK);
    if (offset === 0) return;
    const cluster = 2 ** this.#clusterBits;
    this.#use("L2 table", offset, cluster);
    this.#flag("L2 table", entry, offset);
    for (let i = 0; i < cluster / 8; i++) {
      const l2 = this.#u64("L2 table", offset + 8 * i);
      if ((l2 & COMPRESSED) !== 0n) this.#errors.push("a compressed cluster, but nobody wrote one");
      const data = Number(l2 & OFFSET_MASK);
      if (data === 0) continue;
      this.#use("data", data, cluster);
      this.#flag("data", l2, data);
    }
  }

  #flag(what: string, entry: bigint, offset: number): void {
    const count = this.#refcount(Math.floor(offset / 2 ** this.#clusterBits));
    if (((entry & COPIED) !== 0n) !== (count === 1n))
      this.#errors.push(`${what} at ${offset}: COPIED flag, refcount ${count}`);
  }

  #u64(what: string, at: number): bigint {
    if (at + 8 <= this.#size) return this.#view.getBigUint64(at);
    this.#errors.push(`${what} lies beyond the end of the file (${at})`);
    return 0n;
  }

  #use(what: string, offset: number, bytes: number): void {
    const cluster = 2 ** this.#clusterBits;
    if (offset % cluster !== 0) this.#errors.push(`${what} at ${offset} is not aligned`);
    for (let i = Math.floor(offset / cluster); i * cluster < offset + bytes; i++) {
      if (i >= this.#references.length)
        return void this.#errors.push(`${what} at ${offset} lies beyond the end`);
      this.#references[i]! += 1;
      if (this.#references[i]! > 1) this.#errors.push(`cluster ${i} is used twice (${what})`);
    }
  }

  #refcount(index: number): bigint {
    const perBlock = (2 ** this.#clusterBits * 8) / this.#refcountBits;
    const block = Number(this.#table[Math.floor(index / perBlock)] ?? 0n);
    if (block === 0) return 0n;
    const at = index % perBlock;
    const bits = this.#refcountBits;
    if (bits < 8) {
      const bit = at * bits;
      return BigInt((this.#view.getUint8(block + (bit >> 3)) >> (bit & 7)) & (2 ** bits - 1));
    }
    let value = 0n;
    for (let i = 0; i < bits / 8; i++)
      value = (value << 8n) | BigInt(this.#view.getUint8(block + (at * bits) / 8 + i));
    return value;
  }

  /** Compares all counts and returns the number of leaks. */
  #compare(): number {
    let leaks = 0;
    for (let i = 0; i < this.#references.length; i++) {
      const found = this.#refcount(i);
      const wanted = BigInt(this.#references[i]!);
      if (found < wanted) this.#errors.push(`cluster ${i}: refcount ${found}, references ${wanted}`);
      if (found > wanted) leaks += 1;
    }
    return leaks;
  }
}
