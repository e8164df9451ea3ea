/** query-qmp-schema: every type that it names exists, and its shapes are those that QEMU 7.2 publishes. */
import { describe, expect, it } from "vitest";
import { introspect, schema, type SchemaInfo } from "../../../../src/wire/qapi/index.ts";
import { isListRef, membersOf, type Members, type TypeRef } from "../../../../src/wire/qapi/schema.ts";

const entries = introspect();
const byName = new Map(entries.map((entry) => [entry.name, entry]));

function typesNamedBy(entry: SchemaInfo): string[] {
  switch (entry["meta-type"]) {
    case "command":
      return [entry["arg-type"], entry["ret-type"]];
    case "event":
      return [entry["arg-type"]];
    case "array":
      return [entry["element-type"]];
    case "alternate":
      return entry.members.map((member) => member.type);
    case "object":
      return [...entry.members, ...(entry.variants ?? [])].map((member) => member.type);
    default:
      return [];
  }
}

/** A command's or event's members, as QEMU's introspection describes them. */
function shape(name: string): string {
  const entry = byName.get(name);
  if (entry?.["meta-type"] !== "command" && entry?.["meta-type"] !== "event") return "none";
  const type = byName.get(entry["arg-type"]);
  if (type?.["meta-type"] !== "object") return "none";
  return type.members.map((member) => `${"default" in member ? "*" : ""}${member.name}`).join(" ");
}

describe("introspection", () => {
  it("names no type that it does not describe, and describes none twice", () => {
    expect(byName.size).toBe(entries.length);
    for (const entry of entries)
      for (const type of typesNamedBy(entry)) expect(byName.has(type), type).toBe(true);
  });

  it("describes no type that nothing names", () => {
    const named = new Set(entries.flatMap(typesNamedBy));
    const idle = entries.filter(
      (entry) => !["command", "event"].includes(entry["meta-type"]) && !named.has(entry.name),
    );
    expect(idle).toEqual([]);
  });

  it("masks names by numbers in the order of use, as QEMU does", () => {
    expect(entries.slice(0, 3)).toEqual([
      { name: "query-block", "meta-type": "command", "arg-type": "0", "ret-type": "[1]" },
      { name: "query-blockstats", "meta-type": "command", "arg-type": "2", "ret-type": "[3]" },
      { name: "query-block-jobs", "meta-type": "command", "arg-type": "0", "ret-type": "[4]" },
    ]);
    expect(byName.get("0")).toEqual({ name: "0", "meta-type": "object", members: [] });
    expect(byName.get("int")).toEqual({ name: "int", "meta-type": "builtin", "json-type": "int" });
  });

  it("has the members that QEMU publishes, in its order", () => {
    const published = {
      "block-stream":
        "*job-id device *base *base-node *backing-file *bottom *speed *on-error *filter-node-name *auto-finalize *auto-dismiss",
      "block-commit":
        "*job-id device *base-node *base *top-node *top *backing-file *speed *on-error *filter-node-name *auto-finalize *auto-dismiss",
      "blockdev-backup":
        "*job-id device sync *speed *bitmap *bitmap-mode *compress *on-source-error *on-target-error *auto-finalize *auto-dismiss *filter-node-name *x-perf target",
      "blockdev-mirror":
        "*job-id device target *replaces sync *speed *granularity *buf-size *on-source-error *on-target-error *filter-node-name *copy-mode *auto-finalize *auto-dismiss",
      "blockdev-add":
        "driver *node-name *discard *cache *read-only *auto-read-only *force-share *detect-zeroes",
      BLOCK_JOB_COMPLETED: "type device len offset speed *error",
      BLOCK_IO_ERROR: "device *node-name operation action *nospace reason",
      JOB_STATUS_CHANGE: "id status",
    };
    for (const [name, members] of Object.entries(published)) expect(shape(name)).toBe(members);
  });

  it("publishes features", () => {
    expect(byName.get("drive-backup")).toMatchObject({ features: ["deprecated"] });
    expect(byName.get("x-debug-query-block-graph")).toMatchObject({ features: ["unstable"] });
    expect(entries.some((entry) => entry.features?.includes("dynamic-auto-read-only"))).toBe(true);
  });

  it("leaves out what it is told to", () => {
    const left = introspect(new Set(["block-stream"]));
    expect(left.some((entry) => entry.name === "block-stream")).toBe(false);
  });
});

describe("the table", () => {
  const builtins =
    "str bool number null any int int8 int16 int32 int64 uint8 uint16 uint32 uint64 size".split(" ");

  function check(ref: TypeRef, where: string): void {
    const name = isListRef(ref) ? ref[0] : ref;
    expect(builtins.includes(name) || Object.hasOwn(schema.types, name), `${where}: ${name}`).toBe(true);
  }
  function checkMembers(members: Members, where: string): void {
    for (const { name, type } of membersOf(members)) check(type, `${where}.${name}`);
  }

  it("defines every type that it uses", () => {
    for (const [name, type] of Object.entries(schema.types)) {
      if (type.kind === "struct") checkMembers(type.members, name);
      if (type.kind === "struct" && type.base !== undefined) check(type.base, name);
      if (type.kind === "alternate") for (const one of type.types) check(one, name);
      if (type.kind !== "union") continue;
      checkMembers(type.base, name);
      for (const branch of Object.values(type.branches)) if (branch !== null) check(branch, name);
    }
    for (const [name, command] of Object.entries(schema.commands)) {
      if (typeof command.data === "string") check(command.data, name);
      else checkMembers(command.data, name);
      if (command.returns !== undefined) check(command.returns, name);
    }
    for (const [name, members] of Object.entries(schema.events)) checkMembers(members, name);
  });

  it("has a branch for every value of a discriminator, and no other", () => {
    let unions = 0;
    for (const [name, type] of Object.entries(schema.types)) {
      if (type.kind !== "union") continue;
      unions++;
      const member = membersOf(type.base).find(({ name: key }) => key === type.tag);
      const tag = typeof member?.type === "string" ? schema.types[member.type] : undefined;
      expect(tag?.kind, name).toBe("enum");
      if (tag?.kind === "enum")
        expect(Object.keys(type.branches).toSorted(), name).toEqual([...tag.values].toSorted());
    }
    expect(unions).toBeGreaterThanOrEqual(7);
  });
});
