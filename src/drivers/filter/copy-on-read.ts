/**
 * copy-on-read: every read also writes what came from the backing chain into the node below, so that the next read
 * finds it there. With `bottom` only what lies in the chain down to that node (included) is copied.
 * Invariant: the links from the filter down to `bottom` are frozen while the filter is open.
 * Source: QAPI BlockdevOptionsCor; behaviour and words of QEMU 7.2.
 */
import { type Answer, andThen, repeat, rescue } from "../../base/answer.ts";
import type { Lease } from "../../base/lease.ts";
import { type BlockNode, nodeOf } from "../../block/model/node.ts";
import { backingChainNext, chainContains, freezeChain } from "../../block/model/chain.ts";
import {
  type DriverType,
  type Edge,
  type GraphView,
  Req,
  type RequestFlags,
  Role,
} from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import { childOption, optionError, stringOption } from "../../block/model/options.ts";
import { Perm, filterPermissions } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";
import { isAllocated, isAllocatedAbove } from "../../block/io/status.ts";

interface Look {
  bytes: number;
  copy: boolean;
}

class CopyOnReadDriver extends FilterDriver {
  readonly #bottom: BlockNode | undefined;
  readonly #frozen: Lease | undefined;

  constructor(init: { file: Edge; bottom: BlockNode | undefined; frozen: Lease | undefined }) {
    super(init.file);
    this.#bottom = init.bottom;
    this.#frozen = init.frozen;
  }

  override pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    const bottom = this.#bottom;
    if (!bottom) return this.below.pread(offset, buffer, flags | Req.copyOnRead);
    let done = 0;
    return repeat(() =>
      andThen(this.#look(bottom, offset + done, buffer.byteLength - done), ({ bytes, copy }) => {
        const part = buffer.subarray(done, done + bytes);
        const read = this.#readPart(offset + done, part, copy ? flags | Req.copyOnRead : flags);
        done += bytes;
        return andThen(read, () => done < buffer.byteLength);
      }),
    );
  }

  /** A prefetch of what needs no copy is nothing at all. */
  #readPart(offset: number, part: Uint8Array, flags: RequestFlags): Answer<void> {
    if ((flags & (Req.prefetch | Req.copyOnRead)) === Req.prefetch) return undefined;
    return this.below.pread(offset, part, flags);
  }

  /** Besides what the parents ask for: writes that leave the content as it is. */
  childPermissions(_child: Edge, parent: Permissions): Permissions {
    const { perm, shared } = filterPermissions(parent);
    return { perm: perm | Perm.writeUnchanged, shared: shared | Perm.writeUnchanged };
  }

  close(): Promise<void> {
    return this.#frozen?.end() ?? Promise.resolve();
  }

  /** How far the answer reaches and whether that much is copied. What cannot be told is copied. */
  #look(bottom: BlockNode, offset: number, bytes: number): Answer<Look> {
    const below = nodeOf(this.below.node);
    let reach = bytes;
    return rescue(
      () =>
        andThen(isAllocated(below, offset, bytes), (own): Answer<Look> => {
          if (own.allocated) return { bytes: own.bytes, copy: false };
          reach = own.bytes;
          const next = backingChainNext(below);
          if (!next || below === bottom) return { bytes: reach, copy: false };
          const above = isAllocatedAbove(next, offset, reach, { base: bottom, includeBase: true });
          return andThen(above, (found) => ({ bytes: found.bytes, copy: found.allocated }));
        }),
      () => ({ bytes: reach, copy: true }),
    );
  }
}

function findBottom(graph: GraphView, file: BlockNode, name: string): BlockNode {
  const found = graph.findNode(name);
  if (!found) throw optionError(`Bottom node '${name}' not found`);
  const bottom = nodeOf(found);
  if (!bottom.isOpen) throw optionError(`Bottom node '${name}' not opened`);
  if (bottom.isFilter) throw optionError(`Bottom node '${name}' is a filter`);
  if (!chainContains(file, bottom)) {
    throw optionError(`Bottom node '${name}' is not in the backing chain of '${file.name}'`);
  }
  return bottom;
}

/** Options: `file`, `bottom` (the name of a node in its backing chain). */
export const copyOnRead: DriverType = {
  name: "copy-on-read",
  staysAsOpened: true,
  kind: "filter",
  compressedWrites: "below",
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.filtered | Role.primary);
    const name = stringOption(spec, "bottom");
    const bottom = name === undefined ? undefined : findBottom(context.graph, nodeOf(file.node), name);
    const frozen = bottom && freezeChain(nodeOf(context.node), bottom);
    return new CopyOnReadDriver({ file, bottom, frozen });
  },
};
