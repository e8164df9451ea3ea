/**
 * blklogwrites: notes each change of a disk in a log beside it, as Linux's dm-log-writes does: writes with their data, zeroes as such,
 * discards, flushes. What a flush has made durable, so has the log up to there.
 *
 * Source: QAPI BlockdevOptionsBlklogwrites; behaviour and words of QEMU 7.2.
 */
import { alignDown, alignUp } from "../../../base/ranges.ts";
import { type BlockLimits, type DriverType, type Edge, Req, Role } from "../../../block/model/contract.ts";
import type { NodeSpec, RequestFlags } from "../../../block/model/contract.ts";
import { FilterDriver } from "../../../block/model/filter-driver.ts";
import { booleanOption, childOption, optionError, sizeOption } from "../../../block/model/options.ts";
import { checkSector, EntryFlag } from "./layout.ts";
import { allOf, findEnd, type LogData, type LogEnd, LogOfWrites } from "./log.ts";

const DEFAULT_SECTOR = 512;
const DEFAULT_INTERVAL = 4096;

interface Change {
  readonly offset: number;
  readonly bytes: number;
  readonly flags?: number;
  readonly data?: LogData;
}

class BlklogwritesDriver extends FilterDriver {
  readonly #log: LogOfWrites;

  constructor(below: Edge, log: LogOfWrites) {
    super(below);
    this.#log = log;
  }

  /** The log counts sectors. */
  limits(): Partial<BlockLimits> {
    return { requestAlignment: this.#log.sector };
  }

  override pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    return this.#noted({ offset, bytes: buffer.byteLength, data: buffer }, () =>
      this.below.pwrite(offset, buffer, flags & ~Req.fua),
    );
  }

  override pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    return this.#noted({ offset, bytes, data: "zeroes" }, () =>
      this.below.pwriteZeroes(offset, bytes, flags & ~Req.fua),
    );
  }

  /** What fills no sector stays: the log could not say that it went. */
  override async pdiscard(offset: number, bytes: number): Promise<void> {
    const start = alignUp(offset, this.#log.sector);
    const whole = alignDown(offset + bytes, this.#log.sector) - start;
    if (whole <= 0) return;
    const change = { offset: start, bytes: whole, flags: EntryFlag.discard };
    await this.#noted(change, () => this.below.pdiscard(start, whole));
  }

  /** Disk and log are flushed here, the log when the flush stands in it. */
  flushes(): boolean {
    return false;
  }

  async flush(): Promise<void> {
    await this.#noted({ offset: 0, bytes: 0, flags: EntryFlag.flush }, () => this.below.flush());
    await this.#log.flush();
  }

  /** Makes a change, and notes it meanwhile. */
  async #noted({ offset, bytes, flags = 0, data }: Change, make: () => unknown): Promise<void> {
    const { sector } = this.#log;
    const entry = { offset: offset / sector, sectors: bytes / sector, flags };
    await allOf([this.#log.append(entry, data), make()]);
  }
}

interface Settings {
  readonly isAppended: boolean;
  readonly sector: number;
  readonly interval: number;
}

/** Throws EINVAL in QEMU's words. */
function settingsOf(spec: NodeSpec): Settings {
  const isAppended = booleanOption(spec, "log-append") ?? false;
  const given = sizeOption(spec, "log-sector-size");
  if (isAppended && given !== undefined)
    throw optionError("log-append and log-sector-size are mutually exclusive");
  const sector = given ?? DEFAULT_SECTOR;
  checkSector(sector);
  const interval = sizeOption(spec, "log-super-update-interval") ?? DEFAULT_INTERVAL;
  if (interval === 0) throw optionError("Invalid log superblock update interval 0");
  return { isAppended, sector, interval };
}

/**
 * Options: `file`, the disk; `log`, where the log lies; `log-append`: goes on with one that is there; `log-sector-size`, bytes, a power
 * of two, 512 by default; `log-super-update-interval`: so many entries, 4096 by default, come between two heads. Errors: those of both nodes.
 */
export const blklogwrites: DriverType = {
  name: "blklogwrites",
  staysAsOpened: true,
  kind: "filter",
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.filtered | Role.primary);
    const { isAppended, sector, interval } = settingsOf(spec);
    const log = await context.openChild(childOption(spec, "log"), "log", Role.metadata);
    const anew: LogEnd = { sector, entries: 0, next: 1 };
    const end = isAppended ? await findEnd(log, anew) : anew;
    return new BlklogwritesDriver(file, new LogOfWrites(log, end, interval));
  },
};
