/** The client against our own server, and against servers that misbehave. */
import { describe, expect, it } from "vitest";
import { EventBus } from "../../../../src/base/event-bus.ts";
import type { QmpEvent } from "../../../../src/wire/qapi/index.ts";
import type { HostConnection, HostSockets, SocketAddress } from "../../../../src/base/host.ts";
import { deferred } from "../../../../src/base/signals.ts";
import { CommandRegistry, QmpClient, serveMonitor } from "../../../../src/server/monitor/index.ts";
import { clock, encode, handlers, VERSION, type TestEngine } from "./fixture.ts";
import { connectionPair } from "./pipe.ts";

interface Served {
  readonly client: QmpClient;
  readonly events: EventBus<QmpEvent>;
  readonly engine: TestEngine;
  readonly serving: Promise<void>;
  readonly closed: string[];
  readonly stop: AbortController;
}

async function serve(): Promise<Served> {
  const [here, there] = connectionPair();
  const events = new EventBus<QmpEvent>();
  const engine: TestEngine = { log: [], gate: deferred() };
  const closed: string[] = [];
  const stop = new AbortController();
  const serving = serveMonitor(there, {
    registry: new CommandRegistry(handlers, VERSION),
    engine,
    events,
    clock,
    onClose: (reason) => closed.push(reason),
    signal: stop.signal,
  });
  const client = await QmpClient.connect(here);
  return { client, events, engine, serving, closed, stop };
}

const GREETING =
  '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": ["oob"]}}\r\n';

/** A server that answers the n-th thing it is told with the n-th reply, whatever that thing is. */
function scripted(...replies: string[]): HostConnection {
  const [here, there] = connectionPair();
  void (async () => {
    await there.write(encode(GREETING));
    const waiting = ['{"return": {}, "id": 1}\n', ...replies];
    for await (const _ of there.incoming) await there.write(encode(waiting.shift() ?? ""));
  })();
  return here;
}

describe("client and server", () => {
  it("exchange typed commands", async () => {
    const { client, engine } = await serve();
    const version = await client.execute("query-version");
    expect(version.qemu.major).toBe(7);
    expect(await client.execute("query-block-jobs")).toEqual([]);
    await client.execute("block-stream", { device: "top", speed: 7 });
    expect(engine.log).toEqual(["stream top 7"]);
    expect(await client.greeting()).toEqual({ version: VERSION, capabilities: ["oob"] });
  });

  it("carry the error and its class", async () => {
    const { client } = await serve();
    await expect(client.execute("job-cancel", { id: "j" })).rejects.toMatchObject({
      name: "CommandError",
      message: "Block job 'j' not found",
      qmpClass: "DeviceNotActive",
    });
    await expect(client.executeRaw("block-levitate", {})).rejects.toMatchObject({
      qmpClass: "CommandNotFound",
    });
  });

  it("match replies to requests in flight together", async () => {
    const { client, engine } = await serve();
    const first = client.execute("job-pause", { id: "a" });
    const second = client.execute("query-block-jobs");
    engine.gate.resolve();
    expect(await Promise.all([first, second])).toEqual([{}, []]);
  });

  it("carry events to listeners and iterators", async () => {
    const { client, events } = await serve();
    const heard: string[] = [];
    const stopListening = client.on("JOB_STATUS_CHANGE", ({ data }) =>
      heard.push(`${data.id} ${data.status}`),
    );
    const iterator = client.events();
    events.emit("JOB_STATUS_CHANGE", { id: "j", status: "created" });
    events.emit("STOP");
    const first = await iterator.next();
    expect(first.value).toEqual({
      event: "JOB_STATUS_CHANGE",
      data: { id: "j", status: "created" },
      microseconds: 1_700_000_000_250_001,
    });
    expect((await iterator.next()).value).toMatchObject({ event: "STOP", data: {} });
    stopListening();
    events.emit("JOB_STATUS_CHANGE", { id: "j", status: "running" });
    await iterator.next();
    expect(heard).toEqual(["j created"]);
    const pending = iterator.next();
    await client.close();
    expect(await pending).toEqual({ done: true, value: undefined });
  });

  it("end together, whoever begins", async () => {
    const byClient = await serve();
    await byClient.client.close();
    await byClient.serving;
    expect(byClient.closed).toEqual(["the client has gone"]);

    const byServer = await serve();
    const pending = byServer.client.execute("job-pause", { id: "a" });
    byServer.stop.abort();
    await expect(pending).rejects.toThrow("the QMP server has closed the connection");
    await expect(byServer.client.execute("query-block-jobs")).rejects.toThrow("closed the connection");
    byServer.engine.gate.resolve();
    await byServer.serving;
    expect(byServer.closed).toEqual(["shut down"]);
  });
});

