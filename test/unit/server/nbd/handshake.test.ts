/** What the server answers to options: right ones, unknown ones, malformed ones; and when it closes. */
import { describe, expect, it } from "vitest";
import { exportFlag, option, optionReply } from "../../../../src/wire/nbd/constants.ts";
import { encodeOption } from "../../../../src/wire/nbd/handshake.ts";
import {
  decodeListed,
  decodeMetaContext,
  encodeInfoRequest,
  encodeMetaRequest,
} from "../../../../src/wire/nbd/options.ts";
import { hex } from "../../wire/nbd/support.ts";
import { NbdBench } from "./bench.ts";
import { type TestClient, textOf, utf8 } from "./client.ts";

async function bench(): Promise<NbdBench> {
  const made = await NbdBench.start();
  await made.disk("a", 1024 * 1024);
  await made.disk("b", 4096);
  await made.export("a", { description: "the first" });
  await made.export("b", { writable: false, allocationDepth: true });
  return made;
}

async function greeted(): Promise<{ client: TestClient; made: NbdBench }> {
  const made = await bench();
  const client = made.dial();
  expect(await client.greet()).toBe(3);
  return { client, made };
}

describe("options", () => {
  it("LIST names the exports with their descriptions", async () => {
    const { client } = await greeted();
    const replies = await client.ask(option.list);
    expect(replies.slice(0, -1).map(({ payload }) => decodeListed(payload))).toEqual([
      { name: "a", description: "the first" },
      { name: "b", description: "" },
    ]);
  });

  it("INFO tells of an export and stays in the handshake; GO ends it", async () => {
    const { client } = await greeted();
    expect(await client.go("a")).toEqual([
      { kind: "description", text: "the first" },
      { kind: "blockSize", minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 },
      expect.objectContaining({ kind: "export", size: 1024 * 1024 }),
    ]);
  });

  it("shows what an export can do in its flags", async () => {
    const { client } = await greeted();
    const always = exportFlag.hasFlags | exportFlag.sendFlush | exportFlag.sendFua | exportFlag.sendCache;
    const flagsOf = async (name: string): Promise<number> => {
      const replies = await client.ask(option.info, encodeInfoRequest({ name, wanted: [] }));
      const payload = replies.at(-2)!.payload;
      return new DataView(payload.buffer, payload.byteOffset).getUint16(10);
    };
    const changes = exportFlag.sendTrim | exportFlag.sendWriteZeroes | exportFlag.sendFastZero;
    expect(await flagsOf("a")).toBe(always | exportFlag.canMultiConn | changes);
    expect(await flagsOf("b")).toBe(always | exportFlag.canMultiConn | exportFlag.readOnly);
    await client.ask(option.structuredReply);
    expect((await flagsOf("b")) & exportFlag.sendDf).toBe(exportFlag.sendDf);
  });

  it("that are not known, or not there, are refused, and the connection goes on", async () => {
    const { client } = await greeted();
    const answers: (readonly [number, Uint8Array | undefined, number, string])[] = [
      [4711, utf8("whatever"), optionReply.errUnsupported, "Unsupported option 4711 (<unknown>)"],
      [option.peekExport, undefined, optionReply.errUnsupported, "Unsupported option 4 (peek export)"],
      [option.extendedHeaders, undefined, optionReply.errUnsupported, "Unsupported option 11 (<unknown>)"],
      [option.startTls, undefined, optionReply.errPolicy, "TLS not configured"],
      [option.list, utf8("x"), optionReply.errInvalid, "option 'list' has unexpected length"],
      [option.go, hex("00"), optionReply.errInvalid, "The message is too short"],
      [
        option.go,
        hex("00000001 61 0000 00"),
        optionReply.errInvalid,
        "The count of requests does not fit the length",
      ],
      [
        option.info,
        encodeInfoRequest({ name: "c", wanted: [] }),
        optionReply.errUnknown,
        "export 'c' not present",
      ],
      [
        option.setMetaContext,
        encodeMetaRequest({ name: "a", queries: [] }),
        optionReply.errInvalid,
        "request option 'set meta context' when structured reply is not negotiated",
      ],
    ];
    for (const [asked, payload, type, text] of answers) {
      const replies = await client.ask(asked, payload);
      expect([replies.at(-1)?.type, textOf(replies)]).toEqual([type, text]);
    }
    expect((await client.ask(option.structuredReply)).at(-1)?.type).toBe(optionReply.ack);
    expect(textOf(await client.ask(option.structuredReply))).toBe("structured reply already negotiated");
    await client.go("a");
  });

  it("with a payload that is too long to be kept are refused, and the connection goes on", async () => {
    const { client } = await greeted();
    const replies = await client.ask(option.go, new Uint8Array(2 * 1024 * 1024));
    expect([replies.at(-1)?.type, textOf(replies)]).toEqual([
      optionReply.errTooBig,
      "option 'go' is too long",
    ]);
    await client.go("a");
  });

  it("ABORT is acknowledged, and closes", async () => {
    const { client } = await greeted();
    expect((await client.ask(option.abort)).map(({ type }) => type)).toEqual([optionReply.ack]);
    await client.ended();
  });
});

