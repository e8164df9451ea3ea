/**
 * blkdebug: passes requests to its `image` child, and fails, holds back or shapes them as its rules and options say.
 * Invariant: a request that a rule hits never reaches the child.
 * Source: QAPI BlockdevOptionsBlkdebug; behaviour and words of QEMU 7.2.
 */
import { errnoFromNumber } from "../../base/errno.ts";
import { BlockError, CommandError } from "../../base/errors.ts";
import type { Clock } from "../../base/host.ts";
import { isAligned, isPowerOfTwo } from "../../base/ranges.ts";
import type { Edge } from "../../block/model/contract.ts";
import {
  type BlockLimits,
  type BlockStatus,
  type DriverType,
  type NodeSpec,
  type RequestFlags,
  Role,
} from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import type { NodeView } from "../../block/model/contract.ts";
import { childOption, optionError, sizeOption, stringListOption } from "../../block/model/options.ts";
import { Perm, defaultPermissions } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";
import { readRules } from "./blkdebug-config.ts";
import { RuleEngine, type RuleRequest } from "./blkdebug-rules.ts";

/** QEMU's INT_MAX: limits stay below it. */
const INT_MAX = 2 ** 31 - 1;

interface ExtraPermissions {
  take: number;
  unshare: number;
}

/** The driver; tests and tools reach breakpoints through `rules`. */
export class BlkdebugDriver extends FilterDriver {
  readonly rules: RuleEngine;
  readonly #node: NodeView;
  readonly #clock: Clock;
  readonly #limits: Partial<BlockLimits>;
  readonly #extra: ExtraPermissions;

  constructor(init: {
    node: NodeView;
    image: Edge;
    clock: Clock;
    rules: RuleEngine;
    limits: Partial<BlockLimits>;
    extra: ExtraPermissions;
  }) {
    super(init.image);
    this.rules = init.rules;
    this.#node = init.node;
    this.#clock = init.clock;
    this.#limits = init.limits;
    this.#extra = init.extra;
  }

