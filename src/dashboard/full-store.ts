/**
 * A filter that plays a store without room: while it is told to be full, writes beyond the present end fail with ENOSPC, and
 * those within it work, as with a browser's quota that is used up.
 */
import { BlockError } from "../base/errors.ts";
import { type DriverType, type RequestFlags, Role } from "../block/model/contract.ts";
import { FilterDriver } from "../block/model/filter-driver.ts";
import { childOption } from "../block/model/options.ts";

/** Whether stores are full; all of a worker are at once. */
export const room = { isFull: false };

class FullStore extends FilterDriver {
  override async pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    this.#check(offset, buffer.byteLength);
    await this.below.pwrite(offset, buffer, flags);
  }

  override async pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    this.#check(offset, bytes);
    await this.below.pwriteZeroes(offset, bytes, flags);
  }

  #check(offset: number, bytes: number): void {
    if (!room.isFull || offset + bytes <= this.below.length) return;
    throw new BlockError({ code: "ENOSPC", op: "pwrite", offset, bytes });
  }
}

/** Option: `file`. */
export const fullStore: DriverType = {
  name: "demo-full-store",
  kind: "filter",
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.filtered | Role.primary);
    return new FullStore(file);
  },
};
