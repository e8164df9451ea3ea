/** A session whose lines are collected, with a few commands. */
import { CommandError } from "../../../../src/base/errors.ts";
import { assert } from "../../../../src/base/assert.ts";
import { EventBus } from "../../../../src/base/event-bus.ts";
import type { QmpEvent } from "../../../../src/wire/qapi/index.ts";
import type { Clock } from "../../../../src/base/host.ts";
import { deferred } from "../../../../src/base/signals.ts";
import { CommandRegistry, QmpSession, type CommandHandlers } from "../../../../src/server/monitor/index.ts";
import type { QmpSessionOptions } from "../../../../src/server/monitor/index.ts";

export interface TestEngine {
  readonly log: string[];
  /** `job-pause` waits for it. */
  gate: ReturnType<typeof deferred<void>>;
}

export const VERSION = { qemu: { major: 7, minor: 2, micro: 22 }, package: "test" };

export const clock: Clock = {
  nowMs: () => 0,
  wallMicroseconds: () => 1_700_000_000_250_001,
  timer: () => () => undefined,
  turn: () => Promise.resolve(),
};

export const handlers: CommandHandlers<TestEngine> = {
  "query-block-jobs": () => [],
  "block-stream": ({ device, speed }, { engine }) => {
    engine.log.push(`stream ${device} ${speed ?? "-"}`);
    if (device === "nope") throw new CommandError("Cannot find device='nope' nor node-name='nope'");
  },
  "job-pause": async ({ id }, { engine }) => {
    engine.log.push(`pause ${id}`);
    await engine.gate.promise;
    engine.log.push(`paused ${id}`);
  },
  "job-cancel": ({ id }) => {
    throw new CommandError(`Block job '${id}' not found`, { qmpClass: "DeviceNotActive" });
  },
  "job-resume": () => assert(false, "an invariant is broken"),
  "job-complete": () => {
    throw new Error("some other error");
  },
  quit: (_, { engine, afterReply }) => {
    afterReply(() => engine.log.push("after quit"));
  },
};

export interface Fixture {
  readonly session: QmpSession<TestEngine>;
  readonly engine: TestEngine;
  readonly events: EventBus<QmpEvent>;
  /** Lines that have left, the greeting not counted. */
  readonly lines: string[];
  readonly closed: string[];
  readonly faults: unknown[];
  /** Feeds a line and waits until it is answered. */
  say(text: string): Promise<string[]>;
}

export const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A fresh session; `isReady` negotiates first. */
export async function makeSession(
  options: Partial<QmpSessionOptions<TestEngine>> & { isReady?: boolean } = {},
): Promise<Fixture> {
  const { isReady = true, ...rest } = options;
  const engine: TestEngine = { log: [], gate: deferred() };
  const events = new EventBus<QmpEvent>();
  const lines: string[] = [];
  const closed: string[] = [];
  const faults: unknown[] = [];
  const session = new QmpSession<TestEngine>({
    registry: new CommandRegistry(handlers, VERSION),
    engine,
    events,
    clock,
    write: (bytes) => {
      lines.push(new TextDecoder().decode(bytes));
      return Promise.resolve();
    },
    onClose: (reason) => closed.push(reason),
    onFault: (error) => faults.push(error),
    ...rest,
  });
  const say = async (text: string): Promise<string[]> => {
    const from = lines.length;
    await session.feed(encode(`${text}\n`));
    await session.idle();
    return lines.slice(from).map((line) => line.trimEnd());
  };
  if (isReady) await say('{"execute":"qmp_capabilities"}');
  lines.length = 0;
  return { session, engine, events, lines, closed, faults, say };
}
