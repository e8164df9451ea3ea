// The types of options: made when they are asked for, and put together with a program's own drivers only where one is named.
import { describe, expect, it } from "vitest";
import { isOfTable, optionTypes } from "../../../../src/wire/qapi/index.ts";
import { enumOf, struct, tableOf } from "../../../../src/wire/qapi/schema.ts";

describe("a table of types", () => {
  it("makes a definition once, and when it is asked for", () => {
    const made: string[] = [];
    const table = tableOf(
      { Plain: struct({ "*size": "size" }) },
      {
        Late: () => {
          made.push("Late");
          return enumOf("one", "two");
        },
      },
    );
    expect(table.Plain.members).toEqual({ "*size": "size" });
    expect(made).toEqual([]);
    expect(table.Late.values).toEqual(["one", "two"]);
    expect(table.Late).toBe(table.Late);
    expect(made).toEqual(["Late"]);
    expect(Object.keys(table)).toEqual(["Plain", "Late"]);
    expect({ ...table }.Late).toBe(table.Late);
  });

  it("has nothing under the names of an object's own functions", () => {
    expect((optionTypes as Record<string, unknown>)["toString"]).toBeUndefined();
    expect((optionTypes as Record<string, unknown>)["constructor"]).toBeUndefined();
  });
});

describe("a description", () => {
  const file = { driver: "file", filename: "x" };

  it.each([
    ["of one driver", file],
    ["of a chain", { driver: "qcow2", file, backing: { driver: "raw", file } }],
    [
      "with options in objects",
      { driver: "qcow2", file, encrypt: { format: "luks" }, cache: { direct: true } },
    ],
    ["that names nodes", { driver: "quorum", children: ["one", file], "vote-threshold": 1 }],
    ["without a driver", { file }],
  ])("%s is of the table", (_name, spec) => {
    expect(isOfTable(spec)).toBe(true);
  });

  it.each([
    ["at the top", { driver: "vdi", file }],
    ["below", { driver: "qcow2", file: { driver: "s3", bucket: "b" } }],
    ["in a list", { driver: "quorum", children: [file, { driver: "mine" }] }],
    ["that is no name", { driver: 7 }],
  ])("with another driver %s is not", (_name, spec) => {
    expect(isOfTable(spec)).toBe(false);
  });
});
