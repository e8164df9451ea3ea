/** Payloads of options and of their replies against bytes written by hand; what is malformed is refused as a whole. */
import { describe, expect, it } from "vitest";
import {
  ALLOCATION_DEPTH,
  BASE_ALLOCATION,
  bitmapContext,
  bitmapOfContext,
  selectContexts,
} from "../../../../src/wire/nbd/contexts.ts";
import {
  decodeInformation,
  decodeInfoRequest,
  decodeListed,
  decodeMetaContext,
  decodeMetaRequest,
  encodeInformation,
  encodeInfoRequest,
  encodeListed,
  encodeMetaContext,
  encodeMetaRequest,
} from "../../../../src/wire/nbd/options.ts";
import { hex } from "./support.ts";

/** A 32-bit length of 4097 bytes and that many letters. */
function tooLong(): Uint8Array {
  return hex(`00001001 ${"61".repeat(4097)}`);
}

describe("INFO and GO", () => {
  const bytes = hex("00000002 6869 0002 0003 0001");

  it("name an export and what is wanted to be known", () => {
    expect(encodeInfoRequest({ name: "hi", wanted: [3, 1] })).toEqual(bytes);
    expect(decodeInfoRequest(bytes)).toEqual({ name: "hi", wanted: [3, 1] });
    expect(decodeInfoRequest(hex("00000000 0000"))).toEqual({ name: "", wanted: [] });
  });

  it.each([
    ["too short for the name's length", "0000"],
    ["a name beyond the end", "00000010 6869 0000"],
    ["a name of 4 GiB", "ffffffff 6869 0000"],
    ["fewer requests than counted", "00000000 0002 0003"],
    ["more requests than counted", "00000000 0000 0003"],
    ["half a request", "00000000 0001 00"],
    ["a name that is no UTF-8", "00000002 ff68 0000"],
    ["a NUL in the name", "00000002 6100 0000"],
  ])("refuse %s", (_what, digits) => {
    expect(() => decodeInfoRequest(hex(digits))).toThrow(
      expect.objectContaining({ code: "EINVAL" }) as Error,
    );
  });

  it("refuse a name of more than 4096 bytes though it is all there", () => {
    expect(() => decodeInfoRequest(hex(`${"00001001"} ${"61".repeat(4097)} 0000`))).toThrow(
      "A string is too long",
    );
  });
});

describe("a listed export", () => {
  it("is a name and, in the rest, its description", () => {
    const bytes = hex("00000002 6869 c3a4");
    expect(encodeListed({ name: "hi", description: "ä" })).toEqual(bytes);
    expect(decodeListed(bytes)).toEqual({ name: "hi", description: "ä" });
    expect(() => decodeListed(tooLong())).toThrow("A string is too long");
    expect(() => decodeListed(hex("00000003 6869"))).toThrow("too short");
  });
});

describe("information", () => {
  it.each([
    [{ kind: "export", size: 512, flags: 0x8d } as const, "0000 0000000000000200 008d"],
    [{ kind: "name", text: "x" } as const, "0001 78"],
    [{ kind: "description", text: "" } as const, "0002"],
    [
      { kind: "blockSize", minimum: 1, preferred: 4096, maximum: 0x2000000 } as const,
      "0003 00000001 00001000 02000000",
    ],
  ])("of kind %o", (piece, digits) => {
    expect(encodeInformation(piece)).toEqual(hex(digits));
    expect(decodeInformation(hex(digits))).toEqual(piece);
  });

  it("of another kind is passed on by its number; a wrong length is refused", () => {
    expect(decodeInformation(hex("1234 00"))).toEqual({ kind: "other", type: 0x1234 });
    expect(() => decodeInformation(hex("0000 0000000000000200"))).toThrow("too short");
    expect(() => decodeInformation(hex("0000 0000000000000200 008d 00"))).toThrow("too long");
    expect(() => decodeInformation(hex("0003 00000001 00001000 02000000 00"))).toThrow("too long");
    expect(() => decodeInformation(hex("00"))).toThrow("too short");
  });
});

describe("metadata contexts", () => {
  const bytes = hex("00000001 65 00000002 00000005 626173653a 00000000");

  it("are asked for by export and queries", () => {
    expect(encodeMetaRequest({ name: "e", queries: ["base:", ""] })).toEqual(bytes);
    expect(decodeMetaRequest(bytes)).toEqual({ name: "e", queries: ["base:", ""] });
  });

  it("of a query that is too long: it is passed over", () => {
    const long = tooLong();
    const request = new Uint8Array(8 + long.byteLength);
    request.set(hex("00000000 00000001"));
    request.set(long, 8);
    expect(decodeMetaRequest(request)).toEqual({ name: "", queries: [] });
  });

  it("of counts and lengths beyond the end are refused", () => {
    expect(() => decodeMetaRequest(hex("00000000 00000001"))).toThrow("too short");
    expect(() => decodeMetaRequest(hex("00000000 ffffffff 00000000"))).toThrow("too short");
    expect(() => decodeMetaRequest(hex("00000000 00000000 00"))).toThrow("too long");
  });

  it("are told by number and name", () => {
    expect(encodeMetaContext({ id: 2, name: "a:b" })).toEqual(hex("00000002 613a62"));
    expect(decodeMetaContext(hex("00000002 613a62"))).toEqual({ id: 2, name: "a:b" });
  });

  const offered = [BASE_ALLOCATION, ALLOCATION_DEPTH, bitmapContext("b0"), bitmapContext("b1")];

  it.each<[queries: string[], list: boolean, chosen: number[]]>([
    [[], true, [0, 1, 2, 3]],
    [[], false, []],
    [["base:"], true, [0]],
    [["base:"], false, []],
    [["qemu:"], true, [1, 2, 3]],
    [["qemu:"], false, []],
    [["qemu:dirty-bitmap:"], true, [2, 3]],
    [["qemu:dirty-bitmap:"], false, []],
    [["qemu:dirty-bitmap:b1", "base:allocation", "base:allocation"], false, [0, 3]],
    [["qemu:dirty-bitmap:b", "base", "x:y", ""], true, []],
  ])("chosen by %j, list %s", (queries, list, chosen) => {
    expect(selectContexts(queries, offered, list)).toEqual(chosen.map((i) => offered[i]));
  });

  it("of bitmaps tell which", () => {
    expect(bitmapOfContext("qemu:dirty-bitmap:a:b")).toBe("a:b");
    expect(bitmapOfContext(ALLOCATION_DEPTH)).toBeUndefined();
    expect(ALLOCATION_DEPTH).toBe("qemu:allocation-depth");
  });
});
