/**
 * What is counted of requests: of a node, all that its users ask of it; of a guest's device, what its guest does. Source:
 * QEMU's block accounting; the counters of nodes are ours.
 *
 * Invariants: counters only grow; a request counts once, when it is over, either as an operation or as a failed one.
 */
import type { BlockDriver } from "./contract.ts";
import type { LatencyHistogram } from "./latency.ts";

/** The kinds that are told apart. Writing zeroes is a write. */
export type AccountedKind = "read" | "write" | "flush" | "unmap";

/** The kinds, in the order of QEMU's statistics. */
export const accountedKinds: readonly AccountedKind[] = ["read", "write", "flush", "unmap"];

/** The counters of one kind. */
export class OperationAccount {
  operations = 0;
  bytes = 0;
  failed = 0;
  /** Refused before they were requests: outside of the disk. */
  invalid = 0;
  /** Time that they took together, ms. Of a node: from when they had to be waited for. */
  timeMs = 0;
}

/** The counters of a node or a device. */
export class Account implements Readonly<Record<AccountedKind, OperationAccount>> {
  readonly read = new OperationAccount();
  readonly write = new OperationAccount();
  readonly flush = new OperationAccount();
  readonly unmap = new OperationAccount();
  /** End of the last request, on the Host's monotonic clock, ms. Of devices only. */
  lastAccessMs: number | undefined;
  /** Of those kinds that somebody asked to look at. */
  readonly latency: Partial<Record<AccountedKind, LatencyHistogram>> = {};

  /** A request has ended well. */
  done(kind: AccountedKind, bytes: number, tookMs = 0): void {
    const account = this[kind];
    account.operations += 1;
    account.bytes += bytes;
    account.timeMs += tookMs;
    this.latency[kind]?.add(tookMs * 1e6);
  }

  /** A request has failed. */
  failed(kind: AccountedKind, tookMs = 0): void {
    const account = this[kind];
    account.failed += 1;
    account.timeMs += tookMs;
    this.latency[kind]?.add(tookMs * 1e6);
  }
}

/** A driver whose discards are told apart in its statistics, as QEMU's drivers of files have them. */
export interface CountsDiscards {
  readonly countsDiscards: true;
}

/** Whether a driver is one. */
export function countsDiscards(driver: BlockDriver): boolean {
  return "countsDiscards" in driver;
}
