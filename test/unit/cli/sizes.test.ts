// Sizes as qemu-img reads and prints them, and the options of new images.
import { portableDrivers } from "../../../src/drivers/index.ts";
import { file } from "../../../src/drivers/protocol/file.ts";
import { expect, it } from "vitest";
import { CreateOptions } from "../../../src/cli/options/create-options.ts";
import { optionLists } from "../../../src/cli/options/rows.ts";
import { parseSize, twoDigits } from "../../../src/cli/options/sizes.ts";

it.each([
  ["0", 0n],
  [" 64k", 65_536n],
  ["1.5K", 1536n],
  ["0.3k", 307n],
  ["1.9999999k", 2048n],
  ["+1", 1n],
  ["0x10", 16n],
  ["3b", 3n],
  ["16E", "range"],
  ["1.5", "invalid"],
  ["1.0", 1n],
  ["1e3", "invalid"],
  ["1MB", "invalid"],
  ["", "invalid"],
  ["-1", "invalid"],
])("reads %j as %s", (text, value) => {
  expect(parseSize(text)).toBe(value);
});

it("rounds halves to the even digit, as printf does", () => {
  expect([15.625, 15.375, 0.125, 0.875, 33.333, 100, 2.675].map(twoDigits)).toEqual([
    "15.62",
    "15.38",
    "0.12",
    "0.88",
    "33.33",
    "100.00",
    "2.67",
  ]);
});

it("reads option lists and describes the image that they mean", () => {
  const options = new CreateOptions({ drivers: [...portableDrivers, file] }, "qcow2");
  for (const list of optionLists(["cluster_size=4k,compat=0.10", "backing_file=a,,b"])) options.parse(list);
  options.set("size", "1001");
  expect(options.spec({ driver: "file", filename: "f.qcow2" })).toEqual({
    driver: "qcow2",
    file: { driver: "file", filename: "f.qcow2" },
    "cluster-size": 4096,
    version: "v2",
    "backing-file": "a,b",
    size: 1024,
  });
  expect(String(options)).toContain("size=1001 compat=0.10 backing_file=a,,b lazy_refcounts=off");
  for (const bad of ["", ",a=b", "a=b,"]) expect(() => optionLists([bad])).toThrow("Invalid option list");
  expect(() => options.parse("nope=1")).toThrow("Invalid parameter 'nope'");
  expect(() => new CreateOptions({ drivers: [...portableDrivers, file] }, "toString")).toThrow(
    "Unknown file format 'toString'",
  );
});
