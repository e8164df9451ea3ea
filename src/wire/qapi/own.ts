/**
 * What monitors take and show beside QEMU 7.2's commands where they are asked to (`--compat`): at `10.1` what newer QEMU has brought,
 * at `blockwright` also what no QEMU has. The fixed table is never changed. It has the newer options of nodes, since the library takes
 * them always; by default a monitor takes and shows none of them. Drivers of ours and our options of QEMU's drivers can be used at
 * every level, and stand in no schema but the last.
 * Source: QAPI block-core and job schemas of QEMU 7.2 and 10.1.
 */
import { typesWith } from "./reader.ts";
import {
  command,
  type EnumDef,
  type Members,
  struct,
  type StructDef,
  type TypeDef,
  type TypeTable,
  union,
  type UnionDef,
} from "./schema.ts";
import type { Schema } from "./table.ts";

/** Whose commands a monitor takes. Each has all of those before it. */
export const compatLevels = ["7.2", "10.1", "blockwright"] as const;

/** One of them. */
export type CompatLevel = (typeof compatLevels)[number];

/** Drivers that no QEMU has. */
export const ownDrivers: ReadonlySet<string> = new Set([
  ...["alloc-track", "blob", "indexeddb", "memory", "oci", "opfs", "s3"],
]);

/** Commands that no QEMU has. */
const ownCommands = new Set(["x-blockdev-recover"]);

const httpOptions = [
  ...["*size", "*etag", "*if-match", "*credentials", "*cluster-size", "*cache-size", "*deadline", "*retries"],
  ...["*connections", "*parts", "*manifest"],
];

/** Options that no QEMU has, of types that it has. */
const ownOptions: Readonly<Record<string, readonly string[]>> = {
  BlockdevOptionsHttp: httpOptions,
  BlockdevOptionsHttps: httpOptions,
  BlockdevOptionsNbd: ["*tls"],
  BlockdevOptionsQcow2: ["*changed-backing", "*bitmap-journal"],
  BlockdevCreateOptionsLUKS: ["*detached-header"],
};

/** Options of the table that QEMU 7.2 has not. */
const newerOptions: Readonly<Record<string, readonly string[]>> = {
  BlockdevOptionsCbw: ["*min-cluster-size"],
  BlockdevOptionsLUKS: ["*header"],
  BlockdevOptionsQcow2: ["*discard-no-unref"],
  BlockdevCreateOptionsLUKS: ["*header"],
  QCryptoBlockInfoLUKS: ["*detached-header"],
};

/** The driver as the table sees it (drivers/filter/alloc-track.ts). */
const allocTrack = { name: "alloc-track", kind: "format", supportsBacking: true } as const;

const byBitmap = { "*bitmap": "str", "*bitmap-mode": "BitmapSyncMode" } as const satisfies Members;

/** What newer QEMU has added to other types and commands that 7.2 has. */
const newerMembers: Readonly<Record<string, Members>> = {
  BackupCommon: { "*discard-source": "bool", "*on-cbw-error": "OnCbwError" },
  BackupPerf: { "*min-cluster-size": "size" },
  BlockJobInfo: { "*actively-synced": "bool" },
};

const newerTypes: TypeTable = {
  BlockJobChangeOptionsMirror: struct({ "copy-mode": "MirrorCopyMode" }),
  BlockJobChangeOptions: union({
    base: { id: "str", type: "JobType" },
    tag: "type",
    branches: {
      ...{ commit: null, stream: null, backup: null, create: null, amend: null },
      ...{ "snapshot-load": null, "snapshot-save": null, "snapshot-delete": null },
      mirror: "BlockJobChangeOptionsMirror",
    },
  }),
};

/** The schema of that level over the fixed table (or one that has more than it). */
export function schemaAt(level: CompatLevel, base: Schema): Schema {
  if (level === "7.2") return olderSchema(base);
  const newer = newerSchema(base);
  if (level === "10.1") return newer;
  const { commands } = newer;
  const types = typesWith([allocTrack], newer.types);
  return {
    ...newer,
    types: { ...types, DriveMirror: struct({ ...membersOf(types, "DriveMirror"), ...byBitmap }) },
    commands: { ...commands, "blockdev-mirror": withMembers(commands["blockdev-mirror"], byBitmap) },
  };
}

function olderSchema(base: Schema): Schema {
  const types = without(base.types, newerOptions);
  const volume = types["BlockdevCreateOptionsLUKS"] as StructDef;
  const { "*file": file, ...others } = volume.members;
  const wanted = { ...volume, members: { file: file!, ...others } };
  return { ...base, types: { ...types, BlockdevCreateOptionsLUKS: wanted } };
}

/** The types without these members of theirs. */
function without(types: TypeTable, names: Readonly<Record<string, readonly string[]>>): TypeTable {
  const cut = Object.entries(names).flatMap(([name, gone]): [string, TypeDef][] => {
    const type = types[name];
    if (type?.kind !== "struct") return [];
    const kept = Object.entries(type.members).filter(([member]) => !gone.includes(member));
    return [[name, { ...type, members: Object.fromEntries(kept) }]];
  });
  return { ...types, ...Object.fromEntries(cut) };
}

function newerSchema(base: Schema): Schema {
  const { commands, types } = base;
  const grown = Object.entries(newerMembers).map(([name, members]): [string, TypeDef] => {
    const type = types[name] as StructDef;
    return [name, { ...type, members: { ...type.members, ...members } }];
  });
  return {
    ...base,
    types: { ...types, ...newerTypes, ...Object.fromEntries(grown) },
    commands: {
      ...commands,
      "blockdev-mirror": withMembers(commands["blockdev-mirror"], { "*target-is-zero": "bool" }),
      "block-job-change": command({ data: "BlockJobChangeOptions" }),
    },
  };
}

/** What query-qmp-schema shows of a table: below our own level nothing that is ours. */
export function schemaShownAt(level: CompatLevel, table: Schema): Schema {
  if (level === "blockwright") return table;
  const shown = Object.entries(without(table.types, ownOptions)).map(([name, type]): [string, TypeDef] => {
    if (name === "BlockdevDriver") return [name, withoutOwnValues(type as EnumDef)];
    return [name, type.kind === "union" && type.tag === "driver" ? withoutOwnBranches(type) : type];
  });
  const commands = Object.entries(table.commands).filter(([name]) => !ownCommands.has(name));
  return { ...table, types: Object.fromEntries(shown), commands: Object.fromEntries(commands) };
}

function withoutOwnValues(type: EnumDef): EnumDef {
  return { ...type, values: type.values.filter((value) => !ownDrivers.has(value)) };
}

function withoutOwnBranches(type: UnionDef): UnionDef {
  const kept = Object.entries(type.branches).filter(([name]) => !ownDrivers.has(name));
  return { ...type, branches: Object.fromEntries(kept) };
}

function membersOf(types: TypeTable, name: string): Members {
  const type = types[name];
  return type?.kind === "struct" ? type.members : {};
}

function withMembers<C extends Schema["commands"][string]>(known: C | undefined, members: Members): C {
  return { ...known, data: { ...(known?.data as Members), ...members } } as C;
}
