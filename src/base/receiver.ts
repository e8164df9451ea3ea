/**
 * Who is told of what comes over a connection, byte by byte as it comes: for those who need no queue of it, and no copies.
 */
import type { BlockError } from "./errors.ts";

/** Who takes what comes over a connection at once, in place of `incoming`. */
export interface HostReceiver {
  /** Bytes that came; they are the receiver's until it returns, then their memory is used again. */
  take(bytes: Uint8Array): void;
  /**
   * Where the next bytes are to be put, where the platform can: what is put there is told by placed(), not by take(). Undefined:
   * nowhere; what comes is to be taken. The memory is the platform's until it is told, or the connection has ended.
   */
  place?(): Uint8Array | undefined;
  /** So many bytes, at least one, were put into the memory that place() gave last. */
  placed?(count: number): void;
  /** Nothing more comes: the peer closed its direction, or the connection is lost. Told once. */
  end(error?: BlockError): void;
}
