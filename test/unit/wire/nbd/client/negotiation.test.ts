/** The client's handshake, against a server that is a list of answers: what is sent, what comes of it, and every refusal. */
import { describe, expect, it } from "vitest";
import { BlockError } from "../../../../../src/base/errors.ts";
import { negotiate, type Agreement, type Step } from "../../../../../src/wire/nbd/client/negotiation.ts";
import { message, utf8 } from "../../../../../src/wire/nbd/bytes.ts";
import {
  info,
  option,
  optionReply,
  OLDSTYLE_MAGIC,
  INIT_MAGIC,
} from "../../../../../src/wire/nbd/constants.ts";
import {
  decodeOptionHeader,
  encodeExportNameReply,
  encodeGreeting,
  encodeOptionReply,
} from "../../../../../src/wire/nbd/handshake.ts";
import { encodeInformation, encodeMetaContext } from "../../../../../src/wire/nbd/options.ts";

const wishes = { exportName: "x", context: "base:allocation", tls: false };
const reply = encodeOptionReply;
const { ack, errUnsupported, errUnknown, errTlsRequired, errPolicy } = optionReply;
const exported = encodeInformation({ kind: "export", size: 2 ** 20, flags: 0x55 });
const sizes = encodeInformation({ kind: "blockSize", minimum: 4096, preferred: 65_536, maximum: 2 ** 20 });

interface Told {
  /** Options that the client sent. */
  readonly asked: number[];
  readonly agreed?: Agreement;
  readonly error?: BlockError;
  /** Most bytes that it waited for at once. */
  readonly most: number;
}

/** Runs the client against what the server sends, however much it waits for at a time. */
function run(server: readonly Uint8Array[], given: Partial<typeof wishes> = {}): Told {
  const stream = message(...server);
  let at = 0;
  let most = 0;
  const asked: number[] = [];
  const steps = negotiate({ ...wishes, ...given });
  try {
    let next: IteratorResult<Step, Agreement> = steps.next();
    while (!next.done) {
      const step = next.value;
      let came = new Uint8Array(0);
      if ("send" in step && step.send.byteLength > 4)
        asked.push(decodeOptionHeader(step.send.subarray(0, 16)).option);
      if ("receive" in step) {
        most = Math.max(most, step.receive);
        came = stream.slice(at, (at += step.receive));
        if (came.byteLength < step.receive)
          throw new BlockError({ code: "EIO", op: "test", message: "no more" });
      }
      next = steps.next(came);
    }
    expect(at, "all that the server sent was taken").toBe(stream.byteLength);
    return { asked, agreed: next.value, most };
  } catch (error) {
    return { asked, error: error as BlockError, most };
  }
}

const structured = reply(option.structuredReply, ack);
const meta = [
  reply(
    option.setMetaContext,
    optionReply.metaContext,
    encodeMetaContext({ id: 7, name: "base:allocation" }),
  ),
  reply(option.setMetaContext, ack),
];
const go = [
  reply(option.go, optionReply.info, exported),
  reply(option.go, optionReply.info, sizes),
  reply(option.go, ack),
];

