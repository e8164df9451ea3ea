/**
 * The filter that an intermediate commit puts above its top image: reads pass through it, and it takes no permission
 * below, since the images below are inconsistent on their own while they are merged. Source: behaviour of QEMU's
 * commit_top filter.
 */
import type { Answer } from "../../base/answer.ts";
import { type Child, childOf } from "../../block/model/node.ts";
import { type BlockDriver, type DriverType, Role } from "../../block/model/contract.ts";
import { Perm } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";

class CommitTop implements BlockDriver {
  readonly #below: Child;

  constructor(below: Child) {
    this.#below = below;
  }

  length(): number {
    return this.#below.length;
  }

  pread(offset: number, buffer: Uint8Array, flags: number): Answer<void> {
    return this.#below.pread(offset, buffer, flags);
  }

  childPermissions(): Permissions {
    return { perm: 0, shared: Perm.all };
  }
}

/** Only the commit job inserts it; QAPI does not offer it. */
export const commitTop: DriverType = {
  name: "commit_top",
  kind: "filter",
  comesAndGoes: true,
  async open(context, spec) {
    const role = Role.filtered | Role.primary;
    return new CommitTop(childOf(await context.openChild(spec["backing"] as string, "backing", role)));
  },
};
