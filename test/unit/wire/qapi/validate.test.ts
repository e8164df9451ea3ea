/** The validator against what qemu-storage-daemon 7.2 answered, and the properties of what it returns. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  isCommandName,
  parseJson,
  QapiError,
  validate,
  validateArguments,
} from "../../../../src/wire/qapi/index.ts";
import type { JsonObject } from "../../../../src/wire/qapi/index.ts";
import { schema } from "../../../../src/wire/qapi/table.ts";
import { recordedBlockdev } from "./recorded-blockdev.ts";
import { recorded } from "./recorded.ts";

function refusalOf(message: string): string | null {
  const request = parseJson(message) as JsonObject;
  const name = request["execute"];
  if (typeof name !== "string") return "no execute";
  if (!isCommandName(name)) return "no such command";
  try {
    validateArguments(name, request["arguments"] ?? {});
    return null;
  } catch (error) {
    if (error instanceof QapiError) return error.message;
    throw error;
  }
}

describe("arguments", () => {
  it.each([...recorded, ...recordedBlockdev])("%s", (message, refusal) => {
    expect(refusalOf(message)).toBe(refusal);
  });

  it("has a full list of recordings", () => {
    expect(recorded.length + recordedBlockdev.length).toBeGreaterThan(130);
  });

  it("names the conformance suite's refusals", () => {
    const refusals = {
      '{"execute":"block-stream","arguments":{"job-id":"j","device":"top","on-error":"explode"}}':
        "Parameter 'on-error' does not accept value 'explode'",
      '{"execute":"block-stream","arguments":{"job-id":"j","device":"top","flavour":"mint"}}':
        "Parameter 'flavour' is unexpected",
      '{"execute":"block-stream","arguments":{"job-id":"j"}}': "Parameter 'device' is missing",
      '{"execute":"block-stream","arguments":{"job-id":"j","device":7}}':
        "Invalid parameter type for 'device', expected: string",
      '{"execute":"blockdev-mirror","arguments":{"job-id":"j","device":"top","target":"dst","sync":"sideways"}}':
        "Parameter 'sync' does not accept value 'sideways'",
      '{"execute":"query-block-jobs","arguments":{"a":1}}': "Parameter 'a' is unexpected",
      '{"execute":"blockdev-add","arguments":{"driver":"nonsense","node-name":"x"}}':
        "Parameter 'driver' does not accept value 'nonsense'",
    };
    for (const [message, refusal] of Object.entries(refusals)) expect(refusalOf(message)).toBe(refusal);
  });

  it("refuses drivers of QEMU that do not exist here", () => {
    expect(() => validate("BlockdevOptions", { driver: "ssh" })).toThrow(
      "Parameter 'driver' does not accept value 'ssh'",
    );
  });
});

describe("values", () => {
  it("copies what it knows, nested", () => {
    const options = validate("BlockdevOptions", {
      driver: "qcow2",
      "node-name": "top",
      file: { driver: "file", filename: "a.qcow2" },
      backing: null,
    });
    expect(options).toEqual({
      driver: "qcow2",
      "node-name": "top",
      file: { driver: "file", filename: "a.qcow2" },
      backing: null,
    });
    // The types follow the discriminator.
    if (options.driver !== "qcow2" || typeof options.file === "string") throw new Error("wrong type");
    if (options.file.driver !== "file") throw new Error("wrong type");
    const filename: string = options.file.filename;
    expect(filename).toBe("a.qcow2");
  });

  it("narrows 64-bit integers to safe ones", () => {
    const speed = (text: string): number | undefined =>
      validateArguments("block-stream", parseJson(`{"device":"x","speed":${text}}`)).speed;
    expect(speed("9223372036854775807")).toBe(Number.MAX_SAFE_INTEGER);
    expect(speed("-9223372036854775808")).toBe(Number.MIN_SAFE_INTEGER);
    expect(speed("9007199254740991")).toBe(Number.MAX_SAFE_INTEGER);
    expect(speed("-1")).toBe(-1);
    const size = validate("BlockdevCreateOptions", { driver: "file", filename: "x", size: -1 });
    expect(size).toEqual({ driver: "file", filename: "x", size: Number.MAX_SAFE_INTEGER });
  });

  it("never fails but with a QapiError, and returns only safe integers and known members", () => {
    const names = Object.keys(schema.commands).filter(isCommandName);
    const anything = fc.jsonValue({ maxDepth: 4 });
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.dictionary(fc.string(), anything),
        anything,
        (name, args, extra) => {
          for (const input of [
            args,
            { ...args, device: extra, node: "x", name: "y", options: extra, actions: extra },
          ]) {
            try {
              validateArguments(name, parseJson(JSON.stringify(input)));
            } catch (error) {
              expect(error).toBeInstanceOf(QapiError);
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it("does not let a prototype's names through", () => {
    expect(() => validate("BlockdevOptions", parseJson('{"__proto__":{"driver":"file"}}'))).toThrow(
      "Parameter 'driver' is missing",
    );
    const polluted = parseJson('{"driver":"null-co","__proto__":{"x":1}}');
    expect(() => validate("BlockdevOptions", polluted)).toThrow("Parameter '__proto__' is unexpected");
    expect(Object.hasOwn(Object.prototype, "x")).toBe(false);
  });
});
