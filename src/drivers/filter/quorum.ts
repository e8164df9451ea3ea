/**
 * quorum: several copies of one disk. What is written goes to all; what is read is what enough of them agree on, or (`fifo`) what the
 * first one that can be read holds. Copies that fail or differ are told by QUORUM_REPORT_BAD, and too few that agree by QUORUM_FAILURE.
 *
 * Invariants: a request succeeds if and only if at least `vote-threshold` copies carried it out, and for a read agree; the children
 * are of one length. Source: QAPI BlockdevOptionsQuorum; behaviour and words of QEMU 7.2.
 */
import { assert } from "../../base/assert.ts";
import { strerror } from "../../base/errno.ts";
import { type BlockError, blockError, CommandError, errnoOf } from "../../base/errors.ts";
import type { Errno } from "../../base/errno.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type ChildList,
  type ChildRef,
  type ChildRole,
  type DriverType,
  type Edge,
  type NodeSpec,
  type NodeView,
  type OpenContext,
  type Permissions,
  type RequestFlags,
  Role,
} from "../../block/model/contract.ts";
import { allocatedBytes } from "../../block/model/allocated.ts";
import { filterPermissions, Perm } from "../../block/model/permissions.ts";
import { booleanOption, optionError, sizeOption, stringOption } from "../../block/model/options.ts";

const SECTOR = 512;
const MAX_CHILDREN = 32;

type Operation = "read" | "write" | "flush";

interface Settings {
  readonly threshold: number;
  readonly isBlkverify: boolean;
  readonly rewrites: boolean;
  readonly isFifo: boolean;
}

/** What one copy read. */
interface Ballot {
  readonly child: Edge;
  readonly bytes: Uint8Array;
}

interface Range {
  readonly offset: number;
  readonly bytes: number;
}

