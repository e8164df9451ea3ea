/**
 * The common ground of filters: every hook passes its request unchanged to the one filtered child. A filter overrides
 * what it is there for. Source: what QEMU's generic code does for a filter that lacks a callback.
 */
import type { Answer } from "../../base/answer.ts";
import type { Edge } from "../model/contract.ts";
import type { BlockDriver, BlockStatus, DriverInfo, RequestFlags, TruncateOptions } from "./contract.ts";

/** Passes everything to `below`. */
export class FilterDriver implements BlockDriver {
  protected readonly below: Edge;

  constructor(below: Edge) {
    this.below = below;
  }

  length(): number {
    return this.below.length;
  }

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return this.below.pread(offset, buffer, flags);
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return this.below.pwrite(offset, buffer, flags);
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Answer<void> {
    return this.below.pwriteZeroes(offset, bytes, flags);
  }

  pdiscard(offset: number, bytes: number): Answer<void> {
    return this.below.pdiscard(offset, bytes);
  }

  blockStatus(offset: number, bytes: number, wantZero: boolean): Answer<BlockStatus> {
    return this.below.blockStatus(offset, bytes, wantZero);
  }

  truncate(size: number, options: TruncateOptions): Answer<void> {
    return this.below.truncate(size, options);
  }

  getInfo(): DriverInfo | undefined {
    return this.below.node.driver.getInfo?.();
  }

  hasZeroInit(): boolean {
    return this.below.node.driver.hasZeroInit?.() ?? false;
  }
}
