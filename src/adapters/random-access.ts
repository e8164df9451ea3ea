/**
 * The entry random-access: a node behind the interface of the npm package random-access-storage. Needs that package, which does
 * the queueing, opening and closing.
 * Invariants: a node has a length of its own, so a write beyond the end fails and `del` never shortens; only `truncate` changes
 * the length. A read-only node has no `write`, `del` and `truncate`.
 */
import RandomAccessStorage from "random-access-storage";
import { BlockError } from "../base/errors.ts";
import type { Node } from "../api/node.ts";
import { resize } from "../api/resize.ts";

/** Options of toRandomAccess(). */
export interface RandomAccessOptions {
  /** `close` closes the node too. Default false: it is flushed, and stays its owner's. */
  closeNode?: boolean;
}

/** What is called when an operation is over. */
export type RandomAccessCallback<T = void> = (error: Error | null, value?: T) => void;

/** The interface of random-access-storage, version 3. */
export interface RandomAccess {
  readonly readable: boolean;
  readonly writable: boolean;
  readonly deletable: boolean;
  readonly truncatable: boolean;
  readonly statable: boolean;
  readonly opened: boolean;
  readonly closed: boolean;
  /** Reads exactly `size` bytes; EIO beyond the end. */
  read(offset: number, size: number, callback: RandomAccessCallback<Uint8Array>): void;
  /** Not durable before `suspend` or `close`. */
  write(offset: number, data: Uint8Array, callback?: RandomAccessCallback): void;
  /** Makes a range read as zeroes and frees its storage where that is possible. */
  del(offset: number, size: number, callback?: RandomAccessCallback): void;
  /** Sets the length. */
  truncate(offset: number, callback?: RandomAccessCallback): void;
  /** `size` is the length of the disk, bytes. */
  stat(callback: RandomAccessCallback<{ size: number }>): void;
  open(callback?: RandomAccessCallback): void;
  /** Flushes; the next operation opens it again. */
  suspend(callback?: RandomAccessCallback): void;
  close(callback?: RandomAccessCallback): void;
  /** Refused: ENOTSUP. */
  unlink(callback?: RandomAccessCallback): void;
  on(event: "open" | "close" | "suspend" | "unsuspend" | "unlink", listener: () => void): unknown;
}

/** A node as a random-access-storage. Errors are the node's (BlockError). */
export function toRandomAccess(node: Node, options: RandomAccessOptions = {}): RandomAccess {
  const settle = async (): Promise<void> => {
    if (!node.readOnly) await node.flush();
  };
  const changing = {
    write: hook(async ({ offset, data }) => node.write(offset, data ?? new Uint8Array())),
    del: hook(async ({ offset, size }) => {
      const bytes = Math.min(size, node.length - offset);
      if (bytes > 0) await node.writeZeroes(offset, bytes, { unmap: true });
    }),
    truncate: hook(async ({ offset }) => resize(node, offset)),
  };
  return new RandomAccessStorage({
    open: hook(() => Promise.resolve()),
    read: hook(({ offset, size }) => node.read(offset, size)),
    ...(node.readOnly ? {} : changing),
    stat: hook(() => Promise.resolve({ size: node.length })),
    suspend: hook(settle),
    close: hook(async () => {
      await settle();
      if (options.closeNode) await node.close();
    }),
    unlink: hook(() => Promise.reject(new BlockError({ code: "ENOTSUP", op: "unlink", node: node.name }))),
  });
}

/** What random-access-storage hands to a hook. */
interface Request {
  readonly offset: number;
  readonly size: number;
  readonly data: Uint8Array | null;
  callback(error: Error | null, value?: unknown): void;
}

/** Answers with what the body resolves to. What the callback throws is its caller's, not an answer. */
function hook(body: (request: Request) => Promise<unknown>): (request: Request) => void {
  return (request) => {
    body(request).then(
      (value) => queueMicrotask(() => request.callback(null, value)),
      (error: unknown) =>
        queueMicrotask(() => request.callback(error instanceof Error ? error : new Error(String(error)))),
    );
  };
}
