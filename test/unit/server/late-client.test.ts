// A client that is served when the machine ends already: it is greeted, and its session ends.
import { expect, it } from "vitest";
import type { HostConnection } from "../../../src/base/host.ts";
import { serveHmp } from "../../../src/server/monitor/hmp/serve.ts";
import { serveQtest } from "../../../src/server/qtest/serve.ts";

/** A client that sends nothing, and goes when its connection is closed. */
function silentClient(): { connection: HostConnection; told: () => string } {
  let told = "";
  let end!: () => void;
  const closed = new Promise<void>((resolve) => (end = resolve));
  const connection: HostConnection = {
    incoming: (async function* () {
      await closed;
      yield* [];
    })(),
    write: (bytes) => void (told += new TextDecoder().decode(bytes)),
    close: () => Promise.resolve(end()),
  };
  return { connection, told: () => told };
}

it("of the human monitor", async () => {
  const { connection, told } = silentClient();
  const run = (): Promise<string> => Promise.reject(new Error("nobody typed anything"));
  await serveHmp(connection, { version: "7.2", isOver: () => true, signal: AbortSignal.abort(), run });
  expect(told()).toMatch(/^QEMU 7\.2 monitor/);
});

it("of the test protocol", async () => {
  const { connection, told } = silentClient();
  const clock = { now: () => 0n, step: () => 0n, set: () => 0n };
  const log: string[] = [];
  await serveQtest(connection, { clock, signal: AbortSignal.abort(), log: (_, words) => log.push(words) });
  expect(log).toEqual(["OPENED", "CLOSED"]);
  expect(told()).toBe("");
});
