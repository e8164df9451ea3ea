// Servers of queues that take a connection and say nothing, or fall silent later, and databases that are not there: `fleet` says so in
// bounded time, and ends.
import { type ChildProcess, execFileSync } from "node:child_process";
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../support/until.ts";
import { ended, FleetFolder } from "./support/fleet.ts";

let folder: FleetFolder;

beforeEach(() => {
  folder = new FleetFolder();
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

/** A database that a Redis server does not have; nothing is put into another one instead. */
it("a database that is not there is refused, by who asks and by a worker", async () => {
  const { url } = await folder.redis();
  const none = `${url}?db=99`;
  for (const words of [["status"], ["submit", folder.list([])], ["worker", "--idle-exit"]]) {
    const told = await folder.fleet(...words, "--queue", none);
    expect(told.stderr).toContain("the server has no such database: ERR DB index is out of range");
    expect(told).toMatchObject({ status: 2, stdout: "" });
  }
  expect((await folder.fleet("status", "--queue", `${url}?db=15`)).status).toBe(0);
});

/** Ten seconds each, in which nothing happens. */
describe.skipIf(process.env["BLOCKWRIGHT_TEST_BUDGET"] !== "all")("a server that says nothing", () => {
  it("is told of, by every action", async () => {
    const sockets = new Set<{ destroy(): void }>();
    const server: Server = createServer((socket) => sockets.add(socket.on("error", () => undefined)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    try {
      const actions = [
        ["status"],
        ["submit", folder.list([])],
        ["cancel", "a"],
        ["retry", "--failed"],
        ["drain"],
      ];
      const tell = async (words: readonly string[], url: string): Promise<void> => {
        const { status, stderr } = await folder.fleet(...words, "--queue", url);
        expect({ words, url, status }).toMatchObject({ status: 2 });
        expect(stderr).toMatch(/^blockwright fleet: the queue: (no word from its server|.*terminated)/);
      };
      const told = actions.map((words) => tell(words, `redis://127.0.0.1:${port}`));
      await Promise.all([...told, tell(["status"], `postgres://x@127.0.0.1:${port}/x`)]);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  it("and who falls silent is told of by a worker, who ends when it is told to", async () => {
    const { url } = await folder.redis();
    const said = (child: ChildProcess) => () =>
      folder.said(child).includes("the queue does not answer: no word from its server for 10 s");
    const worker = folder.start("worker", "--queue", url);
    const waiting = folder.start("submit", "--wait", folder.list([job()]), "--queue", url);
    await until("the job is done", () => waiting.exitCode === 0);
    execFileSync("redis-cli", ["-s", new URL(url).pathname, "CLIENT", "PAUSE", "600000"]);
    await until("it is told", said(worker));
    worker.kill("SIGTERM");
    await ended(worker);
    expect(worker.exitCode).toBe(143);
  });
});

function job() {
  const source = folder.image("a.raw", 1);
  return { id: "a", kind: "convert", source, target: folder.in("b.raw"), options: { sourceFormat: "raw" } };
}
