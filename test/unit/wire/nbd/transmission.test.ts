/** Requests, replies and chunks against bytes written by hand; numbers of errors both ways. */
import { describe, expect, it } from "vitest";
import {
  allocation,
  chunk,
  chunkWord,
  command,
  commandFlag,
  commandWord,
  depthState,
  DIRTY,
  exportFlag,
  SIMPLE_REPLY_BYTES,
} from "../../../../src/wire/nbd/constants.ts";
import { errnoOfNbd, nbdError } from "../../../../src/wire/nbd/errors.ts";
import {
  decodeBlockStatus,
  decodeChunkHeader,
  decodeDataOffset,
  decodeError,
  decodeHole,
  decodeRequest,
  decodeSimpleReply,
  encodeBlockStatus,
  encodeDataStart,
  encodeDone,
  encodeError,
  encodeHole,
  encodeRequest,
  encodeSimpleReply,
  replyHeaderBytes,
} from "../../../../src/wire/nbd/transmission.ts";
import { hex } from "./support.ts";

const cookie = 0xfedcba9876543210n;
const place = { cookie, done: false };
const last = { cookie, done: true };

describe("a request", () => {
  const bytes = hex("25609513 0003 0006 fedcba9876543210 0000001234567000 00010000");
  const request = {
    flags: commandFlag.fua | commandFlag.noHole,
    type: command.writeZeroes,
    cookie,
    offset: 0x1234567000,
    length: 65536,
  };

  it("has 28 bytes", () => {
    expect(encodeRequest(request)).toEqual(bytes);
    expect(decodeRequest(bytes)).toEqual(request);
  });

  it("of another magic is refused; an offset above 2^53 is just far too large", () => {
    expect(() => decodeRequest(hex("25609514 0003 0006 fedcba9876543210 0000001234567000 00010000"))).toThrow(
      "invalid magic (got 0x25609514)",
    );
    const far = hex("25609513 0000 0000 0000000000000001 ffffffffffffffff ffffffff");
    expect(decodeRequest(far)).toMatchObject({ offset: 2 ** 64, length: 0xffffffff });
  });
});

describe("a simple reply", () => {
  it("has 16 bytes with the error's number", () => {
    expect(encodeSimpleReply(cookie)).toEqual(hex("67446698 00000000 fedcba9876543210"));
    expect(encodeSimpleReply(cookie, "ENOSPC")).toEqual(hex("67446698 0000001c fedcba9876543210"));
    expect(decodeSimpleReply(hex("67446698 00000000 fedcba9876543210"))).toEqual({ cookie });
    expect(decodeSimpleReply(hex("67446698 00000001 fedcba9876543210"))).toEqual({ cookie, error: "EPERM" });
  });

  it("is told from a chunk by its first four bytes", () => {
    expect(replyHeaderBytes(hex("67446698"))).toBe(SIMPLE_REPLY_BYTES);
    expect(replyHeaderBytes(hex("668e33ef"))).toBe(20);
    expect(() => replyHeaderBytes(hex("00000000"))).toThrow("invalid magic (got 0x0)");
  });
});

