// Unix sockets: modes, stale files, half-close, backpressure.
import * as fs from "node:fs";
import * as net from "node:net";
import { describe, expect, test } from "vitest";
import type { HostConnection, HostListener } from "../../../../src/base/host.ts";
import { deferred } from "../../../../src/base/signals.ts";
import { nodeSockets } from "../../../../src/platform/node/sockets.ts";
import { codeOf, pattern, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();

async function accept(listener: HostListener): Promise<HostConnection> {
  for await (const connection of listener.connections) return connection;
  throw new Error("the listener closed");
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

async function collect(connection: HostConnection): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of connection.incoming) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

describe("Unix sockets", () => {
  test("carry bytes both ways under backpressure", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("both") });
    const client = await nodeSockets.connect({ type: "unix", path: path("both") });
    const server = await accept(listener);
    const bytes = pattern(1 << 20);
    const received = collect(server);
    await client.write(bytes);
    await client.write(bytes);
    await server.write(pattern(3));
    // Closing with something unread would reset the connection (unix(7)).
    for await (const chunk of client.incoming) {
      expect(new Uint8Array(chunk)).toEqual(pattern(3));
      break;
    }
    await client.close();
    expect(Buffer.concat([bytes, bytes]).equals(await received)).toBe(true);
    await server.close();
    await listener.close();
  });

  test("are open to their owner only from the start", async () => {
    const before = process.umask();
    const listener = await nodeSockets.listen({ type: "unix", path: path("mode") });
    expect(fs.statSync(path("mode")).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(before);
    await listener.close();
    expect(fs.existsSync(path("mode"))).toBe(false);
  });

  test("replace a socket file left behind, and nothing else", async () => {
    const crashed = net.createServer();
    await new Promise<void>((resolve) => crashed.listen(path("stale-first"), resolve));
    fs.renameSync(path("stale-first"), path("stale"));
    await new Promise((resolve) => crashed.close(resolve));
    expect(fs.lstatSync(path("stale")).isSocket()).toBe(true);
    await (await nodeSockets.listen({ type: "unix", path: path("stale") })).close();

    fs.writeFileSync(path("precious"), "content");
    await expect(nodeSockets.listen({ type: "unix", path: path("precious") })).rejects.toThrow(
      `Failed to bind socket to ${path("precious")}: Address already in use`,
    );
    expect(fs.readFileSync(path("precious"), "utf8")).toBe("content");
  });

  test("refuse a path that the kernel would cut", async () => {
    const long = path("x".repeat(120));
    await expect(nodeSockets.listen({ type: "unix", path: long })).rejects.toThrow(
      `UNIX socket path '${long}' is too long`,
    );
  });

  test("tell why connecting failed", async () => {
    const connecting = nodeSockets.connect({ type: "unix", path: path("nobody") });
    await expect(connecting).rejects.toThrow(`Failed to connect to '${path("nobody")}': No such file`);
  });

  test("a half-closed peer still gets its answer", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("half") });
    const peer = net.connect({ path: path("half"), allowHalfOpen: true });
    peer.end("question");
    const server = await accept(listener);
    expect(Buffer.from(await collect(server)).toString()).toBe("question");
    await server.write(new TextEncoder().encode("answer"));
    await server.close();
    const answer = await new Promise<string>((resolve) => {
      let text = "";
      peer.on("data", (chunk: Buffer) => (text += chunk.toString()));
      peer.on("end", () => resolve(text));
    });
    expect(answer).toBe("answer");
    await listener.close();
  });

  test("what is written in one turn arrives in its order, also when the connection is given up in that turn", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("turn") });
    const client = await nodeSockets.connect({ type: "unix", path: path("turn") });
    const server = await accept(listener);
    const received = collect(client);
    const parts = [1, 2, 3].map((seed) => pattern(500, seed));
    await Promise.all(parts.map(async (part) => server.write(part, part.subarray(0, 7))));
    void server.write(parts[0]!);
    server.abort?.();
    const expected = [...parts.flatMap((part) => [part, part.subarray(0, 7)]), parts[0]!];
    expect(await received).toEqual(new Uint8Array(Buffer.concat(expected)));
    await client.close();
    await listener.close();
  });

  test("what a receiver has a place for is put there, the rest is handed to it", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("place") });
    const memory = new Uint8Array(100_000);
    const taken: number[] = [];
    let at = 0;
    const ended = deferred();
    const receiver = {
      take: (bytes: Uint8Array) => void taken.push(...bytes),
      place: () => (taken.length > 0 && at < memory.length ? memory.subarray(at) : undefined),
      placed: (count: number) => void (at += count),
      end: () => ended.resolve(),
    };
    const client = await nodeSockets.connect({ type: "unix", path: path("place") }, { receiver });
    const server = await accept(listener);
    await server.write(pattern(1));
    await until(() => taken.length === 1);
    await server.write(pattern(100_000, 5));
    await until(() => at === memory.length);
    expect(memory).toEqual(pattern(100_000, 5));
    await server.write(pattern(9, 3));
    await server.close();
    await ended.promise;
    expect(taken).toEqual([...pattern(1), ...pattern(9, 3)]);
    await client.close();
    await listener.close();
  });

  test("of a listener tell a receiver what comes, and its answers of one turn arrive in their order, however long they are", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("receive") });
    const client = await nodeSockets.connect({ type: "unix", path: path("receive") });
    const server = await accept(listener);
    const lengths = [16, 4096, 60_000, 60_000, 60_000, 1_000_000, 5, 70_000, 8_000_000, 3, 60_000];
    const answers = lengths.map((length, at) => pattern(length, at));
    const taken: Uint8Array[] = [];
    const ended = deferred();
    const received = collect(client);
    const writes: (void | Promise<void>)[] = [];
    server.receive!({
      take: (bytes) => {
        taken.push(bytes.slice());
        for (const answer of answers) {
          // Its memory is the writer's again where the answer is there at once.
          const own = answer.slice();
          const written = server.write(own);
          writes.push(written);
          if (!written) own.fill(0xee);
        }
      },
      end: () => ended.resolve(),
    });
    await client.write(pattern(3));
    await until(() => writes.length > 0);
    expect(writes.slice(0, 5).every((written) => written === undefined)).toBe(true);
    await Promise.all(writes.map(async (written) => written));
    await server.close();
    expect(Buffer.concat(answers).equals(await received)).toBe(true);
    expect(taken).toEqual([pattern(3)]);
    await ended.promise;
    expect(await codeOf(async () => server.write(pattern(1)))).toBe("EPIPE");
    await client.close();
    await listener.close();
  });

  test("that are held read nothing until they are not", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("hold") });
    const client = await nodeSockets.connect({ type: "unix", path: path("hold") });
    const server = await accept(listener);
    let came = 0;
    const ended = deferred();
    const receiver = {
      take: (bytes: Uint8Array) => {
        came += bytes.byteLength;
        if (came < 10) server.hold!(true);
      },
      end: () => ended.resolve(),
    };
    server.receive!(receiver);
    await client.write(pattern(1));
    await until(() => came === 1);
    // More than a socket holds, so the writer waits as long as nothing is read.
    let isWritten = false;
    const writing = Promise.resolve(client.write(pattern(8 << 20))).then(() => (isWritten = true));
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect([came, isWritten]).toEqual([1, false]);
    came = 10;
    server.hold!(false);
    await writing;
    await client.close();
    await ended.promise;
    expect(came).toBe(10 + (8 << 20));
    await server.close();
    await listener.close();
  });

  test("a long write leaves at once with what was gathered before it, and is told then if the kernel took it", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("long") });
    const client = await nodeSockets.connect({ type: "unix", path: path("long") });
    const server = await accept(listener);
    const received = collect(client);
    const small = server.write(pattern(10));
    expect(server.write(pattern(70_000, 1))).toBeUndefined();
    await small;
    // More than any socket holds.
    const large = pattern(32 << 20, 2);
    const writing = server.write(large);
    expect(writing).toBeInstanceOf(Promise);
    await writing;
    await server.write(pattern(65_536, 3), pattern(65_536, 4));
    await server.close();
    const expected = [pattern(10), pattern(70_000, 1), large, pattern(65_536, 3), pattern(65_536, 4)];
    expect(Buffer.concat(expected).equals(await received)).toBe(true);
    expect(await codeOf(async () => server.write(large))).toBe("EPIPE");
    await client.close();
    await listener.close();
  });

  test("closing ends the reader and the iteration of connections; writing then is EPIPE", async () => {
    const listener = await nodeSockets.listen({ type: "unix", path: path("close") });
    const client = await nodeSockets.connect({ type: "unix", path: path("close") });
    const server = await accept(listener);
    const reading = collect(client);
    await client.close();
    expect(await reading).toHaveLength(0);
    expect(await codeOf(async () => client.write(new Uint8Array(1)))).toBe("EPIPE");
    await client.close();
    await server.close();
    const accepting = accept(listener);
    const again = await nodeSockets.connect({ type: "unix", path: path("close") });
    await (await accepting).close();
    await again.close();
    const waiting = accept(listener);
    await listener.close();
    await expect(waiting).rejects.toThrow("the listener closed");
  });
});

