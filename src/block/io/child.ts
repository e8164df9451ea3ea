/**
 * A child edge: what a parent (a node, a job, a block backend) holds of a node. All I/O of a parent goes through its edge, which checks
 * that the parent took the permission it uses, counts the request, and publishes it on the channel `blockwright:request` while somebody
 * listens. Source: QEMU's BdrvChild.
 *
 * Invariants: a request is handed on as it came, so that nobody waits for the counting; without listeners nothing is made for a request
 * that is answered at once.
 */
import { type Answer, isPromise } from "../../base/answer.ts";
import { assert, AssertionError } from "../../base/assert.ts";
import {
  type BlockStatus,
  type ChildRole,
  type RequestFlags,
  type TruncateOptions,
  Req,
  type Permissions,
} from "../model/contract.ts";
import type { FilePart } from "../../base/host.ts";
import type { ByteRange, FileZeroes } from "../../base/ranges.ts";
import { copyRanges } from "./copy-range.ts";
import * as io from "./io.ts";
import { flush } from "./request-path.ts";
import type { BlockNode, Child, ChildParent, AccountedKind } from "../model/node.ts";
import { Perm } from "../model/permissions.ts";
import { blockStatus } from "./status.ts";
import { pdiscard, pwriteZeroes } from "./zeroes.ts";

/** What is published of a request when it is over. */
interface RequestMessage extends ByteRange {
  operation: "read" | "write" | "write-zeroes" | "discard" | "flush";
  /** Name of the node, and of its driver. */
  node: string;
  driver: string;
  /** Who asked, in words. */
  user: string;
  durationMs: number;
  /** What it failed with, if it did. */
  error?: unknown;
}

/** Counts a request that has been issued. */
export function counted(
  node: BlockNode,
  kind: AccountedKind,
  bytes: number,
  answer: Answer<void>,
): Answer<void> {
  if (!isPromise(answer)) {
    node.account.done(kind, bytes);
    return undefined;
  }
  const { account } = node;
  const { clock } = node.services.host;
  const fromMs = clock.nowMs();
  answer.then(
    () => account.done(kind, bytes, clock.nowMs() - fromMs),
    () => account.failed(kind, clock.nowMs() - fromMs),
  );
  return answer;
}

/** A request that is about to be published. */
export type Told = Pick<RequestMessage, "operation" | "offset" | "bytes">;

/** Publishes a request when it is over; `issue` issues it. Only while somebody listens. */
export function told(
  node: BlockNode,
  parent: ChildParent,
  request: Told,
  issue: () => Answer<void>,
): Answer<void> {
  const { clock } = node.services.host;
  const fromMs = clock.nowMs();
  const tell = (failure: { error?: unknown }): void => {
    const durationMs = clock.nowMs() - fromMs;
    const about = { node: node.name, driver: node.type.name, user: parent.describe(), durationMs };
    node.watchers?.publish({ ...request, ...about, ...failure } satisfies RequestMessage);
  };
  const answer = issue();
  if (isPromise(answer))
    answer.then(
      () => tell({}),
      (error: unknown) => tell({ error }),
    );
  else tell({});
  return answer;
}

/** One edge of the graph. Made by graph/edges.ts only. */
export class ChildEdge implements Child {
  readonly name: string;
  readonly role: ChildRole;
  readonly parent: ChildParent;
  node: BlockNode;
  perm: number;
  shared: number;
  /** A frozen edge may not be moved or removed (backing links below a job). */
  frozen = false;
  /** Whether drainedBegin was passed to the parent for the node's current drain. */
  quiescedParent = false;

  constructor(init: { name: string; role: ChildRole; parent: ChildParent; node: BlockNode } & Permissions) {
    this.name = init.name;
    this.role = init.role;
    this.parent = init.parent;
    this.node = init.node;
    this.perm = init.perm;
    this.shared = init.shared;
  }

  /** Length of the node, bytes. */
  get length(): number {
    return this.node.length;
  }

