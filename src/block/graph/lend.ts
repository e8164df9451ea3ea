/**
 * Reading a disk where it lies in a file of the host, by somebody who can take it from there (a socket of the platform's).
 *
 * Invariant: it is a read of the node as any other: it is counted, a drain waits for it, it waits for nobody. Where it would have to wait, to be
 * changed or to be told of, nothing is lent. What is read later is what is there then, as with any read that a write overtakes.
 */
import { type Answer, isPromise } from "../../base/answer.ts";
import type { FileRange } from "../../base/host.ts";
import type { ByteRange } from "../../base/ranges.ts";
import { counted } from "../io/child.ts";
import { isPlain, tracked } from "../io/request-path.ts";
import type { BlockBackend } from "./backend.ts";

/** Reads from a file of the host; false: it did not, and nothing has happened. Errors are the reader's. */
export type UseOfFile = (range: FileRange) => Answer<void> | false;

/** Has `use` read a range. False: pread() is to read it, or to tell what is wrong with it. */
export function lend(
  backend: BlockBackend,
  { offset, bytes }: ByteRange,
  use: UseOfFile,
): Answer<void> | false {
  const { node } = backend;
  if (!node?.isOpen || backend.mustWait() || backend.throttle || node.watchers?.hasSubscribers) return false;
  if (node.driver.debugEvent || offset + bytes > node.length || !isPlain(node, offset, bytes)) return false;
  const place = node.driver.fileRange?.(offset, bytes);
  const lent = place !== undefined && use(place);
  if (lent === false) return false;
  const reading = isPromise(lent) ? tracked(node, { kind: "read", offset, bytes }, lent) : lent;
  return backend.counted(counted(node, "read", bytes, reading));
}