class QuorumDriver implements BlockDriver {
  readonly #node: NodeView;
  #children: readonly Edge[];
  readonly #settings: Settings;
  /** The number in the next child's name. */
  #next: number;
  readonly childList: ChildList = {
    next: () => this.#nextChild(),
    checkRemoval: () => this.#checkRemoval(),
    mayReplace: (node) => this.#children.some((child) => child.node === node),
    added: (child) => {
      assert(!this.#children.includes(child), "a copy comes once");
      this.#children = [...this.#children, child];
      this.#next += 1;
    },
    removed: (child) => this.#removed(child),
  };

  constructor(node: NodeView, children: readonly Edge[], settings: Settings) {
    this.#node = node;
    this.#children = children;
    this.#settings = settings;
    this.#next = children.length;
  }

  #nextChild(): { name: string; role: ChildRole } {
    if (this.#settings.isBlkverify)
      throw new CommandError("Cannot add a child to a quorum in blkverify mode");
    if (this.#children.length >= MAX_CHILDREN) throw new CommandError("Too many children");
    return { name: `children.${this.#next}`, role: Role.data };
  }

  #checkRemoval(): void {
    const { threshold } = this.#settings;
    if (this.#children.length > threshold) return;
    throw new CommandError(`The number of children cannot be lower than the vote threshold ${threshold}`);
  }

  /** The last number is given again, others are not. */
  #removed(child: Edge): void {
    assert(this.#children.includes(child), "a copy goes once");
    this.#children = this.#children.filter((other) => other !== child);
    if (child.name === `children.${this.#next - 1}`) this.#next -= 1;
  }

  /** Of all copies together. */
  async allocatedBytes(): Promise<number | undefined> {
    let sum = 0;
    for (const { node } of this.#children) {
      const bytes = await allocatedBytes(node);
      if (bytes === undefined) return undefined;
      sum += bytes;
    }
    return sum;
  }

  /** Throws EIO where the copies are not of one length. */
  length(): number {
    const [first = 0, ...others] = this.#children.map(({ length }) => length);
    if (others.some((length) => length !== first))
      throw blockError("EIO", "open", "Could not refresh total sector count: Input/output error");
    return first;
  }

  pread(offset: number, buffer: Uint8Array): Promise<void> {
    return this.#settings.isFifo ? this.#readFirst(offset, buffer) : this.#readAll(offset, buffer);
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    return this.#writeAll({ offset, bytes: buffer.byteLength }, (child) =>
      child.pwrite(offset, buffer, flags),
    );
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    return this.#writeAll({ offset, bytes }, (child) => child.pwriteZeroes(offset, bytes, flags));
  }

  /** Making copies good needs a right that readers do not have; nobody may change a copy's data or length beside this. */
  childPermissions(_child: Edge, parent: Permissions): Permissions {
    const { perm, shared } = filterPermissions(parent);
    return {
      perm: this.#settings.rewrites ? perm | Perm.write : perm,
      shared: shared & (Perm.consistentRead | Perm.writeUnchanged),
    };
  }

  /** The copies are flushed here: that one fails need not be an error. */
  flushes(): boolean {
    return false;
  }

  async flush(): Promise<void> {
    const failed = await this.#onAll((child) => child.flush());
    for (const { child, code } of failed) this.#reportBad("flush", child, { offset: 0, bytes: 0 }, code);
    if (this.#children.length - failed.length < this.#settings.threshold) throw verdict(failed, "flush");
  }

  /** Data where any copy has some. */
  async blockStatus(offset: number, bytes: number, wantZero: boolean): Promise<BlockStatus> {
    let [dataBytes, zeroBytes] = [0, bytes];
    for (const child of this.#children) {
      const status = await child.blockStatus(offset, bytes, wantZero);
      if (status.zero) zeroBytes = Math.min(zeroBytes, status.bytes);
      else dataBytes = Math.max(dataBytes, status.bytes);
    }
    const zero = dataBytes === 0;
    return { bytes: zero ? zeroBytes : dataBytes, data: !zero, zero, allocated: true };
  }

  async #readFirst(offset: number, buffer: Uint8Array): Promise<void> {
    let last: unknown;
    for (const child of this.#children) {
      try {
        await child.pread(offset, buffer);
        return;
      } catch (error) {
        last = error;
        this.#reportBad("read", child, { offset, bytes: buffer.byteLength }, errnoOf(error));
      }
    }
    throw last;
  }

  async #readAll(offset: number, buffer: Uint8Array): Promise<void> {
    const range = { offset, bytes: buffer.byteLength };
    const ballots = this.#children.map((child) => ({ child, bytes: new Uint8Array(buffer.byteLength) }));
    const failed = await this.#onAll((child, at) => child.pread(offset, ballots[at]!.bytes));
    for (const { child, code } of failed) this.#reportBad("read", child, range, code);
    const cast = ballots.filter(({ child }) => !failed.some((one) => one.child === child));
    if (cast.length < this.#settings.threshold) {
      this.#reportFailure(range);
      throw verdict(failed, "read");
    }
    buffer.set(await this.#winner(cast, range));
  }

  /** What most copies hold. Throws EIO where these are too few. */
  async #winner(ballots: readonly Ballot[], range: Range): Promise<Uint8Array> {
    const versions: Ballot[][] = [];
    for (const ballot of ballots) {
      const same = versions.find(([first]) => first && isEqual(first.bytes, ballot.bytes));
      if (same) same.push(ballot);
      else versions.push([ballot]);
    }
    assert(ballots.length >= this.#settings.threshold, "enough copies were read");
    const most = versions.reduce((best, one) => (one.length > best.length ? one : best));
    const losers = versions.filter((one) => one !== most).flat();
    if (losers.length > 0 && this.#settings.isBlkverify) throw this.#differs(most, losers, range);
    if (most.length < this.#settings.threshold) {
      this.#reportFailure(range);
      throw blockError("EIO", "read", "the copies do not agree");
    }
    for (const { child } of losers) this.#reportBad("read", child, range);
    const bytes = most[0]!.bytes;
    if (this.#settings.rewrites) await this.#rewrite(losers, range.offset, bytes);
    return bytes;
  }

  /** Makes the losers what the winner is; one that fails shows at its next read. */
  async #rewrite(losers: readonly Ballot[], offset: number, bytes: Uint8Array): Promise<void> {
    await Promise.allSettled(losers.map(async ({ child }) => child.pwrite(offset, bytes)));
  }

  async #writeAll(range: Range, write: (child: Edge) => unknown): Promise<void> {
    const failed = await this.#onAll(write);
    for (const { child, code } of failed) this.#reportBad("write", child, range, code);
    if (this.#children.length - failed.length >= this.#settings.threshold) return;
    this.#reportFailure(range);
    throw verdict(failed, "write");
  }

  async #onAll(perform: (child: Edge, at: number) => unknown): Promise<Failed[]> {
    const ended = await Promise.allSettled(this.#children.map(async (child, at) => perform(child, at)));
    return ended.flatMap((one, at) =>
      one.status === "rejected"
        ? [{ child: this.#children[at]!, code: errnoOf(one.reason), reason: one.reason as unknown }]
        : [],
    );
  }

  #differs(most: readonly Ballot[], losers: readonly Ballot[], range: Range): BlockError {
    const error = differs(most, losers, range);
    this.#node.services.onDifference?.(error.message);
    return error;
  }

  #reportBad(type: Operation, child: Edge, range: Range, code?: Errno): void {
    this.#node.services.events.emit("QUORUM_REPORT_BAD", {
      type,
      ...(code === undefined ? {} : { error: strerror(code) }),
      "node-name": child.node.name,
      ...sectors(range),
    });
  }