describe("a chunk", () => {
  it("of data is a header and the offset, the data behind it", () => {
    const bytes = hex("668e33ef 0000 0001 fedcba9876543210 00000208 0000000000001000");
    expect(encodeDataStart(place, 4096, 512)).toEqual(bytes);
    expect(decodeChunkHeader(bytes.subarray(0, 20))).toEqual({
      flags: 0,
      type: chunk.offsetData,
      cookie,
      length: 520,
    });
    expect(decodeDataOffset(bytes.subarray(20))).toBe(4096);
  });

  it("of a hole is its range", () => {
    const bytes = hex("668e33ef 0001 0002 fedcba9876543210 0000000c 0000000000001000 00000200");
    expect(encodeHole(last, 4096, 512)).toEqual(bytes);
    expect(decodeHole(bytes.subarray(20))).toEqual({ offset: 4096, length: 512 });
    expect(() => decodeHole(bytes.subarray(20, 31))).toThrow("too short");
  });

  it("that ends a reply is empty", () => {
    expect(encodeDone(cookie)).toEqual(hex("668e33ef 0001 0000 fedcba9876543210 00000000"));
  });

  it("of an error has number, text and perhaps where", () => {
    const plain = hex("668e33ef 0001 8001 fedcba9876543210 00000008 00000005 0002 6869");
    expect(encodeError(last, { code: "EIO", text: "hi" })).toEqual(plain);
    expect(decodeError(chunk.error, plain.subarray(20))).toEqual({ code: "EIO", text: "hi" });
    const at = hex("668e33ef 0000 8002 fedcba9876543210 0000000e 0000001c 0000 0000000000000200");
    expect(encodeError(place, { code: "ENOSPC", offset: 512 })).toEqual(at);
    expect(decodeError(chunk.errorOffset, at.subarray(20))).toEqual({
      code: "ENOSPC",
      text: "",
      offset: 512,
    });
  });

  it("of an error that is none, or is cut, is refused", () => {
    expect(() => decodeError(chunk.error, hex("00000000 0000"))).toThrow("error = 0");
    expect(() => decodeError(chunk.error, hex("00000005 0003 6869"))).toThrow("too short");
    expect(() => decodeError(chunk.errorOffset, hex("00000005 0000 00"))).toThrow("too short");
  });

  it("of a block status is a context and extents", () => {
    const bytes = hex(
      "668e33ef 0001 0005 fedcba9876543210 00000014 00000002 00001000 00000003 00000200 00000000",
    );
    const extents = [
      { length: 4096, flags: 3 },
      { length: 512, flags: 0 },
    ];
    expect(encodeBlockStatus(last, 2, extents)).toEqual(bytes);
    expect(decodeBlockStatus(bytes.subarray(20))).toEqual({ context: 2, extents });
  });

  it("of a block status without extents, with half of one or an empty one is refused", () => {
    for (const digits of ["00000002", "00000002 00001000", "00000002 00000000 00000000"])
      expect(() => decodeBlockStatus(hex(digits))).toThrow("Protocol error");
  });

  it("has words for people", () => {
    expect([chunk.blockStatus, chunk.errorOffset, 0x8123, 99].map(chunkWord)).toEqual([
      "block status",
      "error at offset",
      "<unknown error>",
      "<unknown>",
    ]);
    expect(commandWord(command.writeZeroes)).toBe("write zeroes");
    expect(commandWord(99)).toBe("<unknown>");
  });
});

describe("errors", () => {
  it("have the protocol's numbers, and EINVAL for all that it does not know", () => {
    expect(
      (["EPERM", "EROFS", "EIO", "ENOMEM", "EINVAL", "EFBIG", "EDQUOT", "EOVERFLOW", "ENOTSUP"] as const).map(
        nbdError,
      ),
    ).toEqual([1, 1, 5, 12, 22, 28, 28, 75, 95]);
    expect(nbdError("ESHUTDOWN")).toBe(108);
    expect(nbdError("ELOOP")).toBe(22);
    expect([1, 5, 12, 22, 28, 75, 95, 108, 4711].map(errnoOfNbd)).toEqual([
      "EPERM",
      "EIO",
      "ENOMEM",
      "EINVAL",
      "ENOSPC",
      "EOVERFLOW",
      "ENOTSUP",
      "ESHUTDOWN",
      "EINVAL",
    ]);
  });
});

describe("flags", () => {
  it("are one bit each, in the protocol's order", () => {
    expect(Object.values(exportFlag)).toEqual(Array.from({ length: 12 }, (_, bit) => 2 ** bit));
    expect(Object.values(commandFlag)).toEqual([1, 2, 4, 8, 16]);
  });

  it("of extents are the contexts' own", () => {
    expect([allocation, DIRTY, depthState]).toEqual([
      { hole: 1, zero: 2 },
      1,
      { unallocated: 0, local: 1, backing: 2 },
    ]);
  });
});
