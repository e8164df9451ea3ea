/** The JSON reader against what qemu-storage-daemon 7.2 said, cut anywhere, and under its limits. */
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import {
  JsonFraction,
  JsonStream,
  parseJson,
  stringifyJson,
  type JsonItem,
} from "../../../../src/wire/qapi/index.ts";
import { JsonLexer } from "../../../../src/wire/qapi/json-lexer.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function readAll(text: string, stream = new JsonStream()): JsonItem[] {
  return [...stream.feed(bytesOf(text)), ...stream.finish()];
}

/** Errors without the prefix, values as JSON. */
function summary(text: string): string[] {
  return readAll(text).map((item) =>
    item.kind === "error" ? item.message.replace("JSON parse error, ", "E ") : stringifyJson(item.value),
  );
}

// Every right-hand side is what the real program answered (values by its `id` echo).
const recorded: [string, string[]][] = [
  ['{"execute":"x","execute":"y"}', ["E duplicate key"]],
  [`{'execute':'query-version','id':'it\\'s'}`, ['{"execute": "query-version", "id": "it\'s"}']],
  ['{"a":"\\ud83d"}', ["E \\ud83d is not a valid Unicode character"]],
  ['{"a":"\\ud83dx"}', ["E \\ud83d is not a valid Unicode character"]],
  ['{"a":"\\ud83d\\u0041"}', ["E \\ud83d is not a valid Unicode character"]],
  ['{"a":"\\uffff"}', ["E \\uffff is not a valid Unicode character"]],
  ['{"a":"\\ufdd0"}', ["E \\ufdd0 is not a valid Unicode character"]],
  ['{"a":"\\u12"}', ['E \\u12" is not a valid Unicode character']],
  ['{"a":"é😀\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\""}', ['{"a": "é😀é😀/\\b\\f\\n\\r\\t\\""}']],
  ['{"a":"\\x"}', ["E invalid escape sequence in string"]],
  ['{"id":"a\tb"}', ["E stray '\"a\t'", "E expecting value"]],
  ['{"execute":"query-version",}', ["E expecting value"]],
  ['{"execute" "query-version"}', ["E missing : in object pair"]],
  ['{"execute":}', ["E expecting value"]],
  ["{execute:1}", ["E invalid keyword 'execute'"]],
  ["{1:2}", ["E key is not a string in object"]],
  ['{"a":1 "b":2}', ["E expected separator in dict"]],
  ['{"a":[1 2]}', ["E expected separator in list"]],
  ['{"a":[1,]}', ["E expecting value"]],
  ['{"a":[,1]}', ["E expecting value"]],
  ['{"execute":"query-version"]', ["E expected separator in dict"]],
  ["]", ["E expecting value"]],
  ["}", ["E expecting value"]],
  [":", ["E expecting value"]],
  [",", ["E expecting value"]],
  ['{"a":[1,2}}', ["E expected separator in list"]],
  ['{"a":foo}', ["E invalid keyword 'foo'"]],
  ['{"a":nulll}', ["E invalid keyword 'nulll'"]],
  ['{"a":01}', ["E stray '01'", "E expecting value"]],
  ['{"a":-}', ["E stray '-}'"]],
  ['{"a":1.}', ["E stray '1.}'"]],
  ['{"a":1e}', ["E stray '1e}'"]],
  ['{"a":+1}', ["E stray '+'", "E expecting value"]],
  ['{"a":.5}', ["E stray '.'", "E expecting value"]],
  ["foo", ["E invalid keyword 'foo'"]],
  ["GET", ["E stray 'G'"]],
  ['{"a":%d}', ["E stray '%'", "E expecting value"]],
  ['{"a":@}', ["E stray '@'", "E expecting value"]],
  ['{"a":1} x', ['{"a": 1}', "E invalid keyword 'x'"]],
  ["{:1}", ["E expecting value"]],
  ['{"a"}', ["E missing : in object pair"]],
  ['{"a",1}', ["E missing : in object pair"]],
  ["{{}:1}", ["E key is not a string in object"]],
  ["[1,2\n{}\n3]", ["E expected separator in list"]],
  ["{}{}[] 1 null", ["{}", "{}", "[]", "1", "null"]],
];