describe("a server of our time", () => {
  it("agrees on everything", () => {
    const { agreed, asked } = run([encodeGreeting(3), structured, ...meta, ...go]);
    expect(asked).toEqual([option.structuredReply, option.setMetaContext, option.go]);
    expect(agreed).toEqual({
      size: 2 ** 20,
      flags: 0x55,
      structuredReplies: true,
      contextId: 7,
      blockSizes: { minimum: 4096, preferred: 65_536, maximum: 2 ** 20 },
    });
  });

  it("does without what the server does not know", () => {
    const old = [
      reply(option.structuredReply, errUnsupported),
      reply(option.go, errUnsupported),
      encodeExportNameReply({ size: 512, flags: 3 }, false),
    ];
    const { agreed, asked } = run([encodeGreeting(1), ...old]);
    expect(asked).toEqual([option.structuredReply, option.go, option.exportName]);
    expect(agreed).toMatchObject({ size: 512, flags: 3, structuredReplies: false, contextId: undefined });
  });

  it("has no context where the server refuses it", () => {
    const refused = reply(option.setMetaContext, errUnknown, utf8("no such export"));
    expect(run([encodeGreeting(3), structured, refused, ...go]).agreed?.contextId).toBeUndefined();
    const none = reply(option.setMetaContext, ack);
    expect(run([encodeGreeting(3), structured, none, ...go]).agreed?.contextId).toBeUndefined();
  });

  it("switches to TLS before any other option", () => {
    const { agreed, asked } = run(
      [encodeGreeting(3), reply(option.startTls, ack), structured, ...meta, ...go],
      { tls: true },
    );
    expect(asked[0]).toBe(option.startTls);
    expect(agreed?.size).toBe(2 ** 20);
  });

  it("skips information that it did not ask for, whatever its length", () => {
    const long = reply(option.go, optionReply.info, message([16, 99], new Uint8Array(100_000)));
    const told = run([encodeGreeting(3), structured, ...meta, ...go.slice(0, 1), long, ...go.slice(1)]);
    expect(told.agreed?.size).toBe(2 ** 20);
    expect(told.most).toBeLessThan(5000);
    const short = reply(option.go, optionReply.info, encodeInformation({ kind: "name", text: "x" }));
    expect(run([encodeGreeting(3), structured, ...meta, short, ...go]).agreed?.size).toBe(2 ** 20);
  });
});

describe("an oldstyle server", () => {
  const old = message([64, INIT_MAGIC], [64, OLDSTYLE_MAGIC], [64, 4096], [32, 0x10003], new Uint8Array(124));

  it("is talked to, for its one export", () => {
    expect(run([old], { exportName: "" }).agreed).toMatchObject({
      size: 4096,
      flags: 3,
      structuredReplies: false,
    });
  });

  it("has no names and no TLS", () => {
    expect(run([old]).error?.message).toBe("Server does not support non-empty export names");
    expect(run([old], { exportName: "", tls: true }).error?.message).toBe("Server does not support STARTTLS");
  });
});

describe("a refusal", () => {
  const refused = (type: number, text = ""): Told =>
    run([encodeGreeting(3), structured, ...meta, reply(option.go, type, utf8(text))]);

  it.each([
    [errUnknown, "Requested export not available"],
    [errPolicy, "Denied by server for option 7 (go)"],
    [errTlsRequired, "TLS negotiation required before option 7 (go)"],
    [optionReply.errInvalid, "Invalid parameters for option 7 (go)"],
    [optionReply.errPlatform, "Server lacks support for option 7 (go)"],
    [optionReply.errShutdown, "Server shutting down before option 7 (go)"],
    [optionReply.errBlockSizeRequired, "Server requires INFO_BLOCK_SIZE for option 7 (go)"],
    [0x800000ff, "Unknown error code when asking for option 7 (go)"],
  ])("%i is told in QEMU's words, after a good-bye", (type, words) => {
    const { error, asked } = refused(type);
    expect(error?.message).toBe(words);
    expect(asked.at(-1)).toBe(option.abort);
  });

  it("shows what the server says in a line of its own", () => {
    expect(refused(errUnknown, "no\u001b[31m\n").error?.details.hint).toBe("server reported: no [31m ");
    expect(refused(errTlsRequired, "so").error?.details.hint).toBe(
      "Did you forget a valid tls-creds?\nserver reported: so",
    );
    expect(refused(errUnknown, "x".repeat(100_000)).error?.message).toMatch(/message is too long$/);
  });

  it("of TLS is told", () => {
    const denied = run([encodeGreeting(3), reply(option.startTls, errPolicy, utf8("TLS not configured"))], {
      tls: true,
    });
    expect(denied.error?.message).toBe("Denied by server for option 5 (starttls)");
    expect(denied.error?.details.hint).toBe("server reported: TLS not configured");
    const unknown = run([encodeGreeting(3), reply(option.startTls, errUnsupported)], { tls: true });
    expect(unknown.error?.message).toBe("Server don't support STARTTLS option");
    expect(run([encodeGreeting(0)], { tls: true }).error?.message).toBe("Server does not support STARTTLS");
  });
});