  override async pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    await this.#check("pread", { iotype: "read", offset, bytes: buffer.byteLength });
    await this.below.pread(offset, buffer, flags);
  }

  override async pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    await this.#check("pwrite", { iotype: "write", offset, bytes: buffer.byteLength });
    await this.below.pwrite(offset, buffer, flags);
  }

  /** Pieces smaller than the zero alignment are left to ordinary writes. */
  override async pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    const { requestAlignment, pwriteZeroesAlignment } = this.#node.limits;
    const op = "pwriteZeroes";
    if (bytes < Math.max(requestAlignment, pwriteZeroesAlignment)) throw this.#tooSmall(op, offset, bytes);
    await this.#check(op, { iotype: "write-zeroes", offset, bytes });
    await this.below.pwriteZeroes(offset, bytes, flags);
  }

  /** Unlike zeroes, discards smaller than `opt-discard` come here and are passed on. */
  override async pdiscard(offset: number, bytes: number): Promise<void> {
    if (bytes < this.#node.limits.requestAlignment) throw this.#tooSmall("pdiscard", offset, bytes);
    await this.#check("pdiscard", { iotype: "discard", offset, bytes });
    await this.below.pdiscard(offset, bytes);
  }

  /** The layer flushes the child afterwards. */
  async flush(): Promise<void> {
    await this.#check("flush", { iotype: "flush", offset: 0, bytes: 0 });
  }

  override async blockStatus(offset: number, bytes: number, wantZero: boolean): Promise<BlockStatus> {
    await this.#check("blockStatus", { iotype: "block-status", offset, bytes });
    return this.below.blockStatus(offset, bytes, wantZero);
  }

  limits(): Partial<BlockLimits> {
    return this.#limits;
  }

  childPermissions(child: Edge, parent: Permissions): Permissions {
    const { perm, shared } = defaultPermissions(parent, child.role, !this.#node.readOnly);
    return { perm: perm | this.#extra.take, shared: shared & ~this.#extra.unshare };
  }

  debugEvent(event: string): Promise<void> | undefined {
    return this.rules.fire(event);
  }

  close(): Promise<void> {
    this.rules.release();
    return Promise.resolve();
  }

  async #check(op: string, request: RuleRequest): Promise<void> {
    const rule = this.rules.hit(request);
    if (!rule) return;
    if (!rule.immediately) await this.#clock.turn();
    const { offset, bytes } = request;
    throw new BlockError({ code: errnoFromNumber(rule.errno), op, node: this.#node.name, offset, bytes });
  }

  #tooSmall(op: string, offset: number, bytes: number): BlockError {
    return new BlockError({ code: "ENOTSUP", op, node: this.#node.name, offset, bytes });
  }
}

function alignedOption(spec: NodeSpec, name: string, unit: number): number {
  const value = sizeOption(spec, name) ?? 0;
  if (value !== 0 && (value >= INT_MAX || !isAligned(value, unit))) {
    throw optionError(`Cannot meet constraints with ${name} ${value}`);
  }
  return value;
}

/** The options that shape requests; each must fit those that it builds on. */
function readLimits(spec: NodeSpec, image: Edge): Partial<BlockLimits> {
  const requested = sizeOption(spec, "align") ?? 0;
  if (requested !== 0 && (requested >= INT_MAX || !isPowerOfTwo(requested))) {
    throw optionError(`Cannot meet constraints with align ${requested}`);
  }
  const align = Math.max(requested, image.node.limits.requestAlignment);
  const maxTransfer = alignedOption(spec, "max-transfer", align);
  const pwriteZeroesAlignment = alignedOption(spec, "opt-write-zero", align);
  const maxPwriteZeroes = alignedOption(spec, "max-write-zero", Math.max(pwriteZeroesAlignment, align));
  const pdiscardAlignment = alignedOption(spec, "opt-discard", align);
  const maxPdiscard = alignedOption(spec, "max-discard", Math.max(pdiscardAlignment, align));
  const limits: Partial<BlockLimits> = {};
  if (requested) limits.requestAlignment = requested;
  if (maxTransfer) limits.maxTransfer = maxTransfer;
  if (pwriteZeroesAlignment) limits.pwriteZeroesAlignment = pwriteZeroesAlignment;
  if (maxPwriteZeroes) limits.maxPwriteZeroes = maxPwriteZeroes;
  if (pdiscardAlignment) limits.pdiscardAlignment = pdiscardAlignment;
  if (maxPdiscard) limits.maxPdiscard = maxPdiscard;
  return limits;
}

const permissionBits: ReadonlyMap<string, number> = new Map([
  ["consistent-read", Perm.consistentRead],
  ["write", Perm.write],
  ["write-unchanged", Perm.writeUnchanged],
  ["resize", Perm.resize],
]);

function permissionOption(spec: NodeSpec, name: string): number {
  let bits = 0;
  for (const permission of stringListOption(spec, name)) {
    const bit = permissionBits.get(permission);
    if (bit === undefined) throw optionError(`invalid parameter value: ${permission}`);
    bits |= bit;
  }
  return bits;
}

/** A single rule may stand by itself, without a number: `inject-error.event=…`. */
function asLists(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const read = Object.assign(Object.create(null) as Record<string, unknown>, options);
  for (const name of ["inject-error", "set-state"]) {
    const rule = read[name];
    if (typeof rule === "object" && rule !== null && !Array.isArray(rule)) read[name] = [rule];
  }
  return read;
}

/**
 * Options: `image`; `config`, `inject-error`, `set-state` (rules); `align`, `max-transfer`, `opt-write-zero`,
 * `max-write-zero`, `opt-discard`, `max-discard` (bytes); `take-child-perms`, `unshare-child-perms`.
 */
export const blkdebug: DriverType = {
  name: "blkdebug",
  modernOptions: asLists,
  kind: "filter",
  /** `blkdebug:CONFIG:FILE`; another name is the file's. */
  parseName(name) {
    const prefix = "blkdebug:";
    if (!name.startsWith(prefix)) return { children: { image: { name } } };
    const end = name.indexOf(":", prefix.length);
    if (end < 0) throw new CommandError("blkdebug requires both config file and image path");
    const config = name.slice(prefix.length, end);
    return {
      options: config === "" ? {} : { config },
      children: { image: { name: name.slice(end + 1) } },
    };
  },
  plainName({ config = "", ...others }, below) {
    const image = below("image");
    return image === undefined || Object.keys(others).length > 0
      ? undefined
      : `blkdebug:${String(config)}:${image}`;
  },
  async open(context, spec) {
    const { node, host } = context;
    const rules = new RuleEngine(await readRules(spec, host.files));
    const image = await context.openChild(childOption(spec, "image"), "image", Role.filtered | Role.primary);
    const extra = {
      take: permissionOption(spec, "take-child-perms"),
      unshare: permissionOption(spec, "unshare-child-perms"),
    };
    return new BlkdebugDriver({
      node,
      image,
      clock: host.clock,
      rules,
      limits: readLimits(spec, image),
      extra,
    });
  },
};