describe("a client of a strange server", () => {
  it("ignores capabilities, unknown members and replies that nobody asked for", async () => {
    const client = await QmpClient.connect(
      scripted(
        '{"return": {}, "id": 99}\n{"return": {"running": true, "status": "running", "new": 1}, "id": 2}\n',
      ),
    );
    expect(await client.execute("query-status")).toMatchObject({ running: true, status: "running" });
  });

  it("narrows numbers to plain ones", async () => {
    const client = await QmpClient.connect(scripted('{"return": [18446744073709551615, 1.0], "id": 2}\n'));
    expect(await client.executeRaw("x")).toEqual([2 ** 64, 1]);
  });

  it.each([
    ["HTTP/1.1 400 Bad Request\r\n", "sent no JSON"],
    ["[]\n", "no object"],
  ])("fails on %j", async (reply, message) => {
    const client = await QmpClient.connect(scripted(reply)).catch((error: unknown) => error);
    const failure =
      client instanceof QmpClient ? await client.execute("query-status").catch((e: unknown) => e) : client;
    expect(String(failure)).toContain(message);
  });

  it("gives up waiting for a greeting when told to", async () => {
    const [here] = connectionPair();
    const stop = new AbortController();
    const connecting = QmpClient.connect(here, { signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(connecting).rejects.toThrow("enough");
  });
});

describe("an address", () => {
  const served = (): { sockets: HostSockets; asked: SocketAddress[] } => {
    const asked: SocketAddress[] = [];
    const connect = (address: SocketAddress): Promise<HostConnection> => {
      asked.push(address);
      return Promise.resolve(scripted());
    };
    return { asked, sockets: { connect, listen: () => Promise.reject(new Error("nobody listens")) } };
  };

  it.each<[string, SocketAddress]>([
    ["unix:qmp.sock", { type: "unix", path: "qmp.sock" }],
    ["unix:/run/a:b/qmp.sock", { type: "unix", path: "/run/a:b/qmp.sock" }],
    ["tcp:localhost:4444", { type: "inet", host: "localhost", port: 4444 }],
    ["tcp:[::1]:4444", { type: "inet", host: "::1", port: 4444 }],
  ])("%s is connected to", async (address, where) => {
    const { sockets, asked } = served();
    await (await QmpClient.connect(address, { sockets })).close();
    expect(asked).toEqual([where]);
  });

  it.each(["qmp.sock", "unix:", "tcp:4444", "tcp:localhost:99999", "tcp::1:4444", "http://localhost:1"])(
    "%s is none",
    async (address) => {
      const { sockets, asked } = served();
      await expect(QmpClient.connect(address, { sockets })).rejects.toMatchObject({
        code: "EINVAL",
        message: `'${address}' is no address of a socket: unix:PATH or tcp:HOST:PORT`,
      });
      expect(asked).toEqual([]);
    },
  );

  it("is not to be had without sockets", async () => {
    await expect(QmpClient.connect("unix:qmp.sock")).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  it("is given up with the signal, and what comes late is closed", async () => {
    const late = deferred<HostConnection>();
    const stop = new AbortController();
    const sockets = { ...served().sockets, connect: () => late.promise };
    const connecting = QmpClient.connect("unix:x", { sockets, signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(connecting).rejects.toThrow("enough");
    const [here, there] = connectionPair();
    late.resolve(here);
    for await (const _ of there.incoming) expect.unreachable("nothing is sent");
  });
});
