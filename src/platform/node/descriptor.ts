/**
 * A file descriptor that is closed only when no request uses it any more, so that a file can be reopened in another mode
 * while requests are under way: they end on the descriptor that they began on.
 */
import * as fs from "node:fs";
import { nodeError, settle } from "./errors.ts";

/** Flags of fs.constants for a file: never waits on a FIFO, never makes a terminal ours. */
export function openFlags({ write, direct }: { write: boolean; direct: boolean }): number {
  const { O_RDWR, O_RDONLY, O_DIRECT, O_NONBLOCK, O_NOCTTY } = fs.constants;
  return (write ? O_RDWR : O_RDONLY) | (direct ? (O_DIRECT ?? 0) : 0) | (O_NONBLOCK ?? 0) | (O_NOCTTY ?? 0);
}

/** fs.open as a promise of a descriptor's number; fails with a BlockError of operation `op`. */
export function openDescriptor(path: string, flags: number, op: string): Promise<number> {
  return new Promise((resolve, reject) => {
    try {
      fs.open(path, flags, 0o644, (error, fd) => (error ? reject(nodeError(error, op)) : resolve(fd)));
    } catch (error) {
      reject(nodeError(error, op));
    }
  });
}

/** An open descriptor and the requests that use it. */
export class Descriptor {
  readonly fd: number;
  #users = 0;
  #whenIdle: (() => void) | undefined;

  constructor(fd: number) {
    this.fd = fd;
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

  /** Closes after the last request; reports what close(2) says. Nothing may begin any more. */
  async close(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve));
    await new Promise<void>((resolve, reject) => fs.close(this.fd, settle("close", resolve, reject)));
  }
}
