/** The handshake's parts against bytes that were written by hand from the protocol's text. */
import { describe, expect, it } from "vitest";
import {
  CLIENT_FLAGS_BYTES,
  GREETING_BYTES,
  handshakeFlag,
  isErrorReply,
  option,
  OPTION_HEADER_BYTES,
  OPTION_REPLY_HEADER_BYTES,
  optionReply,
  optionReplyWord,
  optionWord,
} from "../../../../src/wire/nbd/constants.ts";
import {
  decodeClientFlags,
  decodeExportNameReply,
  decodeGreeting,
  decodeOptionHeader,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeExportNameReply,
  encodeGreeting,
  encodeOption,
  encodeOptionReply,
} from "../../../../src/wire/nbd/handshake.ts";
import { hex } from "./support.ts";

const bothFlags = handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes;

describe("greeting", () => {
  const bytes = hex("4e42444d41474943 49484156454f5054 0003");

  it("is NBDMAGIC, IHAVEOPT and the flags", () => {
    expect(encodeGreeting(bothFlags)).toEqual(bytes);
    expect(decodeGreeting(bytes)).toEqual({ flags: 3 });
  });

  it("refuses another magic, and says of an oldstyle server what it lacks", () => {
    expect(() => decodeGreeting(hex("4e42444d41474944 49484156454f5054 0003"))).toThrow(
      "Bad initial magic received",
    );
    expect(() => decodeGreeting(hex("4e42444d41474943 49484156454f5055 0003"))).toThrow(
      "Bad server magic received",
    );
    expect(() => decodeGreeting(hex("4e42444d41474943 0000420281861253 0003"))).toThrow(
      "Server does not support export names",
    );
  });

  it("is answered by flags of 32 bits", () => {
    expect(encodeClientFlags(bothFlags)).toEqual(hex("00000003"));
    expect(decodeClientFlags(hex("80000001"))).toBe(0x80000001);
  });
});

describe("options", () => {
  it("carry a magic, their number, and their payload with its length", () => {
    const bytes = hex("49484156454f5054 00000001 00000003 616263");
    expect(encodeOption(option.exportName, hex("616263"))).toEqual(bytes);
    expect(decodeOptionHeader(bytes.subarray(0, 16))).toEqual({ option: 1, length: 3 });
    expect(encodeOption(option.structuredReply)).toEqual(hex("49484156454f5054 00000008 00000000"));
    expect(() => decodeOptionHeader(hex("48484156454f5054 00000001 00000003"))).toThrow("Bad magic received");
  });

  it("are answered with a magic of their own, their number, the kind and a payload", () => {
    const bytes = hex("0003e889045565a9 00000007 80000006 00000002 6869");
    expect(encodeOptionReply(option.go, optionReply.errUnknown, hex("6869"))).toEqual(bytes);
    expect(decodeOptionReplyHeader(bytes.subarray(0, 20))).toEqual({
      option: 7,
      type: 0x80000006,
      length: 2,
    });
    expect(() => decodeOptionReplyHeader(hex("0003e889045565aa 00000007 80000006 00000002"))).toThrow(
      "Unexpected option reply magic",
    );
  });

  it("have headers of fixed length, and errors above the others", () => {
    expect([GREETING_BYTES, CLIENT_FLAGS_BYTES, OPTION_HEADER_BYTES, OPTION_REPLY_HEADER_BYTES]).toEqual(
      [encodeGreeting(0), encodeClientFlags(0), encodeOption(0), encodeOptionReply(0, 0)].map(
        (part) => part.byteLength,
      ),
    );
    expect([optionReply.ack, optionReply.metaContext, optionReply.errUnsupported].map(isErrorReply)).toEqual([
      false,
      false,
      true,
    ]);
  });

  it("have words for people", () => {
    expect(optionWord(option.setMetaContext)).toBe("set meta context");
    expect(optionWord(4711)).toBe("<unknown>");
    expect(optionReplyWord(optionReply.errTlsRequired)).toBe("TLS required");
    expect(optionReplyWord(0x80004711)).toBe("<unknown>");
  });
});

describe("the answer to an export's name", () => {
  it("is size and flags, with 124 zeroes unless both said no", () => {
    const info = { size: 0x123456789abcd, flags: 0x0d };
    const bytes = hex("000123456789abcd 000d");
    expect(encodeExportNameReply(info, true)).toEqual(bytes);
    const padded = encodeExportNameReply(info, false);
    expect(padded.byteLength).toBe(134);
    expect(padded.subarray(10).every((byte) => byte === 0)).toBe(true);
    expect(decodeExportNameReply(bytes)).toEqual(info);
  });
});
