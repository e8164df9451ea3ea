// The registry and the fixed QAPI table of QEMU 7.2 say the same of every driver; the names known before any driver is loaded are those of
// the drivers that say so.
import { expect, it } from "vitest";
import type { CreateOption, DriverType } from "../../../src/block/model/contract.ts";
import { overlayFormat, plainFormat } from "../../../src/drivers/format/defaults.ts";
import { nbd } from "../../../src/drivers/protocol/nbd/index.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { file, hostCdrom, hostDevice } from "../../../src/drivers/protocol/file.ts";
import { indexedDb } from "../../../src/drivers/protocol/indexeddb.ts";
import { blklogwrites } from "../../../src/drivers/filter/blklogwrites/index.ts";
import { blkreplay } from "../../../src/drivers/filter/blkreplay.ts";
import { preallocate } from "../../../src/drivers/filter/preallocate.ts";
import { quorum } from "../../../src/drivers/filter/quorum.ts";
import { opfs } from "../../../src/drivers/protocol/opfs/index.ts";
import { schema, schemaWith } from "../../../src/wire/qapi/index.ts";
import type { EnumDef, StructDef, UnionDef } from "../../../src/wire/qapi/schema.ts";

const drivers: readonly DriverType[] = [
  ...portableDrivers,
  file,
  hostDevice,
  hostCdrom,
  nbd,
  blklogwrites,
  blkreplay,
  preallocate,
  quorum,
  opfs,
  indexedDb,
];
/** Those of the table: neither the library's alone, nor drivers that bring their options with them. */
const fixed = drivers.filter(({ isLibraryOnly, openOptions }) => !isLibraryOnly && openOptions === undefined);

function branch(union: string, name: string): string | null | undefined {
  return (schema.types[union] as UnionDef).branches[name];
}

/** The members of a struct with those of its base, by name. */
function membersOf(name: string): string[] {
  const { members, base } = schema.types[name] as StructDef;
  return [...(base === undefined ? [] : membersOf(base)), ...Object.keys(members)].map((key) =>
    key.replace("*", ""),
  );
}

function wires(rows: readonly CreateOption[]): string[] {
  return [
    ...new Set(rows.flatMap(({ wire }) => (wire === undefined ? [] : [wire.split(".")[0]!]))),
  ].toSorted();
}

it("names the same drivers", () => {
  const known = (schema.types["BlockdevDriver"] as EnumDef).values;
  expect(fixed.map(({ name }) => name).toSorted()).toEqual([...known].toSorted());
  for (const name of known) expect(branch("BlockdevOptions", name), name).toBeTypeOf("string");
  expect(schemaWith(fixed)).toBe(schema);
});

it.each(fixed)("says of $name what can be made and amended, and by which options", (type) => {
  const made = branch("BlockdevCreateOptions", type.name);
  expect(typeof made === "string").toBe(type.create !== undefined);
  const amended = branch("BlockdevAmendOptions", type.name);
  expect(typeof amended === "string").toBe(type.amendOptions !== undefined);
  if (type.kind !== "format" || typeof made !== "string") return;
  // Where preallocation is the file's option for users, it is the volume's in QAPI.
  const rows = wires([...(type.createOptions ?? []), ...(file.createOptions ?? [])]);
  expect(rows).toEqual(
    membersOf(made)
      .filter((name) => name !== "file" && name !== "header")
      .toSorted(),
  );
});

it("has one format for what no probe claims and one for overlays", () => {
  const isDefault = (use: string): string[] =>
    drivers.filter((type) => type.isDefault === use).map(({ name }) => name);
  expect(isDefault("unclaimed")).toEqual([plainFormat]);
  expect(isDefault("overlay")).toEqual([overlayFormat]);
});

it("measures and streams every format that can be made, LUKS' noise apart", () => {
  const formats = drivers.filter(({ kind, createOptions }) => kind === "format" && createOptions);
  expect(formats.filter(({ measure }) => !measure)).toEqual([]);
  expect(formats.filter(({ stream }) => !stream).map(({ name }) => name)).toEqual(["luks"]);
});

it("gives a driver that QEMU does not know its place in a table of its own", () => {
  const type: DriverType = {
    name: "odd",
    kind: "format",
    supportsBacking: true,
    openOptions: { "*speed": "int" },
    createOptions: [
      { name: "size", type: "size", wire: "size", help: "" },
      { name: "mode", type: "str", wire: "mode", values: ["a", "b"], help: "" },
    ],
    open: () => Promise.reject(new Error("never opened")),
    create: () => Promise.resolve(),
  };
  const { types } = schemaWith([...drivers, type]);
  expect(types["BlockdevOptions:odd"]).toMatchObject({
    base: "BlockdevOptionsGenericCOWFormat",
    members: { "*speed": "int" },
  });
  expect(types["BlockdevCreateOptions:odd"]).toMatchObject({
    members: { file: "BlockdevRef", size: "size", "*mode": "BlockdevCreateOptions:odd:mode" },
  });
  expect((types["BlockdevAmendOptions"] as UnionDef).branches["odd"]).toBeNull();
  expect(schema.types["BlockdevOptions:odd"]).toBeUndefined();
});
