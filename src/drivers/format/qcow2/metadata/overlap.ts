/**
 * Knows where the image's metadata lies, so that no write can land on it by mistake (a corrupt refcount would otherwise
 * make the allocator hand out a table). Holds what is known without further I/O, QEMU's `overlap-check=cached`; the other
 * modes enter the rest. A mode says which metadata writes are kept off: a template stands for a set of sections, and a flag
 * puts one in or takes it out. Sources: QAPI Qcow2OverlapCheckFlags; words and behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../../base/errors.ts";
import type { NodeSpec } from "../../../../block/model/contract.ts";
import { valuesOf } from "../../../../wire/qapi/option-types.ts";

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

/** From the smallest set of sections to the largest. */
const templates = valuesOf("Qcow2OverlapCheckMode");
type Template = (typeof templates)[number];

/** Each flag, its section, and the first template that has it. */
const flags: readonly (readonly [string, Section, Template])[] = [
  ["main-header", "qcow2_header", "constant"],
  ["active-l1", "active L1 table", "constant"],
  ["active-l2", "active L2 table", "cached"],
  ["refcount-table", "refcount table", "constant"],
  ["refcount-block", "refcount block", "cached"],
  ["snapshot-table", "snapshot table", "constant"],
  ["inactive-l1", "inactive L1 table", "cached"],
  ["inactive-l2", "inactive L2 table", "all"],
  ["bitmap-directory", "bitmap directory", "constant"],
];

/** The template of a name. Throws CommandError. */
export function templateOf(value: unknown): Template {
  const template = templates.find((known) => known === value);
  if (template) return template;
  const allowed = `Allowed are any of the following: ${templates.join(", ")}`;
  throw new CommandError(`Unsupported value '${String(value)}' for qcow2 option 'overlap-check'. ${allowed}`);
}

/** The sections that the option chooses. Throws CommandError for an unknown template. */
export function checkedSections(spec: NodeSpec): ReadonlySet<Section> {
  const option = spec["overlap-check"] ?? "cached";
  const given =
    typeof option === "object" ? (option as Readonly<Record<string, unknown>>) : { template: option };
  const level = templates.indexOf(templateOf(given["template"] ?? "cached"));
  const chosen = flags.filter(([flag, , first]) => given[flag] ?? templates.indexOf(first) <= level);
  return new Set(chosen.map(([, section]) => section));
}

/** Puts a choice of sections in force. */
export function checkSections(metadata: MetadataMap, sections: ReadonlySet<Section>): void {
  metadata.checks = (section, allowed) => {
    // A table that the disk shares with a snapshot: its flags may change.
    if (section === "inactive L2 table" && allowed === "active L2 table") return false;
    return sections.has(section);
  };
}
