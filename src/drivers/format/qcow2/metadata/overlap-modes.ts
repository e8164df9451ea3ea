/**
 * The modes of `overlap-check`: which metadata writes are kept off. A template stands for a set of sections, and a flag
 * puts one in or takes it out. Sources: QAPI Qcow2OverlapCheckFlags; words and behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../../base/errors.ts";
import type { NodeSpec } from "../../../../block/model/contract.ts";
import type { MetadataMap, Section } from "./overlap.ts";
import { valuesOf } from "../../../../wire/qapi/option-types.ts";

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
