/**
 * `info block`: devices or nodes, a paragraph each. Source: behaviour of QEMU 7.2's hmp_info_block.
 */
import type { TypeOf } from "../../../wire/qapi/index.ts";

type Inserted = TypeOf<"BlockDeviceInfo">;

/** The paragraph of a device, of which a node may be inserted, or of a node alone. */
export function blockParagraph(
  info: TypeOf<"BlockInfo"> | undefined,
  inserted: Inserted | undefined,
): string {
  const lines = [`${titleOf(info, inserted)}: ${fileOf(inserted)}`, ...(info ? deviceLines(info) : [])];
  if (inserted) lines.push(...imageLines(inserted));
  return lines.map((line) => `${line}\n`).join("");
}

function titleOf(info: TypeOf<"BlockInfo"> | undefined, inserted: Inserted | undefined): string {
  const node = inserted?.["node-name"];
  if (info && info.device !== "") return node === undefined ? info.device : `${info.device} (${node})`;
  return node ?? info?.qdev ?? "<anonymous>";
}

function fileOf(inserted: Inserted | undefined): string {
  if (!inserted) return "[not inserted]";
  const { file, drv, ro, encrypted } = inserted;
  return `${file} (${drv}${ro ? ", read-only" : ""}${encrypted ? ", encrypted" : ""})`;
}

function row(title: string, value: string): string {
  return `    ${`${title}:`.padEnd(18)}${value}`;
}

function deviceLines(info: TypeOf<"BlockInfo">): string[] {
  const lines = info.qdev === undefined ? [] : [row("Attached to", info.qdev)];
  const status = info["io-status"];
  if (status !== undefined && status !== "ok") lines.push(row("I/O status", status));
  if (info.removable)
    lines.push(
      row(
        "Removable device",
        `${info.locked ? "" : "not "}locked, tray ${info.tray_open ? "open" : "closed"}`,
      ),
    );
  return lines;
}

function imageLines(inserted: Inserted): string[] {
  const { cache, backing_file: backing, detect_zeroes: detect } = inserted;
  const mode = cache.writeback ? "writeback" : "writethrough";
  const lines = [
    row(
      "Cache mode",
      `${mode}${cache.direct ? ", direct" : ""}${cache["no-flush"] ? ", ignore flushes" : ""}`,
    ),
  ];
  if (backing !== undefined)
    lines.push(row("Backing file", `${backing} (chain depth: ${inserted.backing_file_depth})`));
  if (detect !== "off") lines.push(row("Detect zeroes", detect));
  const limits = throttling(inserted);
  return limits === undefined ? lines : [...lines, row("I/O throttling", limits)];
}

const limitNames = [
  ...["bps", "bps_rd", "bps_wr", "bps_max", "bps_rd_max", "bps_wr_max"],
  ...["iops", "iops_rd", "iops_wr", "iops_max", "iops_rd_max", "iops_wr_max", "iops_size"],
] as const;

/** The limits; undefined where there are none. */
function throttling(inserted: Inserted): string | undefined {
  const values: Readonly<Record<string, unknown>> = inserted;
  if (!["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"].some((name) => Number(values[name]) > 0))
    return undefined;
  const words = limitNames.map((name) => `${name}=${Number(values[name] ?? 0)}`);
  return `${words.join(" ")} group=${inserted.group ?? ""}`;
}
