/** What keeps the jobs of a queue: the package's classes over one kind of server. */
import type * as Bull from "bullmq";
import type { Job, Queue, Worker } from "bullmq";
import { rootMessage } from "../../base/errors.ts";
import { FleetError, type FleetJob } from "../../fleet/jobs.ts";
import type { PlaceCounter } from "./shared-places.ts";

/** What a job holds in the queue. */
export interface Held {
  readonly job: FleetJob;
  readonly spec: string;
  readonly isCancelled?: boolean;
  /** How often it had stalled when somebody last wanted it to be tried again. */
  readonly stalls?: number;
}

/** A job of the queue. */
export type HeldJob = Job<Held>;

/** A queue that is connected, or will be, or could not be. */
export interface OpenedQueue {
  readonly queue: Queue<Held>;
  /** Resolves when it may be asked. Throws FleetError for a server that can't be used as its URL says. */
  reach(this: void): Promise<unknown>;
  /** Bytes that have come from the server. */
  heard(this: void): number;
  close(): Promise<void>;
}

/** The classes of the package, over one backend. */
export interface Backend {
  readonly package: typeof Bull;
  /** For calls that shall fail soon where there is no server. */
  queue(name: string): OpenedQueue;
  /** For a worker, which waits for the server. */
  worker(
    name: string,
    run: (job: Job<Held>, token?: string) => Promise<unknown>,
    options: object,
  ): Worker<Held>;
  /** Who counts the places of a queue. */
  places(name: string): PlaceCounter;
}

/** Why a queue can't be asked. */
export function queueReason(error: unknown): string {
  const text = rootMessage(error);
  const wantsPassword = /^NOAUTH |client password must be a string/.test(text);
  return wantsPassword
    ? "the server wants a password: it belongs into the URL (PostgreSQL's also into PGPASSWORD)"
    : text;
}

/** Loads an optional package. Throws FleetError, which says how to get it. */
export async function loadPackage<T>(load: () => Promise<T>, install: string): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ERR_MODULE_NOT_FOUND" && code !== "MODULE_NOT_FOUND") throw error;
    throw new FleetError(
      `this queue needs packages that are not installed: npm i ${install} (with -g where blockwright was)`,
    );
  }
}
