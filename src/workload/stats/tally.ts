/** What was measured of a worker, or of all: by operation, how many requests, bytes and failures, and how long they took. */
import { type Operation, operations } from "../model/plan.ts";
import { Histogram, type Latencies } from "./histogram.ts";

/** What a result tells of an operation. */
export interface OperationResult {
  readonly requests: number;
  readonly bytes: number;
  readonly errors: number;
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  /** From when a request was meant to begin. */
  readonly response: Latencies;
  /** From when it was sent. */
  readonly service: Latencies;
}

interface Row {
  requests: number;
  bytes: number;
  errors: number;
  readonly response: Histogram;
  readonly service: Histogram;
}

/** A measured request. */
export interface Measured {
  readonly operation: Operation;
  readonly bytes: number;
  readonly responseNs: number;
  readonly serviceNs: number;
  readonly failed: boolean;
}

/** Counts of requests by operation. */
export class Tally {
  readonly #rows = new Map<Operation, Row>();

  /** Counts a request. */
  record({ operation, bytes, responseNs, serviceNs, failed }: Measured): void {
    const row = this.#row(operation);
    row.requests += 1;
    if (failed) row.errors += 1;
    else row.bytes += bytes;
    row.response.record(responseNs);
    row.service.record(serviceNs);
  }

  /** Adds another one up. */
  add(other: Tally): void {
    for (const [operation, row] of other.#rows) {
      const own = this.#row(operation);
      own.requests += row.requests;
      own.bytes += row.bytes;
      own.errors += row.errors;
      own.response.add(row.response);
      own.service.add(row.service);
    }
  }

  /** What results tell, over a measured time, ns. */
  results(elapsedNs: number): Partial<Record<Operation, OperationResult>> {
    const results: Partial<Record<Operation, OperationResult>> = {};
    const perSecond = (count: number): number => (elapsedNs > 0 ? (count * 1e9) / elapsedNs : 0);
    for (const operation of operations) {
      const row = this.#rows.get(operation);
      if (!row) continue;
      results[operation] = {
        requests: row.requests,
        bytes: row.bytes,
        errors: row.errors,
        requestsPerSecond: perSecond(row.requests),
        bytesPerSecond: perSecond(row.bytes),
        response: row.response.summary(),
        service: row.service.summary(),
      };
    }
    return results;
  }

  #row(operation: Operation): Row {
    let row = this.#rows.get(operation);
    if (!row) {
      row = { requests: 0, bytes: 0, errors: 0, response: new Histogram(), service: new Histogram() };
      this.#rows.set(operation, row);
    }
    return row;
  }
}
