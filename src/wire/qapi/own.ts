/**
 * What monitors take beside QEMU's commands where they are asked to (`--compat blockwright`): arguments that no QEMU has. The
 * fixed table is never changed: by default a monitor's schema is exactly QEMU 7.2's.
 */
import { typesWith } from "./reader.ts";
import { type Members, struct, type TypeTable } from "./schema.ts";
import type { Schema } from "./table.ts";

/** Whose commands a monitor takes. */
export const compatLevels = ["7.2", "blockwright"] as const;

/** One of them. */
export type CompatLevel = (typeof compatLevels)[number];

/** The driver as the table sees it (drivers/filter/alloc-track.ts). */
const allocTrack = { name: "alloc-track", kind: "format", supportsBacking: true } as const;

const byBitmap = { "*bitmap": "str", "*bitmap-mode": "BitmapSyncMode" } as const satisfies Members;

/** The schema of that level over the table of QEMU 7.2 (or one that has more than it). */
export function schemaAt(level: CompatLevel, base: Schema): Schema {
  if (level === "7.2") return base;
  const { commands } = base;
  const types = typesWith([allocTrack], base.types);
  return {
    ...base,
    types: { ...types, DriveMirror: struct({ ...membersOf(types, "DriveMirror"), ...byBitmap }) },
    commands: { ...commands, "blockdev-mirror": withMembers(commands["blockdev-mirror"], byBitmap) },
  };
}

function membersOf(types: TypeTable, name: string): Members {
  const type = types[name];
  return type?.kind === "struct" ? type.members : {};
}

function withMembers<C extends Schema["commands"][string]>(command: C | undefined, members: Members): C {
  return { ...command, data: { ...(command?.data as Members), ...members } } as C;
}
