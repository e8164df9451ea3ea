/** What `info` and the human monitor print of an image. Source: output of qemu-img 7.2. */
import type { TypeOf } from "../wire/qapi/index.ts";
import { snapshotTable } from "./snapshot-table.ts";
import { specificLines } from "./specific.ts";
import { formatBytes } from "./units.ts";

/** A snapshot of the wire as the library has it. */
function ownSnapshot(told: TypeOf<"SnapshotInfo">): Parameters<typeof snapshotTable>[0][number] {
  return {
    id: told.id,
    name: told.name,
    vmStateBytes: told["vm-state-size"],
    dateSeconds: told["date-sec"],
    dateNanoseconds: told["date-nsec"],
    vmClockSeconds: told["vm-clock-sec"],
    vmClockNanoseconds: told["vm-clock-nsec"],
    ...(told.icount === undefined ? {} : { icount: told.icount }),
  };
}

/** The lines of an image, with one list of its snapshots. */
export function imageText(told: TypeOf<"ImageInfo">): string {
  const size = told["virtual-size"];
  const actual = told["actual-size"];
  const lines = [
    `image: ${told.filename}`,
    `file format: ${told.format}`,
    `virtual size: ${formatBytes(size)} (${size} bytes)`,
    `disk size: ${actual === undefined ? "unavailable" : formatBytes(actual)}`,
  ];
  if (told.encrypted) lines.push("encrypted: yes");
  if (told["cluster-size"] !== undefined) lines.push(`cluster_size: ${told["cluster-size"]}`);
  if (told["dirty-flag"]) lines.push("cleanly shut down: no");
  const backing = told["backing-filename"];
  const full = told["full-backing-filename"];
  if (backing !== undefined) {
    const where = full === undefined ? "cannot determine actual path" : `actual path: ${full}`;
    lines.push(`backing file: ${backing}${full === backing ? "" : ` (${where})`}`);
  }
  const backingFormat = told["backing-filename-format"];
  if (backingFormat !== undefined) lines.push(`backing file format: ${backingFormat}`);
  if (told.snapshots) lines.push(snapshotTable(told.snapshots.map(ownSnapshot)).trimEnd());
  const specific = told["format-specific"];
  if (specific) lines.push(...specificLines(specific.data));
  return `${lines.join("\n")}\n`;
}
