/**
 * The subcommands of `info` that are about blocks and the machine's state. Source: behaviour of QEMU 7.2's human monitor.
 */
import type { TypeOf } from "../../../wire/qapi/index.ts";
import { treeText } from "../../../machine/board/qtree.ts";
import { type HmpCommand, type HmpHost, parameters, text } from "./command.ts";
import { infoSnapshots } from "./snapshots.ts";
import { blockParagraph } from "./info-block.ts";

async function infoBlock(
  host: HmpHost,
  { nodes, verbose, device }: { nodes: boolean; verbose: boolean; device: string | undefined },
): Promise<string> {
  const images = (row: TypeOf<"BlockDeviceInfo"> | undefined): string =>
    verbose && row ? `\nImages:\n${chainOf(row.image).map(host.imageText).join("")}` : "";
  if (nodes) {
    const rows = (await host.execute("query-named-block-nodes", {})) as TypeOf<"BlockDeviceInfo">[];
    return paragraphs(
      rows,
      (row) => row["node-name"] === device || device === undefined,
      (row) => blockParagraph(undefined, row) + images(row),
    );
  }
  const rows = (await host.execute("query-block", {})) as TypeOf<"BlockInfo">[];
  const found = paragraphs(
    rows,
    (row) => row.device === device || device === undefined,
    (row) => blockParagraph(row, row.inserted) + images(row.inserted),
  );
  // A name that no drive has may be a node's.
  return found === "" && device !== undefined ? infoBlock(host, { nodes: true, verbose, device }) : found;
}

/** An image, and those below it. */
function chainOf(image: TypeOf<"ImageInfo">): TypeOf<"ImageInfo">[] {
  const below = image["backing-image"];
  return below ? [image, ...chainOf(below)] : [image];
}

/** Those that are wanted; before each that is not the first of all there is an empty line. */
function paragraphs<R>(rows: readonly R[], isWanted: (row: R) => boolean, text: (row: R) => string): string {
  return rows.map((row, at) => (isWanted(row) ? (at > 0 ? "\n" : "") + text(row) : "")).join("");
}

async function infoJobs(host: HmpHost): Promise<string> {
  const jobs = (await host.execute("query-block-jobs", {})) as TypeOf<"BlockJobInfo">[];
  if (jobs.length === 0) return "No active jobs\n";
  return jobs.map((job) => `${jobLine(job)}\n`).join("");
}

function jobLine({ type, device, offset, len, speed }: TypeOf<"BlockJobInfo">): string {
  if (type === "stream")
    return `Streaming device ${device}: Completed ${offset} of ${len} bytes, speed limit ${speed} bytes/s`;
  return `Type ${type}, device ${device}: Completed ${offset} of ${len} bytes, speed limit ${speed} bytes/s`;
}

async function infoStats(host: HmpHost): Promise<string> {
  const rows = (await host.execute("query-blockstats", {})) as TypeOf<"BlockStats">[];
  return rows
    .filter(({ device }) => device !== undefined && device !== "")
    .map(({ device, stats }) => `${device}: ${statsWords(stats)}\n`)
    .join("");
}

function statsWords(stats: TypeOf<"BlockDeviceStats">): string {
  const words = [
    ...["rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns"],
    ...["rd_total_time_ns", "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns"],
  ];
  const values: Readonly<Record<string, unknown>> = { ...stats };
  return words.map((name) => `${name}=${Number(values[name] ?? 0)}`).join(" ");
}

async function infoStatus(host: HmpHost): Promise<string> {
  const { status, running } = (await host.execute("query-status", {})) as TypeOf<"StatusInfo">;
  return `VM status: ${running ? "running" : "paused"}${running || status === "paused" ? "" : ` (${status})`}\n`;
}

/** The subcommands. */
export const infoCommands: readonly HmpCommand[] = [
  {
    name: "block",
    parameters: parameters("-n:nodes -v:verbose device:B?"),
    synopsis: "[-n] [-v] [device]",
    help: "show info of one block device or all block devices (-n: show named nodes; -v: show more details)",
    run: (host, args) => {
      const [nodes, verbose] = [args["nodes"] === true, args["verbose"] === true];
      return infoBlock(host, { nodes, verbose, device: text(args, "device") });
    },
  },
  {
    name: "block-jobs",
    parameters: [],
    synopsis: "",
    help: "show progress of ongoing block device operations",
    run: infoJobs,
  },
  { name: "blockstats", parameters: [], synopsis: "", help: "show block device statistics", run: infoStats },
  {
    name: "qtree",
    parameters: [],
    synopsis: "",
    help: "show the buses and devices that are about disks, with their properties",
    run: ({ board, hasChips }) => treeText(board, hasChips),
  },
  infoSnapshots,
  {
    name: "status",
    parameters: [],
    synopsis: "",
    help: "show the current VM status (running|paused)",
    run: infoStatus,
  },
  {
    name: "version",
    parameters: [],
    synopsis: "",
    help: "show the version of QEMU",
    run: ({ versionText }) => `${versionText}\n`,
  },
];