describe("metadata contexts", () => {
  it("are listed without numbers, and chosen by theirs", async () => {
    const { client } = await greeted();
    await client.ask(option.structuredReply);
    const asked = async (what: number, queries: string[]): Promise<unknown> =>
      (await client.ask(what, encodeMetaRequest({ name: "b", queries })))
        .slice(0, -1)
        .map(({ payload }) => decodeMetaContext(payload));
    expect(await asked(option.listMetaContext, [])).toEqual([
      { id: 0, name: "base:allocation" },
      { id: 0, name: "qemu:allocation-depth" },
    ]);
    expect(await asked(option.setMetaContext, ["qemu:allocation-depth", "x:y"])).toEqual([
      { id: 1, name: "qemu:allocation-depth" },
    ]);
  });

  it("chosen for one export are not another one's", async () => {
    const made = await bench();
    const client = made.dial();
    await client.greet();
    await client.ask(option.structuredReply);
    await client.ask(option.setMetaContext, encodeMetaRequest({ name: "b", queries: ["base:allocation"] }));
    await client.go("a");
    expect(await client.does({ type: 7, length: 4096 })).toMatchObject({
      error: "EINVAL",
      text: "CMD_BLOCK_STATUS not negotiated",
    });
  });
});

describe("EXPORT_NAME", () => {
  it.each([
    [3, 10],
    [1, 134],
    [0, 134],
  ])("with flags %d is answered by %d bytes", async (flags, length) => {
    const made = await bench();
    const client = made.dial();
    await client.greet(flags);
    await client.say(encodeOption(option.exportName, utf8("a")));
    const answer = await client.bytes(length);
    expect(new DataView(answer.buffer, answer.byteOffset).getBigUint64(0)).toBe(1024n * 1024n);
    expect((await client.does({ type: 3 })).error).toBeUndefined();
  });

  it.each([
    ["of nobody", utf8("zz"), "export not found"],
    ["that is no text", hex("ff"), "export not found"],
    ["that is too long", new Uint8Array(4097), "Bad length received"],
  ])("%s closes", async (_what, name, why) => {
    const { client, made } = await greeted();
    await client.say(encodeOption(option.exportName, name));
    await client.ended();
    expect(made.messages).toEqual([why]);
  });
});

describe("what can't be understood closes", () => {
  it.each([
    ["flags that are not known", hex("00000007"), "Unknown client flags 0x4 received"],
    ["an option's magic", hex("00000003 4848415645 4f5054 00000003 00000000"), "Bad magic received"],
    [
      "an option of 4 GiB",
      hex("00000003 49484156454f5054 00000007 ffffffff"),
      "len (4294967295) is larger than max len (33554432)",
    ],
    [
      "an option of a client that does not know of fixed newstyle",
      hex("00000000 49484156454f5054 00000003 00000000"),
      "Unsupported option 3 (list)",
    ],
  ])("%s", async (_what, bytes, why) => {
    const made = await bench();
    const client = made.dial();
    await client.say(bytes);
    await client.ended();
    expect(made.messages).toEqual([why]);
  });
});

it("drops a client that does not get on with its handshake", async () => {
  const made = await bench();
  const client = made.dial();
  await made.host.clock.settle(client.ended());
  expect(made.host.clock.nowMs()).toBe(10_000);
});

it("says the same however the bytes are cut", async () => {
  const whole = [
    hex("00000003"),
    encodeOption(99, utf8("xyz")),
    encodeOption(option.list),
    encodeOption(option.structuredReply),
    encodeOption(option.setMetaContext, encodeMetaRequest({ name: "a", queries: ["base:allocation"] })),
    encodeOption(option.info, encodeInfoRequest({ name: "b", wanted: [1, 3] })),
    encodeOption(option.abort),
  ];
  const bytes = Uint8Array.from(whole.flatMap((part) => [...part]));
  const answersTo = async (pieces: readonly Uint8Array[]): Promise<string> => {
    const made = await bench();
    const client = made.dial();
    for (const piece of pieces) await client.say(piece);
    const heard: number[] = [];
    for (;;) {
      const next = await client.bytes(1).catch(() => undefined);
      if (!next) return heard.join(" ");
      heard.push(next[0]!);
    }
  };
  const atOnce = await answersTo([bytes]);
  expect(atOnce.length).toBeGreaterThan(200);
  expect(await answersTo([...bytes].map((byte) => Uint8Array.of(byte)))).toBe(atOnce);
  expect(await answersTo([bytes.subarray(0, 21), bytes.subarray(21, 22), bytes.subarray(22)])).toBe(atOnce);
});