  /** Fills `buffer` from `offset`; beyond the node's end it reads zeroes. */
  pread(offset: number, buffer: Uint8Array, flags: RequestFlags = 0): Answer<void> {
    const { node } = this;
    const bytes = buffer.byteLength;
    if (node.watchers?.hasSubscribers)
      return told(node, this.parent, { operation: "read", offset, bytes }, () =>
        counted(node, "read", bytes, io.pread(node, offset, buffer, flags)),
      );
    return counted(node, "read", bytes, io.pread(node, offset, buffer, flags));
  }

  /** Writes `buffer` at `offset`; needs write (or write-unchanged with that flag), and resize beyond the end. */
  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags = 0): Answer<void> {
    const { node } = this;
    const bytes = buffer.byteLength;
    this.#checkWrite(offset, bytes, flags);
    if (node.watchers?.hasSubscribers)
      return told(node, this.parent, { operation: "write", offset, bytes }, () =>
        counted(node, "write", bytes, io.pwrite(node, offset, buffer, flags)),
      );
    return counted(node, "write", bytes, io.pwrite(node, offset, buffer, flags));
  }

  /** Writes what lies in files of the host; not while somebody listens to requests, who is to see each. */
  copyRanges(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined {
    const { node } = this;
    let bytes = 0;
    for (let index = 0; index < parts.length; index++) {
      const { offset, source } = parts[index]!;
      this.#checkWrite(offset, source.bytes, 0);
      bytes += source.bytes;
    }
    if (node.watchers?.hasSubscribers) return undefined;
    const copying = copyRanges(node, parts, zeroes);
    if (copying)
      void counted(
        node,
        "write",
        bytes,
        copying.then(() => undefined),
      );
    return copying;
  }

  /** Makes the range read as zeroes. */
  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags = 0): Answer<void> {
    this.#checkWrite(offset, bytes, flags);
    const { node } = this;
    // A user's own node does as it is asked; those below it as their options say. Source: behaviour of QEMU 7.2.
    const keeps = this.parent.parentNode !== undefined && node.options.discard !== "unmap";
    const effective = keeps ? flags & ~Req.mayUnmap : flags;
    return this.#told("write-zeroes", { offset, bytes }, () =>
      counted(node, "write", bytes, pwriteZeroes(node, offset, bytes, effective)),
    );
  }

  /** Drops the range's content, if the node honours discards. */
  pdiscard(offset: number, bytes: number): Answer<void> {
    this.#checkWrite(offset, bytes, 0);
    const { node } = this;
    // One that the node does not honour is no request.
    if (node.options.discard !== "unmap") return pdiscard(node, offset, bytes);
    return this.#told("discard", { offset, bytes }, () =>
      counted(node, "unmap", bytes, pdiscard(node, offset, bytes)),
    );
  }

  /** Makes completed writes durable. */
  flush(): Answer<void> {
    const { node } = this;
    return this.#told("flush", { offset: 0, bytes: 0 }, () => counted(node, "flush", 0, flush(node)));
  }

  /** Status of a range of the node itself. */
  blockStatus(offset: number, bytes: number, wantZero = true): Answer<BlockStatus> {
    return blockStatus(this.node, offset, bytes, wantZero);
  }

  /** Changes the node's length; needs resize. */
  truncate(size: number, options: TruncateOptions): Answer<void> {
    assert(
      this.perm & Perm.resize,
      `${this.parent.describe()} has no resize permission on '${this.node.name}'`,
    );
    return io.truncate(this.node, size, options);
  }

  /** Issues a request that is not frequent, and publishes it where somebody listens. */
  #told(operation: Told["operation"], { offset, bytes }: ByteRange, issue: () => Answer<void>): Answer<void> {
    const { node } = this;
    return node.watchers?.hasSubscribers
      ? told(node, this.parent, { operation, offset, bytes }, issue)
      : issue();
  }

  #checkWrite(offset: number, bytes: number, flags: RequestFlags): void {
    // Every write comes this way: no words are made for those that are in order.
    const enough = flags & Req.writeUnchanged ? Perm.write | Perm.writeUnchanged : Perm.write;
    if (!(this.perm & enough))
      throw new AssertionError(`${this.parent.describe()} writes to '${this.node.name}' without permission`);
    if (offset + bytes > this.node.length && !(this.perm & Perm.resize))
      throw new AssertionError(`write beyond the end of '${this.node.name}' without resize permission`);
  }
}