describe("messages", () => {
  it.each(recorded)("%s", (text, expected) => {
    expect(summary(text)).toEqual(expected);
  });

  it.each(recorded)("cut at every byte: %s", (text) => {
    const whole = readAll(text);
    const bytes = bytesOf(text);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const stream = new JsonStream();
      const items = [
        ...stream.feed(bytes.subarray(0, cut)),
        ...stream.feed(bytes.subarray(cut)),
        ...stream.finish(),
      ];
      expect(items).toEqual(whole);
    }
  });

  it("tells lexical errors from errors of structure", () => {
    const kinds = ["GET / HTTP/1.1", "{]", "wrong", '"\u0001"'].map((text) => {
      const [item] = readAll(text);
      return item?.kind === "error" && item.lexical;
    });
    expect(kinds).toEqual([true, false, true, true]);
  });

  it("refuses bytes that are not UTF-8", () => {
    const inString = [...new JsonStream().feed(Uint8Array.of(0x22, 0xc3, 0x28, 0x22))];
    expect(inString).toEqual([
      { kind: "error", message: "JSON parse error, invalid UTF-8 sequence in string", lexical: false },
    ]);
    const outside = [...new JsonStream().feed(Uint8Array.of(0xff))];
    expect(outside).toMatchObject([{ kind: "error", lexical: true }]);
  });

  it("reads on after an error", () => {
    expect(summary('@ junk "more"\n{"a":1}')).toEqual(["E stray '@'", '{"a": 1}']);
  });
});

describe("limits", () => {
  const bounds = { maxBytes: 64, maxDepth: 4, maxTokens: 20 };
  it.each([
    ["[[[[[", "JSON nesting depth limit exceeded"],
    [`"${"x".repeat(70)}`, "JSON token size limit exceeded"],
    [`["${"x".repeat(40)}","${"x".repeat(40)}"`, "JSON token size limit exceeded"],
    [`[${"1,".repeat(12)}`, "JSON token count limit exceeded"],
  ])("%s", (text, message) => {
    const stream = new JsonStream(bounds);
    expect([...stream.feed(bytesOf(text))][0]).toEqual({ kind: "error", message, lexical: true });
  });

  it("takes what just fits", () => {
    expect(readAll("[[[[1]]]]", new JsonStream(bounds))).toMatchObject([{ kind: "value" }]);
  });

  it("survives the default depth", () => {
    const deep = "[".repeat(1024) + "]".repeat(1024);
    expect(readAll(deep)).toMatchObject([{ kind: "value" }]);
    expect(readAll(`[${deep}]`)[0]).toMatchObject({ message: "JSON nesting depth limit exceeded" });
  });
});

/** How often a lexer is asked byte by byte for `text`: what decides the time that a long token takes. */
function bytewiseSteps(text: string): number {
  const push = vi.spyOn(JsonLexer.prototype, "push");
  try {
    readAll(text);
    return push.mock.calls.length;
  } finally {
    push.mockRestore();
  }
}

