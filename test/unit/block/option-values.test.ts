// Options as they are read from a node's description, and as a name says them; and their names in refusals.
import { describe, expect, it } from "vitest";
import { changedOption, firstOf, flatNames } from "../../../src/block/graph/option-names.ts";
import {
  booleanOption,
  childOption,
  defaultFormat,
  optionsOfName,
  sizeOption,
  storageOfName,
  stringListOption,
  stringOption,
} from "../../../src/block/model/options.ts";

describe("an option of another type is refused in QEMU's words", () => {
  const spec = (value: unknown) => ({ driver: "d", o: value });
  it.each([
    [() => booleanOption(spec("on"), "o"), "Invalid parameter type for 'o', expected: boolean"],
    [() => stringOption(spec(1), "o"), "Invalid parameter type for 'o', expected: string"],
    [() => stringListOption(spec("a"), "o"), "Invalid parameter type for 'o', expected: array"],
    [() => stringListOption(spec(["a", 1]), "o"), "Invalid parameter type for 'o', expected: string"],
    [() => sizeOption(spec("1"), "o"), "Invalid parameter type for 'o', expected: integer"],
    [() => sizeOption(spec(-1), "o"), "Parameter 'o' expects a non-negative number below 2^64"],
    [() => sizeOption(spec(1.5), "o"), "Parameter 'o' expects a non-negative number below 2^64"],
    [() => childOption(spec(null), "o"), "Invalid parameter type for 'o', expected: BlockdevRef"],
    [() => childOption(spec({}), "o"), "Invalid parameter type for 'o', expected: BlockdevRef"],
    [() => childOption(spec(7), "o"), "Invalid parameter type for 'o', expected: BlockdevRef"],
  ])("%#", (read, message) => {
    expect(read).toThrow(message);
  });

  it("what is there, or is not, is given as it is", () => {
    expect(booleanOption({ driver: "d" }, "o")).toBeUndefined();
    expect(stringListOption({ driver: "d" }, "o")).toEqual([]);
    expect(stringListOption(spec(["a", "b"]), "o")).toEqual(["a", "b"]);
    expect(childOption(spec("node"), "o")).toBe("node");
    expect(childOption(spec({ driver: "raw" }), "o")).toEqual({ driver: "raw" });
  });
});

it("a name's options are numbers and flags where the driver has such", () => {
  const openOptions = { "*flag": "bool", "*bytes": "size", count: "int", "*word": "str" } as const;
  const given = { flag: "on", bytes: "2M", count: "3", word: "12", other: "x", there: 4 };
  expect(optionsOfName({ openOptions }, given)).toEqual({
    ...{ flag: true, bytes: 2 ** 21, count: 3, word: "12", other: "x", there: 4 },
  });
  const read = (flag: string, bytes = "1") => optionsOfName({ openOptions }, { flag, bytes });
  expect([
    read("true"),
    read("off"),
    read("false"),
    read("maybe"),
    read("on", "1T"),
    read("on", "4k"),
  ]).toEqual([
    { flag: true, bytes: 1 },
    { flag: false, bytes: 1 },
    { flag: false, bytes: 1 },
    { flag: "maybe", bytes: 1 },
    // Left for the driver to refuse.
    { flag: true, bytes: "1T" },
    { flag: true, bytes: 4096 },
  ]);
  expect(optionsOfName({}, { flag: "on" })).toEqual({ flag: "on" });
});

it("an engine without drivers has no default format, and no storage by a name", () => {
  expect(() => defaultFormat({ drivers: [] }, "overlay")).toThrow(
    "Image format not specified, and this engine has none for images that do not say it",
  );
  expect(storageOfName({ drivers: [] }, "file", "file:a")).toBeUndefined();
});

describe("names of options", () => {
  it("the innermost that differs is named", () => {
    expect(changedOption("file", { driver: "file", locking: "on" }, { driver: "file", locking: "off" })).toBe(
      "locking",
    );
    expect(changedOption("file", { a: { b: 1 } }, { a: { b: 1, c: 2 } })).toBe("c");
    expect(changedOption("file", "node", { driver: "file" })).toBe("file");
    expect(changedOption("list", [1], [2])).toBe("list");
    expect(changedOption("file", { a: 1, b: undefined }, { a: 1 })).toBeUndefined();
    // The order of keys is none that matters.
    expect(changedOption("file", { a: 1, b: 2 }, { b: 2, a: 1 })).toBeUndefined();
  });

  it("a child's options have its name before them", () => {
    expect(flatNames("file", { driver: "raw", file: { driver: "file", filename: "a" } })).toEqual([
      "file.driver",
      "file.file.driver",
      "file.file.filename",
    ]);
    expect([flatNames("backing", null), flatNames("backing", "node")]).toEqual([["backing"], ["backing"]]);
    expect(firstOf([])).toBeUndefined();
    expect(firstOf(["only"])).toBe("only");
  });
});
