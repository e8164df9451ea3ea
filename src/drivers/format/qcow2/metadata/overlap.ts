/**
 * Knows where the image's metadata lies, so that no write can land on it by mistake (a corrupt refcount would otherwise
 * make the allocator hand out a table). Holds what is known without further I/O, QEMU's `overlap-check=cached`; the rest
 * is entered by overlap-modes.ts.
 */

/** Sections as QEMU names them in its messages. */
export type Section =
  | "qcow2_header"
  | "active L1 table"
  | "active L2 table"
  | "refcount block"
  | "refcount table"
  | "snapshot table"
  | "inactive L1 table"
  | "inactive L2 table"
  | "bitmap directory";

interface Range {
  readonly section: Section;
  readonly from: number;
  readonly to: number;
}

/** The metadata of one image, in whole clusters. */
export class MetadataMap {
  readonly #clusterSize: number;
  readonly #ranges: Range[] = [];
  readonly #tables = new Map<number, Section>();
  /** Whether writes to `allowed` are kept off a section: the option `overlap-check`. */
  checks: (section: Section, allowed?: Section) => boolean = () => true;

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  /** Notes a table of `bytes` bytes at the cluster-aligned `offset`. */
  addRange(section: Section, offset: number, bytes: number): void {
    if (bytes > 0) this.#ranges.push({ section, from: offset, to: offset + this.#roundUp(bytes) });
  }

  /** Forgets all ranges of a section (it moved). */
  removeRanges(section: Section): void {
    for (let at = this.#ranges.length - 1; at >= 0; at--) {
      if (this.#ranges[at]?.section === section) this.#ranges.splice(at, 1);
    }
  }

  /** Notes one cluster: an L2 table or a refcount block. */
  addTable(section: Section, offset: number): void {
    this.#tables.set(offset, section);
  }

  removeTable(offset: number): void {
    this.#tables.delete(offset);
  }

  /** Forgets all tables of a section. */
  removeTables(section: Section): void {
    for (const [offset, other] of this.#tables) if (other === section) this.#tables.delete(offset);
  }

  /** The section that the range would overwrite, other than `allowed`. */
  overlap(offset: number, bytes: number, allowed?: Section): Section | undefined {
    if (bytes === 0) return undefined;
    const end = offset + bytes;
    for (const { section, from, to } of this.#ranges) {
      if (section !== allowed && from < end && offset < to && this.checks(section, allowed)) return section;
    }
    const first = offset - (offset % this.#clusterSize);
    if ((end - first) / this.#clusterSize > this.#tables.size)
      return this.#overlapByTable(offset, end, allowed);
    for (let at = first; at < end; at += this.#clusterSize) {
      const section = this.#tables.get(at);
      if (section !== undefined && section !== allowed && this.checks(section, allowed)) return section;
    }
    return undefined;
  }

  #overlapByTable(offset: number, end: number, allowed: Section | undefined): Section | undefined {
    for (const [at, section] of this.#tables) {
      const hit = section !== allowed && at < end && offset < at + this.#clusterSize;
      if (hit && this.checks(section, allowed)) return section;
    }
    return undefined;
  }

  #roundUp(bytes: number): number {
    return Math.ceil(bytes / this.#clusterSize) * this.#clusterSize;
  }
}
