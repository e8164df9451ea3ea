/** The monitor's protocol: replies as qemu-storage-daemon 7.2 gave them, states, order, limits and hostile input. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventBus } from "../../../../src/base/event-bus.ts";
import type { QmpEvent } from "../../../../src/wire/qapi/index.ts";
import { deferred } from "../../../../src/base/signals.ts";
import { CommandRegistry, QmpSession, type QmpSessionState } from "../../../../src/server/monitor/index.ts";
import { clock, encode, handlers, makeSession, VERSION, type TestEngine } from "./fixture.ts";

const error = (desc: string, kind = "GenericError", id = ""): string =>
  `{${id === "" ? "" : `"id": ${id}, `}"error": {"class": "${kind}", "desc": ${JSON.stringify(desc)}}}`;

// Input and what the real daemon answered, after negotiation.
const ready: [string, string[]][] = [
  ["1", [error("QMP input must be a JSON object")]],
  ['"x"', [error("QMP input must be a JSON object")]],
  ["[]", [error("QMP input must be a JSON object")]],
  ["{}", [error("QMP input lacks member 'execute'")]],
  ['{"arguments":{}}', [error("QMP input lacks member 'execute'")]],
  ['{"id":1}', [error("QMP input lacks member 'execute'", "GenericError", "1")]],
  ['{"execute":1}', [error("QMP input member 'execute' must be a string")]],
  ['{"execute":"query-version","foo":1}', [error("QMP input member 'foo' is unexpected")]],
  ['{"exec-oob":"query-version"}', [error("QMP input member 'exec-oob' is unexpected")]],
  ['{"execute":"nope","id":"q"}', [error("The command nope has not been found", "CommandNotFound", '"q"')]],
  ['{"execute":"constructor"}', [error("The command constructor has not been found", "CommandNotFound")]],
  [
    '{"execute":"nope","arguments":1,"id":"q"}',
    [error("QMP input member 'arguments' must be an object", "GenericError", '"q"')],
  ],
  ['{"execute":"query-block-jobs","arguments":{"a":1}}', [error("Parameter 'a' is unexpected")]],
  ['{"execute":"query-block-jobs","id":{"a":[1]}}', ['{"return": [], "id": {"a": [1]}}']],
  ['{"execute":"query-block-jobs","id":null}', ['{"return": [], "id": null}']],
  [
    '{"execute":"query-block-jobs","id":18446744073709551615}',
    ['{"return": [], "id": 18446744073709551615}'],
  ],
  ["{'execute':'query-block-jobs'}", ['{"return": []}']],
  ['{"execute":"query-block-jobs"}{"execute":"query-block-jobs"}', ['{"return": []}', '{"return": []}']],
  ['{"execute":\n\n"query-block-jobs"\n}', ['{"return": []}']],
  ['{"execute" "query-version"}', [error("JSON parse error, missing : in object pair")]],
  [
    '{"execute":"qmp_capabilities","id":3}',
    [error("Capabilities negotiation is already complete, command ignored", "CommandNotFound", "3")],
  ],
  ['{"execute":"block-stream","arguments":{"device":"x"}}', ['{"return": {}}']],
  [
    '{"execute":"block-stream","arguments":{"device":"nope"}}',
    [error("Cannot find device='nope' nor node-name='nope'")],
  ],
  ['{"execute":"job-cancel","arguments":{"id":"j"}}', [error("Block job 'j' not found", "DeviceNotActive")]],
  ['{"execute":"job-complete","arguments":{"id":"j"}}', [error("some other error")]],
];

const notNegotiated = error("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound");
const negotiating: [string, string[], QmpSessionState][] = [
  ['{"execute":"query-version"}', [notNegotiated], "negotiating"],
  ['{"execute":"nope"}', [notNegotiated], "negotiating"],
  ["{}", [error("QMP input lacks member 'execute'")], "negotiating"],
  ["1", [error("QMP input must be a JSON object")], "negotiating"],
  [
    '{"execute":"qmp_capabilities","arguments":{"x":1}}',
    [error("Parameter 'x' is unexpected")],
    "negotiating",
  ],
  [
    '{"execute":"qmp_capabilities","arguments":{"enable":["foo"]}}',
    [error("Parameter 'null' does not accept value 'foo'")],
    "negotiating",
  ],
  [
    '{"execute":"qmp_capabilities","arguments":{"enable":"oob"}}',
    [error("Invalid parameter type for 'enable', expected: array")],
    "negotiating",
  ],
  ['{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}', ['{"return": {}}'], "ready"],
  ['{"execute":"qmp_capabilities","id":[1,{"a":null}]}', ['{"return": {}, "id": [1, {"a": null}]}'], "ready"],
];

describe("replies", () => {
  it.each(ready)("ready: %s", async (text, expected) => {
    const { say, session } = await makeSession();
    expect(await say(text)).toEqual(expected);
    expect(session.state).toBe("ready");
  });

  it.each(negotiating)("negotiating: %s", async (text, expected, state) => {
    const { say, session } = await makeSession({ isReady: false });
    expect(await say(text)).toEqual(expected);
    expect(session.state).toBe(state);
  });

  it.each(ready.filter(([text]) => text.startsWith("{")))("cut at every byte: %s", async (text, expected) => {
    const bytes = encode(`${text}\n`);
    const { session, lines } = await makeSession();
    for (let cut = 0; cut <= bytes.length; cut++) {
      await session.feed(bytes.subarray(0, cut));
      await session.feed(bytes.subarray(cut));
      await session.idle();
      expect(lines.splice(0).map((line) => line.trimEnd())).toEqual(expected);
    }
  });

  it("answers what is out of band before what waits, once the client has enabled it", async () => {
    const lines: string[] = [];
    let go = (): void => undefined;
    const waits = new Promise<void>((resolve) => {
      go = resolve;
    });
    const session = new QmpSession<null>({
      registry: new CommandRegistry<null>({ stop: () => waits }, VERSION),
      engine: null,
      events: new EventBus<QmpEvent>(),
      clock,
      write: (bytes) => Promise.resolve(void lines.push(new TextDecoder().decode(bytes).trimEnd())),
    });
    const say = (text: string): Promise<void> => session.feed(new TextEncoder().encode(`${text}\n`));
    await say('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}');
    await say('{"execute":"stop","id":1}');
    await say('{"exec-oob":"stop","id":2}');
    await say('{"exec-oob":"nope","id":3}');
    go();
    await session.idle();
    expect(lines.slice(2)).toEqual([
      '{"id": 2, "error": {"class": "GenericError", "desc": "The command stop does not support OOB"}}',
      '{"id": 3, "error": {"class": "CommandNotFound", "desc": "The command nope has not been found"}}',
      '{"return": {}, "id": 1}',
    ]);
  });

  it("greets first, with what may be enabled", async () => {
    const lines: string[] = [];
    const session = new QmpSession<null>({
      registry: new CommandRegistry<null>({}, VERSION),
      engine: null,
      events: new EventBus<QmpEvent>(),
      clock,
      write: (bytes) => Promise.resolve(void lines.push(new TextDecoder().decode(bytes))),
    });
    await session.idle();
    expect(lines).toEqual([
      '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "test"}, "capabilities": ["oob"]}}\r\n',
    ]);
  });

  it("prints prettily on demand", async () => {
    const { say } = await makeSession({ indent: 4 });
    expect(await say('{"execute":"query-block-jobs","id":[1]}')).toEqual([
      '{\n    "return": [\n    ],\n    "id": [\n        1\n    ]\n}',
    ]);
  });

  it("answers what it knows about itself", async () => {
    const { say } = await makeSession();
    const [commands = "", version = "", schema = ""] = await say(
      '{"execute":"query-commands"}{"execute":"query-version"}{"execute":"query-qmp-schema"}',
    );
    const names = (JSON.parse(commands) as { return: { name: string }[] }).return.map(({ name }) => name);
    expect(names).toContain("block-stream");
    expect(names).toContain("qmp_capabilities");
    expect(names).not.toContain("blockdev-add");
    expect(JSON.parse(version)).toEqual({ return: VERSION });
    const entries = (JSON.parse(schema) as { return: Record<string, string>[] }).return;
    const listed = entries.filter((entry) => entry["meta-type"] === "command").map((entry) => entry["name"]);
    expect(new Set(listed)).toEqual(new Set(names));
    expect(listed).toHaveLength(names.length);
  });

  it("reports broken invariants, and answers all the same", async () => {
    const { say, faults } = await makeSession();
    expect(await say('{"execute":"job-resume","arguments":{"id":"j"}}')).toEqual([
      error("an invariant is broken"),
    ]);
    expect(faults).toHaveLength(1);
    await say('{"execute":"job-complete","arguments":{"id":"j"}}');
    expect(faults).toHaveLength(1);
  });
});

describe("order", () => {
  it("runs commands one after another", async () => {
    const { session, engine } = await makeSession();
    await session.feed(
      encode(
        '{"execute":"job-pause","arguments":{"id":"a"}}{"execute":"block-stream","arguments":{"device":"x","speed":5}}',
      ),
    );
    expect(engine.log).toEqual(["pause a"]);
    engine.gate.resolve();
    await session.idle();
    expect(engine.log).toEqual(["pause a", "paused a", "stream x 5"]);
  });

  it("stops taking input while its queue is full", async () => {
    const { session, engine } = await makeSession({ maxQueue: 3 });
    let taken = false;
    const one = '{"execute":"job-pause","arguments":{"id":"a"}}';
    const feeding = session.feed(encode(one.repeat(3))).then(() => (taken = true));
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    expect(taken).toBe(false);
    engine.gate.resolve();
    await feeding;
    await session.idle();
    expect(engine.log.filter((entry) => entry === "paused a")).toHaveLength(3);
  });

  it("calls back after the reply", async () => {
    const { session, lines, engine } = await makeSession();
    await session.feed(encode('{"execute":"quit"}'));
    expect(engine.log).toEqual([]);
    await session.idle();
    expect(lines).toEqual(['{"return": {}}\r\n']);
    expect(engine.log).toEqual(["after quit"]);
  });

  it("calls back only when the reply has left", async () => {
    const gate = deferred();
    let wait: Promise<void> = Promise.resolve();
    const { session, engine } = await makeSession({ write: () => wait });
    wait = gate.promise;
    await session.feed(encode('{"execute":"quit"}'));
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    expect(engine.log).toEqual([]);
    gate.resolve();
    await session.idle();
    expect(engine.log).toEqual(["after quit"]);
  });
});

it("carries out what a client sends before it reads, until a quarter of what may wait does", async () => {
  const gate = deferred();
  let wait: Promise<void> = Promise.resolve();
  const { session, engine } = await makeSession({ write: () => wait, maxOutputBytes: 4000 });
  wait = gate.promise;
  const many = '{"execute":"block-stream","arguments":{"device":"x"}}'.repeat(200);
  const fed = session.feed(encode(many));
  for (let turn = 0; turn < 5000; turn++) await Promise.resolve();
  const done = engine.log.length;
  expect(done).toBeGreaterThan(5);
  expect(done).toBeLessThan(200);
  expect(session.state).toBe("ready");
  gate.resolve();
  await fed;
  await session.idle();
  expect(engine.log).toHaveLength(200);
});

describe("events", () => {
  it("are stamped, and sent to negotiated clients only", async () => {
    const { session, events, lines } = await makeSession({ isReady: false });
    events.emit("STOP");
    await session.idle();
    expect(lines).toEqual([]);
    await session.feed(encode('{"execute":"qmp_capabilities"}'));
    await session.idle();
    lines.length = 0;
    events.emit("STOP");
    events.emit("JOB_STATUS_CHANGE", { id: "j", status: "running" });
    await session.idle();
    expect(lines).toEqual([
      '{"timestamp": {"seconds": 1700000000, "microseconds": 250001}, "event": "STOP"}\r\n',
      '{"timestamp": {"seconds": 1700000000, "microseconds": 250001}, "event": "JOB_STATUS_CHANGE", "data": {"status": "running", "id": "j"}}\r\n',
    ]);
    session.close();
    events.emit("STOP");
    expect(lines).toHaveLength(2);
  });

  it("close a client that does not read", async () => {
    const gate = deferred();
    const { session, events, closed } = await makeSession({
      isReady: false,
      write: () => gate.promise,
      maxOutputBytes: 2000,
    });
    void session.feed(encode('{"execute":"qmp_capabilities"}'));
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    expect(session.state).toBe("ready");
    for (let n = 0; n < 100; n++) events.emit("STOP");
    expect(session.state).toBe("closed");
    expect(closed).toEqual(["the client does not read its replies and events"]);
  });
});

describe("the end", () => {
  it.each([
    "GET / HTTP/1.1\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "\u0000",
    "hello",
    "\u0016\u0003\u0001",
  ])("closes at the first input that is no JSON: %j", async (text) => {
    for (const isReady of [false, true]) {
      const { session, lines, closed, engine } = await makeSession({ isReady });
      await session.feed(encode(`${text}{"execute":"block-stream","arguments":{"device":"x"}}`));
      await session.idle();
      expect(session.state).toBe("closed");
      expect(closed).toEqual(["input that is not JSON"]);
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/"JSON parse error, (stray|invalid keyword)/);
      expect(engine.log).toEqual([]);
    }
  });

  it("resumes instead where it is told to, as QEMU does", async () => {
    const { say } = await makeSession({ onLexicalError: "resume" });
    expect(await say('@ x\n{"execute":"query-block-jobs","id":"END"}')).toEqual([
      error("JSON parse error, stray '@'"),
      '{"return": [], "id": "END"}',
    ]);
  });

  it("answers nothing once closed, in whatever state", async () => {
    for (const isReady of [false, true]) {
      const { session, lines, closed, engine } = await makeSession({ isReady });
      session.close("enough");
      session.close("again");
      await session.feed(encode('{"execute":"block-stream","arguments":{"device":"x"}}'));
      await session.idle();
      expect([lines, closed, engine.log]).toEqual([[], ["enough"], []]);
    }
  });

  it("drops a running command's answer when it is closed meanwhile", async () => {
    const { session, lines, engine } = await makeSession();
    await session.feed(
      encode('{"execute":"job-pause","arguments":{"id":"a"}}{"execute":"query-block-jobs"}'),
    );
    session.close();
    engine.gate.resolve();
    await session.idle();
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    expect(lines).toEqual([]);
    expect(engine.log).toEqual(["pause a", "paused a"]);
  });

  it("closes when a write fails", async () => {
    const closed: string[] = [];
    const session = new QmpSession<TestEngine>({
      registry: new CommandRegistry(handlers, VERSION),
      engine: { log: [], gate: deferred() },
      events: new EventBus<QmpEvent>(),
      clock,
      write: () => Promise.reject(new Error("broken pipe")),
      onClose: (reason) => closed.push(reason),
    });
    await session.idle();
    expect(closed).toEqual(["broken pipe"]);
    expect(session.state).toBe("closed");
  });

  it.each([
    ["deep", "[".repeat(5000), "JSON nesting depth limit exceeded"],
    ["long", `{"execute":"${"x".repeat(5000)}`, "JSON token size limit exceeded"],
    ["many", `[${"1,".repeat(5000)}`, "JSON token count limit exceeded"],
  ])("closes at a limit: %s", async (_, text, message) => {
    const { say, session } = await makeSession({
      jsonLimits: { maxBytes: 4096, maxDepth: 1024, maxTokens: 1500 },
    });
    expect((await say(text))[0]).toBe(error(message));
    expect(session.state).toBe("closed");
  });

  it("keeps answering whatever mutated requests come", async () => {
    const seeds = ready.map(([text]) => text);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...seeds),
        fc.array(
          fc.tuple(fc.nat(80), fc.constantFrom("", "{", "}", '"', ",", "\\", "1", ":", "é", "\u0001")),
          {
            maxLength: 4,
          },
        ),
        async (seed, edits) => {
          let text = seed;
          for (const [at, put] of edits) text = text.slice(0, at) + put + text.slice(at + 1);
          const { session, lines, faults } = await makeSession({ onLexicalError: "resume" });
          await session.feed(encode(text));
          // The byte 0xff ends whatever is open.
          await session.feed(Uint8Array.of(0xff, 0x0a));
          lines.length = 0;
          await session.feed(encode('{"execute":"query-block-jobs","id":"END"}'));
          if (session.state === "ready" && !text.includes("job-pause")) await session.idle();
          expect(lines.at(-1)).toBe('{"return": [], "id": "END"}\r\n');
          expect(faults).toEqual([]);
        },
      ),
      { numRuns: 300 },
    );
  });
});

it("holds back events of a copy of a quorum that come within a second: the last of them is sent then", async () => {
  const timers: { at: number; callback: () => void }[] = [];
  let now = 0;
  const eventClock = {
    timer: (delayMs: number, callback: () => void) => {
      const timer = { at: now + delayMs, callback };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer), 1);
    },
  };
  const step = (ms: number): void => {
    now += ms;
    for (const timer of timers.filter(({ at }) => at <= now)) {
      timers.splice(timers.indexOf(timer), 1);
      timer.callback();
    }
  };
  const events = new EventBus<QmpEvent>();
  const lines: string[] = [];
  const session = new QmpSession<TestEngine>({
    registry: new CommandRegistry<TestEngine>(handlers, VERSION),
    engine: { log: [], gate: deferred() },
    events,
    clock,
    eventClock,
    write: (bytes) => {
      lines.push(...new TextDecoder().decode(bytes).trimEnd().split("\n"));
      return Promise.resolve();
    },
  });
  await session.feed(encode('{"execute":"qmp_capabilities"}'));
  await session.idle();
  const bad = (name: string, sector: number): void =>
    events.emit("QUORUM_REPORT_BAD", {
      ...{ type: "read", "node-name": name, "sector-num": sector, "sectors-count": 1 },
    });
  const told = async (): Promise<unknown[]> => {
    await session.flushed();
    return lines.splice(0).flatMap((text) => {
      const { event, data } = JSON.parse(text) as { event?: string; data?: Record<string, unknown> };
      return event === "QUORUM_REPORT_BAD"
        ? [`${String(data?.["node-name"])} ${String(data?.["sector-num"])}`]
        : [];
    });
  };
  bad("a", 1);
  bad("a", 2);
  bad("b", 3);
  bad("a", 4);
  expect(await told()).toEqual(["a 1", "b 3"]);
  step(1000);
  expect(await told()).toEqual(["a 4"]);
  bad("b", 5);
  bad("a", 6);
  expect(await told()).toEqual(["b 5"]);
  step(1000);
  expect(await told()).toEqual(["a 6"]);
  step(1000);
  bad("a", 7);
  bad("a", 8);
  session.close();
  step(1000);
  expect(timers).toEqual([]);
  expect(await told()).toEqual(["a 7"]);
});
