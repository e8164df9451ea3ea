/**
 * preallocate: a write beyond the end of the file has a large piece reserved there at once, which reads as zeroes, so that the file grows
 * in few steps. What was reserved and not written is cut off when nobody may write any more.
 *
 * Invariants: `dataEnd` is the length that is shown; from there to `fileEnd` there are reserved zeroes, and so from `zeroStart` on. They
 * are known only while this node has the rights to write and to resize, which it shares with nobody then.
 * Source: QAPI BlockdevOptionsPreallocate; behaviour and words of QEMU 7.2.
 */
import { type Answer, andThen } from "../../base/answer.ts";
import { MiB, SECTOR_SIZE } from "../../base/limits.ts";
import { alignUp, isAligned } from "../../base/ranges.ts";
import { truncate } from "../../block/io/io.ts";
import {
  type DriverType,
  type Edge,
  type NodeSpec,
  type Permissions,
  Req,
  type RequestFlags,
  Role,
  type TruncateOptions,
} from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import { nodeOf } from "../../block/model/node.ts";
import { childOption, optionError, sizeOption } from "../../block/model/options.ts";
import { filterPermissions, Perm } from "../../block/model/permissions.ts";

const growing = Perm.write | Perm.resize;
const plain = { exact: true, preallocation: "off" } as const;

function mayGrow(perm: number): boolean {
  return (perm & growing) === growing;
}

/** Bytes. */
interface Settings {
  readonly size: number;
  readonly align: number;
}

/** Bytes; see the invariants above. */
interface Ends {
  dataEnd: number;
  fileEnd: number;
  zeroStart: number;
}

class PreallocateDriver extends FilterDriver {
  #settings: Settings;
  /** Undefined: nothing is known, or nothing is to be. */
  #ends: Ends | undefined;
  /** One piece is reserved at a time. */
  #reserving: Promise<void> | undefined;

  constructor(below: Edge, settings: Settings) {
    super(below);
    this.#settings = settings;
  }

  override length(): number {
    return this.#ends?.dataEnd ?? this.below.length;
  }

  override pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return andThen(this.#reserve(offset + buffer.byteLength), () => {
      const ends = this.#ends;
      const end = offset + buffer.byteLength;
      if (ends && end > ends.zeroStart) ends.zeroStart = end;
      return this.below.pwrite(offset, buffer, flags);
    });
  }

  override pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Answer<void> {
    return andThen(this.#reserve(offset + bytes), () => {
      const ends = this.#ends;
      const end = offset + bytes;
      const isPlain = (flags & ~Req.noFallback) === 0;
      // What is reserved reads as zeroes already.
      if (ends && isPlain && offset >= ends.zeroStart && end <= ends.fileEnd) return undefined;
      return this.below.pwriteZeroes(offset, bytes, flags);
    });
  }

  override async truncate(size: number, options: TruncateOptions): Promise<void> {
    const ends = this.#ends;
    if (ends && size > ends.dataEnd) {
      if (options.preallocation === "falloc" && size <= ends.fileEnd) {
        ends.dataEnd = size;
        return;
      }
      // Otherwise the file would be as long already, or longer.
      await this.#cut(ends);
    }
    this.#ends = undefined;
    await this.below.truncate(size, options);
    if (mayGrow(this.below.perm)) this.#ends = { dataEnd: size, fileEnd: size, zeroStart: size };
  }

  /** Nobody else may change the file's length while it is not what it looks like. */
  childPermissions(_child: Edge, parent: Permissions): Permissions {
    const { perm, shared } = filterPermissions(parent);
    return mayGrow(perm) ? { perm, shared: shared & ~growing } : { perm, shared };
  }

  async permissionsChanged({ perm }: Permissions): Promise<void> {
    if (!mayGrow(perm)) await this.#drop();
  }

  async setReadOnly(readOnly: boolean): Promise<void> {
    if (readOnly) await this.#drop();
  }

  reopen(spec: NodeSpec): Promise<void> {
    this.#settings = settingsOf(spec, this.below);
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#drop();
  }

  /** Takes note of a write up to `end`; where the file is shorter, more is reserved first, one after the other. */
  #reserve(end: number): Answer<void> {
    if (!mayGrow(this.below.perm)) return undefined;
    const { length } = this.below;
    const ends = (this.#ends ??= { dataEnd: length, fileEnd: length, zeroStart: length });
    if (end > ends.fileEnd) {
      if (this.#reserving) return this.#reserving.then(() => this.#reserve(end));
      const start = ends.fileEnd;
      const { size, align } = this.#settings;
      return this.#reserveUpTo(ends, start, alignUp(Math.max(start, end) + size, align)).then(() => {
        if (end > ends.dataEnd) ends.dataEnd = end;
      });
    }
    if (end > ends.dataEnd) ends.dataEnd = end;
    return undefined;
  }

  /** Where that can't be done, or not fast, the file grows as it does without this filter. */
  #reserveUpTo(ends: Ends, start: number, end: number): Promise<void> {
    const flags = Req.noFallback | Req.serialising | Req.noWait;
    const reserving = Promise.resolve(this.below.pwriteZeroes(start, end - start, flags)).then(
      () => {
        ends.fileEnd = end;
      },
      () => {
        ends.fileEnd = this.below.length;
        ends.zeroStart = Infinity;
      },
    );
    this.#reserving = reserving.finally(() => {
      this.#reserving = undefined;
    });
    return this.#reserving;
  }

  async #drop(): Promise<void> {
    const ends = this.#ends;
    if (!ends) return;
    await this.#cut(ends);
    this.#ends = undefined;
  }

  /** The edge may have lost its rights already; the file has not yet. */
  async #cut(ends: Ends): Promise<void> {
    if (ends.fileEnd <= ends.dataEnd) return;
    await truncate(nodeOf(this.below.node), ends.dataEnd, plain);
    ends.fileEnd = ends.dataEnd;
  }
}

/** Throws EINVAL in QEMU's words. */
function settingsOf(spec: NodeSpec, below: Edge): Settings {
  const align = sizeOption(spec, "prealloc-align") ?? MiB;
  const size = sizeOption(spec, "prealloc-size") ?? 128 * MiB;
  const { requestAlignment } = below.node.limits;
  const refuse = (what: string): Error =>
    optionError(`prealloc-align parameter of preallocate filter is not aligned to ${what}`);
  if (!isAligned(align, SECTOR_SIZE)) throw refuse(String(SECTOR_SIZE));
  if (!isAligned(align, requestAlignment))
    throw refuse(`underlying node request alignment (${requestAlignment})`);
  return { align: align || 1, size };
}

/** Options: `file`, `prealloc-size` (bytes reserved at once, 128 MiB), `prealloc-align` (of where that ends, 1 MiB). */
export const preallocate: DriverType = {
  name: "preallocate",
  kind: "filter",
  reopenable: new Set(["prealloc-size", "prealloc-align"]),
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.filtered | Role.primary);
    return new PreallocateDriver(file, settingsOf(spec, file));
  },
};
