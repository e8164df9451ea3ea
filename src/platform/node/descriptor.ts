/**
 * A file descriptor that is closed only when no request uses it any more, so that a file can be reopened in another mode
 * while requests are under way: they end on the descriptor that they began on.
 */
import * as fs from "node:fs";
import { Lane } from "./lanes.ts";

/** Flags of fs.constants for a file: never waits on a FIFO, never makes a terminal ours. */
export function openFlags({ write, direct }: { write: boolean; direct: boolean }): number {
  const { O_RDWR, O_RDONLY, O_DIRECT, O_NONBLOCK, O_NOCTTY } = fs.constants;
  return (write ? O_RDWR : O_RDONLY) | (direct ? (O_DIRECT ?? 0) : 0) | (O_NONBLOCK ?? 0) | (O_NOCTTY ?? 0);
}

/** fs.open as a promise of a descriptor's number; fails with a BlockError of operation `op`. */
export async function openDescriptor(path: string, flags: number, op: string): Promise<number> {
  return (await new Lane().make({ call: "open", path, flags, mode: 0o644 }, op)) as number;
}

/** An open descriptor and the requests that use it. */
export class Descriptor {
  readonly fd: number;
  readonly #lane: Lane;
  #users = 0;
  #whenIdle: (() => void) | undefined;

  constructor(fd: number, lane: Lane) {
    this.fd = fd;
    this.#lane = lane;
  }

  /** A request begins. */
  acquire(): this {
    this.#users += 1;
    return this;
  }

  /** A request has ended. */
  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#whenIdle?.();
  }

  /**
   * Closes after the last request; reports what close(2) says. Nothing may begin any more. The descriptor of a file that
   * was given up stays open: what is stuck below may still use it.
   */
  async close(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve));
    if (!this.#lane.givenUp) await this.#lane.make({ call: "close", fd: this.fd }, "close");
  }
}
