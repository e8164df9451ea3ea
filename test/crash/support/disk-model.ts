// What a guest's disk may hold after its machine died: in each sector the last content that was flushed, or any that was
// written later. Time is the order in which the guest's own log has it.

const SECTOR = 512;

interface Change {
  value: number;
  issued: number;
  completed: number;
}

/** One disk. */
export class DiskModel {
  readonly #initial: Buffer;
  readonly #changes = new Map<number, Change[]>();
  readonly #open = new Map<number, Change>();
  readonly #flushes = new Map<number, number>();
  /** Changes completed before this instant are durable. */
  #flushed = -1;
  #now = 0;

  constructor(initial: Buffer) {
    this.#initial = initial;
  }

  /** A write of sectors that are filled with a 32-bit value was handed over. */
  issue(write: { id: number; offset: number; bytes: number; value: number }): void {
    const change = { value: write.value, issued: this.#now++, completed: Infinity };
    this.#open.set(write.id, change);
    for (let sector = write.offset / SECTOR; sector < (write.offset + write.bytes) / SECTOR; sector++) {
      const changes = this.#changes.get(sector);
      if (changes) changes.push(change);
      else this.#changes.set(sector, [change]);
    }
  }

  complete(id: number): void {
    this.#open.get(id)!.completed = this.#now++;
  }

  flushIssued(id: number): void {
    this.#flushes.set(id, this.#now++);
  }

  flushCompleted(id: number): void {
    this.#flushed = Math.max(this.#flushed, this.#flushes.get(id)!);
    this.#now++;
  }

  /** Sectors written so far. */
  get touched(): number {
    return this.#changes.size;
  }

  /** Where `content` is what it may not be, in words; undefined if it is right. */
  fault(content: Buffer): string | undefined {
    if (content.byteLength !== this.#initial.byteLength)
      return `the disk has ${content.byteLength} bytes instead of ${this.#initial.byteLength}`;
    if (this.#changes.size === 0 && content.equals(this.#initial)) return undefined;
    for (let at = 0; at < content.byteLength; at += SECTOR) {
      const sector = content.subarray(at, at + SECTOR);
      const changes = this.#changes.get(at / SECTOR);
      const initial = this.#initial.subarray(at, at + SECTOR);
      if (!changes) {
        if (!sector.equals(initial)) return `sector ${at / SECTOR} changed, though nobody wrote to it`;
        continue;
      }
      const fault = this.#sectorFault(sector, changes, initial);
      if (fault !== undefined) return `sector ${at / SECTOR} ${fault}`;
    }
    return undefined;
  }

  #sectorFault(sector: Buffer, changes: readonly Change[], initial: Buffer): string | undefined {
    const durable = changes.findLastIndex((change) => change.completed < this.#flushed);
    if (durable < 0 && sector.equals(initial)) return undefined;
    const value = sector.readUInt32LE(0);
    const whole = Buffer.alloc(SECTOR, sector.subarray(0, 4)).equals(sector);
    const allowed = changes.slice(Math.max(0, durable)).map((change) => change.value);
    if (whole && allowed.includes(value)) return undefined;
    const was = sector.equals(initial) ? "its first content" : whole ? String(value) : "something mixed";
    return `holds ${was}; allowed: ${allowed.join(", ")}${durable < 0 ? " or its first content" : ""}`;
  }
}
