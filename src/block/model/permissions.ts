/**
 * Permissions that a parent takes on a child node and shares with the child's other parents, and the rules by which a
 * driver passes them down. Source: QEMU's block layer documentation of BLK_PERM_*, behaviour of 7.2.
 */
import { type ChildRole, type Permissions, Role } from "./contract.ts";

/** Permission bits. */
export const Perm = {
  /** Reads see consistent data that others do not half-write. */
  consistentRead: 1,
  /** Writes that change what the guest sees. */
  write: 2,
  /** Writes that leave what the guest sees as it is (stream, rebase). */
  writeUnchanged: 4,
  resize: 8,
  all: 15,
} as const;

const names: readonly (readonly [number, string])[] = [
  [Perm.consistentRead, "consistent read"],
  [Perm.write, "write"],
  [Perm.writeUnchanged, "write unchanged"],
  [Perm.resize, "resize"],
];

/** QEMU's wording for a set of bits: `write, resize`; `none` for no bit. */
export function permissionNames(perm: number): string {
  const set = names.filter(([bit]) => (perm & bit) !== 0).map(([, name]) => name);
  return set.length > 0 ? set.join(", ") : "none";
}

const passThrough = Perm.consistentRead | Perm.write | Perm.writeUnchanged | Perm.resize;

/** What a filter passes down: exactly what its parents ask of it. */
export function filterPermissions({ perm, shared }: Permissions): Permissions {
  return { perm: perm & passThrough, shared: (shared & passThrough) | (Perm.all & ~passThrough) };
}

function backingPermissions({ perm, shared }: Permissions): Permissions {
  const shares = shared & Perm.write ? Perm.write | Perm.resize : 0;
  return { perm: perm & Perm.consistentRead, shared: shares | Perm.consistentRead | Perm.writeUnchanged };
}

/** What a format takes on its file child, whose data and metadata are its own. */
function storagePermissions(parent: Permissions, role: ChildRole, writable: boolean): Permissions {
  let { perm, shared } = filterPermissions(parent);
  if (role & Role.metadata) {
    if (writable) perm |= Perm.write | Perm.resize;
    perm |= Perm.consistentRead;
    shared &= ~(Perm.write | Perm.resize);
  }
  if (role & Role.data) {
    shared &= ~Perm.resize;
    if (perm & Perm.writeUnchanged) perm |= Perm.write;
    if (perm & Perm.write) perm |= Perm.resize;
  }
  return { perm, shared };
}

/** The default rules by role; a driver overrides them with `childPermissions`. */
export function defaultPermissions(parent: Permissions, role: ChildRole, writable: boolean): Permissions {
  if (role & Role.filtered) return filterPermissions(parent);
  if (role & Role.cow) return backingPermissions(parent);
  return storagePermissions(parent, role, writable);
}
