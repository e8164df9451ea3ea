// The human monitor's line editor and words: the bytes and messages of the real monitor, recorded from 7.2.
import { describe, expect, it } from "vitest";
import { LineEditor } from "../../../../src/server/monitor/hmp/readline.ts";
import { parsedSize } from "../../../../src/server/monitor/hmp/numbers.ts";
import { parameters } from "../../../../src/server/monitor/hmp/command.ts";
import { firstWord, readWords } from "../../../../src/server/monitor/hmp/words.ts";

const type = (text: string): { output: string; lines: string[] } => {
  const editor = new LineEditor();
  const lines: string[] = [];
  let output = "";
  for (const char of text) {
    const typed = editor.type(char);
    output += typed.output;
    if (typed.line !== undefined) lines.push(typed.line);
  }
  return { output, lines };
};

describe("the line editor", () => {
  it("shows a line anew with each character, as the real one does", () => {
    const clear = "\u001b[K";
    const back = "\u001b[D";
    expect(type("foo\n\n")).toEqual({
      output: `f${clear}${back}fo${clear}${back}${back}foo${clear}\r\n\r\n`,
      lines: ["foo", ""],
    });
  });

  it("takes characters back, and bounds a line", () => {
    expect(type("ab\b\u007f\u0015cd\r").lines).toEqual(["cd"]);
    expect(type(`${"x".repeat(5000)}\n`).lines[0]).toHaveLength(4095);
  });
});

describe("the words of a line", () => {
  const spec = parameters("-d:qdev device:B command:s");

  it("are read by the command's parameters", () => {
    expect(readWords("qemu-io", ' -d x "read -P 1 0 \\"4k\\""', spec)).toEqual({
      qdev: true,
      device: "x",
      command: 'read -P 1 0 "4k"',
    });
    expect(firstWord("  info  block ")).toEqual({ name: "info", rest: "  block " });
    const sized = readWords("block_resize", " d 16", parameters("device:B size:o"));
    expect(sized).toEqual({ device: "d", size: 16 * 1024 * 1024 });
  });

  it.each([
    ["", "qemu-io: block device name expected"],
    [" x", "qemu-io: string expected"],
    [" x y z", "qemu-io: extraneous characters at the end of line"],
    [' x "y', "unterminated string\nqemu-io: string expected"],
  ])("that are wrong (%j) are told in QEMU's words", (line, message) => {
    expect(() => readWords("qemu-io", line, spec)).toThrow(message);
  });

  it("take sizes in megabytes unless they say otherwise", () => {
    expect([parsedSize("2"), parsedSize("2k"), parsedSize("1.5G"), parsedSize("x")]).toEqual([
      2097152,
      2048,
      1610612736,
      undefined,
    ]);
  });
});