  #reportFailure(range: Range): void {
    this.#node.services.events.emit("QUORUM_FAILURE", { reference: this.#node.name, ...sectors(range) });
  }
}

interface Failed {
  readonly child: Edge;
  readonly code: Errno;
  readonly reason: unknown;
}

/** The error that most copies met; of equally many the first. */
function verdict(failed: readonly Failed[], op: Operation): unknown {
  const votes = new Map<Errno, number>();
  for (const { code } of failed) votes.set(code, (votes.get(code) ?? 0) + 1);
  const most = Math.max(0, ...votes.values());
  return failed.find(({ code }) => votes.get(code) === most)?.reason ?? blockError("EIO", op);
}

function differs(most: readonly Ballot[], losers: readonly Ballot[], range: Range): BlockError {
  const [a, b] = [most[0]!.bytes, losers[0]!.bytes];
  const at = range.offset + a.findIndex((byte, index) => byte !== b[index]);
  return blockError(
    "EIO",
    "read",
    `quorum: offset=${range.offset} bytes=${range.bytes} contents mismatch at offset ${at}`,
  );
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, at) => byte === b[at]);
}

function sectors({ offset, bytes }: Range): { "sector-num": number; "sectors-count": number } {
  const first = Math.floor(offset / SECTOR);
  return { "sector-num": first, "sectors-count": Math.ceil((offset + bytes) / SECTOR) - first };
}

/** Throws EINVAL in QEMU's words. */
function settingsOf(spec: NodeSpec, count: number): Settings {
  const threshold = sizeOption(spec, "vote-threshold") ?? 0;
  const pattern = stringOption(spec, "read-pattern") ?? "quorum";
  const isBlkverify = booleanOption(spec, "blkverify") ?? false;
  const rewrites = booleanOption(spec, "rewrite-corrupted") ?? false;
  if (count < 1) throw optionError("Number of provided children must be 1 or more");
  if (count > MAX_CHILDREN) throw optionError(`Number of provided children must be ${MAX_CHILDREN} or fewer`);
  if (threshold < 1) throw optionError("Parameter 'vote-threshold' expects a value >= 1");
  if (threshold > count) throw optionError("threshold may not exceed children count");
  const isFifo = pattern === "fifo";
  if (isFifo) return { threshold, isFifo, isBlkverify: false, rewrites: false };
  if (isBlkverify && (count !== 2 || threshold !== 2))
    throw optionError("blkverify=on can only be set if there are exactly two files and vote-threshold is 2");
  if (isBlkverify && rewrites) throw optionError("rewrite-corrupted=on cannot be used with blkverify=on");
  return { threshold, isFifo, isBlkverify, rewrites };
}

function childrenOf(spec: NodeSpec): ChildRef[] {
  const { children } = spec;
  if (!Array.isArray(children)) throw optionError("Invalid parameter type for 'children', expected: array");
  return children as ChildRef[];
}

async function openAll(context: OpenContext, refs: readonly ChildRef[]): Promise<Edge[]> {
  const edges: Edge[] = [];
  for (const [at, ref] of refs.entries())
    edges.push(await context.openChild(ref, `children.${at}`, Role.data));
  return edges;
}

/**
 * Options: `children` (1 to 32), `vote-threshold`, `read-pattern` (`quorum` or `fifo`), `rewrite-corrupted`, `blkverify`. Errors: what
 * most of the copies met, EIO where too few agree.
 */
export const quorum: DriverType = {
  name: "quorum",
  staysAsOpened: true,
  kind: "format",
  async open(context, spec) {
    const refs = childrenOf(spec);
    const settings = settingsOf(spec, refs.length);
    const children = await openAll(context, refs);
    return new QuorumDriver(context.node, children, settings);
  },
};