describe("a server that lies", () => {
  const after = (...rest: Uint8Array[]): string | undefined =>
    run([encodeGreeting(3), structured, ...meta, ...rest]).error?.message;
  const block = (minimum: number, preferred: number, maximum: number): Uint8Array =>
    reply(option.go, optionReply.info, encodeInformation({ kind: "blockSize", minimum, preferred, maximum }));
  const size = (bytes: number | bigint): Uint8Array =>
    reply(option.go, optionReply.info, message([16, info.export], [64, bytes], [16, 1]));

  it.each([
    ["magic", run([new Uint8Array(18)]).error?.message, /initial magic/],
    [
      "of the second magic",
      run([message([64, INIT_MAGIC], [64, 1], [16, 3])]).error?.message,
      /server magic/,
    ],
    ["of an option's reply", after(new Uint8Array(20)), /reply magic/],
    ["about the option", after(reply(option.list, ack)), /^Unexpected option type 3 \(list\), expected 7/],
    ["and leaves out the export", after(reply(option.go, ack)), /omitted NBD_INFO_EXPORT/],
    ["about the kind of reply", after(reply(option.go, optionReply.server)), /unexpected reply type 2/],
    ["of an endless disk", after(size(2n ** 64n - 1n)), /export length is too large/],
    ["of no power of two", after(block(3, 4096, 8192)), /minimum block size 3 is not a power of two/],
    ["of no least block", after(block(0, 4096, 8192)), /minimum block size 0 is not a power of two/],
    [
      "of huge least blocks",
      after(block(2 ** 20, 2 ** 20, 2 ** 20)),
      /minimum block size 1048576 is too large/,
    ],
    ["of small preferred blocks", after(block(4096, 512, 8192)), /preferred block size 512 is not valid/],
    ["of a small maximum", after(block(4096, 4096, 512)), /maximum block size 512 is not valid/],
    [
      "of half blocks",
      after(block(4096, 4096, 8192), size(5000), reply(option.go, ack)),
      /export size 5000 is not/,
    ],
    [
      "of a long reply",
      after(message([64, 0x3e889045565a9n], [32, 7], [32, 3], [32, 0xffffffff])),
      /too long/,
    ],
  ])("%s is not talked to", (_what, told, words) => {
    expect(told).toMatch(words);
  });

  it("about contexts is not talked to", () => {
    const context = (name: string): Uint8Array =>
      reply(option.setMetaContext, optionReply.metaContext, encodeMetaContext({ id: 1, name }));
    const told = (...rest: Uint8Array[]): string | undefined =>
      run([encodeGreeting(3), structured, ...rest]).error?.message;
    expect(told(context("qemu:x"))).toMatch(/answered with different context 'qemu:x'/);
    expect(told(context("base:allocation"), context("base:allocation"))).toMatch(/twice/);
    expect(told(reply(option.setMetaContext, optionReply.info))).toMatch(/unexpected reply type 3/);
    expect(run([encodeGreeting(3), reply(option.structuredReply, ack, utf8("x"))]).error?.message).toMatch(
      /response length is 1/,
    );
  });
});

it("names that are too long are not sent", () => {
  expect(run([], { exportName: "e".repeat(4097) }).error?.message).toBe(
    "export name too long to send to server",
  );
  expect(run([], { context: "e".repeat(4097) }).error?.message).toBe(
    "x-dirty-bitmap query too long to send to server",
  );
});