describe("heavy messages", () => {
  it.each([
    ["digits", "9".repeat(100_000)],
    ["a fraction", `0.${"1".repeat(100_000)}`],
    ["an exponent", `1e${"1".repeat(100_000)}`],
    ["a keyword", "x".repeat(100_000)],
    ["a string", `"${"x".repeat(100_000)}"`],
    ["escapes", `"${"\\n".repeat(50_000)}"`],
    ["unicode escapes", `"${"\\u00e9".repeat(20_000)}"`],
    ["white space", `${" ".repeat(100_000)}1`],
    ["junk", `@${"x".repeat(100_000)}`],
  ])("takes %s in runs, not byte by byte", (_what, text) => {
    expect(bytewiseSteps(text)).toBeLessThan(10);
  });

  it("never works out more digits than an integer of 64 bits has", () => {
    const big = vi.spyOn(globalThis, "BigInt");
    try {
      expect(parseJson("9".repeat(100_000))).toBe(Infinity);
      expect(parseJson(`-${"9".repeat(300)}`)).toBe(-1e300);
      expect(big).not.toHaveBeenCalled();
    } finally {
      big.mockRestore();
    }
    expect(parseJson("18446744073709551615")).toBe(2n ** 64n - 1n);
    expect(parseJson("-9223372036854775808")).toBe(-(2n ** 63n));
    expect(parseJson("18446744073709551616")).toBe(2 ** 64);
    expect(parseJson("-99999999999999999999")).toBe(-1e20);
  });

  it("reads every escape of a long string", () => {
    const text = String.raw`aé\u00e9\ud83d\ude00\\\n\/\"\'`;
    const stands = `aéé😀\\\n/"'`;
    expect(parseJson(`"${text.repeat(10_000)}"`)).toBe(stands.repeat(10_000));
  });
});

describe("parseJson", () => {
  it.each([
    ["{", "JSON parse error, premature EOI"],
    ['{"driver":"null-co"', "JSON parse error, premature EOI"],
    ['{"driver":"null-co"} x', "Expecting at most one JSON value"],
    ['{"driver":"null-co"}{}', "Expecting at most one JSON value"],
    ['{"driver":foo}', "JSON parse error, invalid keyword 'foo'"],
    ['{"a', "JSON parse error, stray '\"a'"],
    ['{"a":12', "JSON parse error, premature EOI"],
    ['{"a":tr', "JSON parse error, invalid keyword 'tr'"],
    ['{"a":-', "JSON parse error, stray '-'"],
    ["{,", "JSON parse error, expecting value"],
    ["", "Expecting a JSON value"],
  ])("refuses %s", (text, message) => {
    expect(() => parseJson(text)).toThrow(message);
  });

  it("keeps 64-bit integers and fractions apart", () => {
    expect(parseJson("[18446744073709551615, -9223372036854775808, 1.0, 1e3, 2.5, -0]")).toEqual([
      18446744073709551615n,
      -9223372036854775808n,
      new JsonFraction(1),
      new JsonFraction(1000),
      2.5,
      0,
    ]);
    expect(parseJson("18446744073709551616")).toBe(18446744073709551616);
    expect(stringifyJson(parseJson("[18446744073709551615, 1e400]"))).toBe("[18446744073709551615, 1e999]");
  });

  it("reads back everything that JSON.stringify writes", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const text = JSON.stringify(value);
        expect(JSON.parse(stringifyJson(parseJson(text)))).toEqual(JSON.parse(text));
      }),
    );
  });

  it("never fails but with a message, whatever the bytes", () => {
    const soup = fc.array(fc.constantFrom(...Array.from("{}[]:,\"'\\u0129.eE+- \n\ttruefalsn@é")), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(soup, (characters) => {
        for (const item of readAll(characters.join(""))) {
          if (item.kind === "error") expect(item.message).toMatch(/^JSON /);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

it("writes keys in the order of QEMU's dictionaries", () => {
  // As qemu-storage-daemon and qemu-img write them.
  const greeting = { qemu: { major: 7, minor: 2, micro: 22 }, package: "p" };
  expect(stringifyJson(greeting)).toBe('{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "p"}');
  expect(stringifyJson({ id: "job0", status: "created" })).toBe('{"status": "created", "id": "job0"}');
  const empty = { flags: [], a: {} };
  expect(stringifyJson(empty, 4)).toBe('{\n    "flags": [\n    ],\n    "a": {\n    }\n}');
  const image = {
    "backing-filename": "b",
    "dirty-flag": false,
    "cluster-size": 1,
    format: "f",
    filename: "n",
  };
  expect(Object.keys(JSON.parse(stringifyJson(image)) as object)).toEqual([
    "filename",
    "cluster-size",
    "format",
    "backing-filename",
    "dirty-flag",
  ]);
});
