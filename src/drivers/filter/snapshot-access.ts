/**
 * snapshot-access: shows the point-in-time image that a copy-before-write filter below keeps, without copying anything
 * itself: what the guest has overwritten is read from the filter's target, the rest from its source. Read-only.
 * Source: QAPI BlockdevOptions `snapshot-access`; behaviour of QEMU 7.2.
 */
import { blockError } from "../../base/errors.ts";
import type { Edge } from "../../block/model/contract.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type DriverType,
  type OpenContext,
  Role,
} from "../../block/model/contract.ts";
import { childOption } from "../../block/model/options.ts";
import { Perm } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";
import { type SnapshotSource, hasSnapshot } from "../../block/model/snapshot-source.ts";

class SnapshotAccess implements BlockDriver {
  readonly #file: Edge;

  constructor(file: Edge) {
    this.#file = file;
  }

  length(): number {
    return this.#file.length;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    await this.#filter.preadSnapshot(offset, buffer);
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    return this.#filter.snapshotStatus(offset, bytes);
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    await this.#filter.discardSnapshot(offset, bytes);
  }

  /** The filter reads through edges of its own, so nothing is taken here. */
  childPermissions(): Permissions {
    return { perm: 0, shared: Perm.all };
  }

  get #filter(): SnapshotSource {
    const { driver } = this.#file.node;
    if (!hasSnapshot(driver)) throw blockError("ENOTSUP", "pread");
    return driver;
  }
}

/** Option: `file`, a copy-before-write node. */
export const snapshotAccess: DriverType = {
  name: "snapshot-access",
  staysAsOpened: true,
  kind: "format",
  async open(context: OpenContext, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.data | Role.primary);
    return new SnapshotAccess(file);
  },
};
