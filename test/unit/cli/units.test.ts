// Sizes and times as the command line reads and prints them.
import { describe, expect, it } from "vitest";
import { formatBytes, formatSeconds, parseBytes } from "../../../src/cli/units.ts";

describe("sizes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "0.977 KiB"],
    [1024, "1 KiB"],
    [70_144, "68.5 KiB"],
    [197_120, "192 KiB"],
    [197_632, "193 KiB"],
    [1023 * 1024, "0.999 MiB"],
    [5_509_120, "5.25 MiB"],
    [2 ** 30 * 1.5, "1.5 GiB"],
    [2 ** 50, "1 PiB"],
  ])("%d is printed as qemu-img prints it: %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    ["65536", 65_536],
    ["64k", 65_536],
    ["10M", 10 * 2 ** 20],
    ["1.5G", 1.5 * 2 ** 30],
    ["", undefined],
    ["-1", undefined],
    ["1Z", undefined],
    ["0.3", undefined],
    ["99999999P", undefined],
  ])("%o is read as %o", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });
});

describe("times", () => {
  it.each([
    [0, "0:00"],
    [7.4, "0:07"],
    [725, "12:05"],
    [3723, "1:02:03"],
  ])("%d s is %s", (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });
});
