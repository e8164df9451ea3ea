/**
 * throttle: holds requests back as the limits of its throttle group say. Flushes and questions pass.
 * Invariant: while the node is drained the limits do not hold, and nothing waits.
 * Source: QAPI BlockdevOptionsThrottle; behaviour and words of QEMU 7.2.
 */
import { type Answer, andThen } from "../../base/answer.ts";
import type { Edge, OwnWork } from "../../block/model/contract.ts";
import { type DriverType, type NodeSpec, type RequestFlags, Role } from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import { childOption, optionError, stringOption } from "../../block/model/options.ts";
import {
  type ThrottleGroup,
  type ThrottleGroups,
  type ThrottleMember,
  throttleGroupsOf,
} from "../../block/throttle/throttle.ts";

class ThrottleDriver extends FilterDriver {
  readonly #groups: ThrottleGroups;
  #member: ThrottleMember;
  readonly ownWork: OwnWork;

  constructor(file: Edge, groups: ThrottleGroups, group: ThrottleGroup) {
    super(file);
    this.#groups = groups;
    this.#member = group.join();
    this.ownWork = { pause: () => this.#member.disable(), resume: () => this.#member.enable() };
  }

  /** Another group; the node is drained, so nothing waits. */
  reopen(spec: NodeSpec): Promise<void> {
    const group = groupOf(this.#groups, spec);
    if (group === this.#member.group) return Promise.resolve();
    const next = group.join();
    if (this.#member.isDisabled) next.disable();
    this.#member.leave();
    this.#member = next;
    return Promise.resolve();
  }

  override pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return andThen(this.#member.intercept("read", buffer.byteLength), () =>
      this.below.pread(offset, buffer, flags),
    );
  }

  override pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return andThen(this.#member.intercept("write", buffer.byteLength), () =>
      this.below.pwrite(offset, buffer, flags),
    );
  }

  override pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Answer<void> {
    return andThen(this.#member.intercept("write", bytes), () =>
      this.below.pwriteZeroes(offset, bytes, flags),
    );
  }

  override pdiscard(offset: number, bytes: number): Answer<void> {
    return andThen(this.#member.intercept("write", bytes), () => this.below.pdiscard(offset, bytes));
  }

  close(): Promise<void> {
    this.#member.leave();
    return Promise.resolve();
  }
}

function groupOf(groups: ThrottleGroups, spec: NodeSpec): ThrottleGroup {
  const name = stringOption(spec, "throttle-group");
  if (name === undefined) throw optionError("Parameter 'throttle-group' is missing");
  const group = groups.get(name);
  if (!group) throw optionError(`Throttle group '${name}' does not exist`);
  return group;
}

/** Options: `file`, `throttle-group` (the name of a group that exists). */
export const throttle: DriverType = {
  name: "throttle",
  kind: "filter",
  compressedWrites: "below",
  reopenable: new Set(["throttle-group"]),
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.filtered | Role.primary);
    const groups = throttleGroupsOf(context.graph);
    return new ThrottleDriver(file, groups, groupOf(groups, spec));
  },
};