test("inet sockets connect, and a refused connection is ECONNREFUSED", async () => {
  const probe = net.createServer();
  const port = await new Promise<number>((resolve) =>
    probe.listen(0, "127.0.0.1", () => resolve((probe.address() as net.AddressInfo).port)),
  );
  await new Promise((resolve) => probe.close(resolve));
  const address = { type: "inet", host: "127.0.0.1", port } as const;
  expect(await codeOf(nodeSockets.connect(address))).toBe("ECONNREFUSED");
  const listener = await nodeSockets.listen(address);
  expect(await codeOf(nodeSockets.listen(address))).toBe("EADDRINUSE");
  const client = await nodeSockets.connect(address);
  const server = await accept(listener);
  await client.write(pattern(5));
  await client.close();
  expect(await collect(server)).toEqual(pattern(5));
  await server.close();
  await listener.close();
});

test("a server that refuses a TLS handshake is told of by the reason alone, without OpenSSL's address and source line", async () => {
  // An alert: fatal, handshake_failure.
  const server = net
    .createServer((socket) => {
      socket.once("data", () => socket.end(Uint8Array.of(21, 3, 3, 0, 2, 2, 40)));
    })
    .listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  const connection = await nodeSockets.connect({ type: "inet", host: "127.0.0.1", port });
  const keys = new Map([["qemu", new Uint8Array(32)]]);
  const start = connection.startTls!({ role: "client", credentials: { kind: "psk", keys } });
  await expect(start).rejects.toThrow(/^TLS handshake failed: [a-z\d/ ]+$/);
  await new Promise((resolve) => server.close(resolve));
});
