/**
 * The statistics of nodes and guest devices, as the monitor's query-blockstats and the library's stats() tell them. Source: QAPI
 * block-core schema and behaviour of QEMU 7.2, whose nodes count nothing but the end of the highest write.
 */
import type { TypeOf } from "../wire/qapi/index.ts";
import { type Account, countsDiscards, type BlockNode } from "./model/node.ts";
import { filterOrCow, skipFilters, skipImplicitFilters } from "./model/chain.ts";
import type { LatencyHistogram } from "./model/latency.ts";

type Stats = TypeOf<"BlockDeviceStats">;

const nanoseconds = (ms: number): number => Math.round(ms * 1e6);

/** BlockDeviceStats of an account. `device`: it is a guest's, and counts what it refuses; with its time since the last request. */
export function accountStats(
  account: Account,
  highestWrite: number,
  device?: { readonly nowMs: number },
): Stats {
  const { read, write, flush, unmap, lastAccessMs } = account;
  const idleMs = device && lastAccessMs !== undefined ? device.nowMs - lastAccessMs : undefined;
  return {
    rd_bytes: read.bytes,
    wr_bytes: write.bytes,
    unmap_bytes: unmap.bytes,
    rd_operations: read.operations,
    wr_operations: write.operations,
    flush_operations: flush.operations,
    unmap_operations: unmap.operations,
    rd_total_time_ns: nanoseconds(read.timeMs),
    wr_total_time_ns: nanoseconds(write.timeMs),
    flush_total_time_ns: nanoseconds(flush.timeMs),
    unmap_total_time_ns: nanoseconds(unmap.timeMs),
    wr_highest_offset: highestWrite,
    // Requests are not merged here.
    rd_merged: 0,
    wr_merged: 0,
    unmap_merged: 0,
    ...(idleMs === undefined ? {} : { idle_time_ns: nanoseconds(idleMs) }),
    failed_rd_operations: read.failed,
    failed_wr_operations: write.failed,
    failed_flush_operations: flush.failed,
    failed_unmap_operations: unmap.failed,
    invalid_rd_operations: read.invalid,
    invalid_wr_operations: write.invalid,
    invalid_flush_operations: flush.invalid,
    invalid_unmap_operations: unmap.invalid,
    account_invalid: device !== undefined,
    account_failed: device !== undefined,
    timed_stats: [],
    ...histograms(account),
  };
}

function histograms({ latency }: Account): Partial<Stats> {
  const of = (histogram: LatencyHistogram): { boundaries: number[]; bins: number[] } => ({
    boundaries: [...histogram.boundaries],
    bins: [...histogram.bins],
  });
  return {
    ...(latency.read ? { rd_latency_histogram: of(latency.read) } : {}),
    ...(latency.write ? { wr_latency_histogram: of(latency.write) } : {}),
    ...(latency.flush ? { flush_latency_histogram: of(latency.flush) } : {}),
  };
}

/** BlockStats of a node, with what it lies in. */
export function nodeStats(node: BlockNode): TypeOf<"BlockStats"> {
  const below = (node.primary ?? node.filtered)?.node;
  return { ...ownStats(node), ...(below ? { parent: nodeStats(below) } : {}) };
}

/** BlockStats of what a device shows, `stats` being the device's own: without filters of jobs, and with the backing files. */
export function chainStats(top: BlockNode, stats?: Stats): TypeOf<"BlockStats"> {
  const node = skipImplicitFilters(top);
  const below = (node.primary ?? node.filtered)?.node;
  const backing = skipFilters(node) === node ? filterOrCow(node) : undefined;
  return {
    ...ownStats(node),
    ...(stats ? { stats } : {}),
    ...(below ? { parent: chainStats(below) } : {}),
    ...(backing && backing !== below ? { backing: chainStats(backing) } : {}),
  };
}

function ownStats(node: BlockNode): Pick<TypeOf<"BlockStats">, "node-name" | "stats" | "driver-specific"> {
  const specific = discards(node);
  const stats = accountStats(node.account, node.highestWrite);
  return { "node-name": node.name, stats, ...(specific ? { "driver-specific": specific } : {}) };
}

/** What a driver of files says of its discards. */
function discards({ driver, type, account }: BlockNode): TypeOf<"BlockStatsSpecific"> | undefined {
  if (!countsDiscards(driver)) return undefined;
  const { operations, failed, bytes } = account.unmap;
  const counts = { "discard-nb-ok": operations, "discard-nb-failed": failed, "discard-bytes-ok": bytes };
  return { driver: type.name, ...counts } as TypeOf<"BlockStatsSpecific">;
}
