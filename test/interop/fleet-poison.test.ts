// Jobs that end whoever has them, as one does for which the memory is too small: they are given up after a while and say why, over a queue
// and without one, the other jobs go on, and a retry tries them anew.
import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { until } from "../support/until.ts";
import { FleetFolder, ended, killed, type Status } from "./support/fleet.ts";
import { must } from "../support/tools.ts";

const LOST = 10;
let folder: FleetFolder;
let image: Buffer;
/** Whether the server gives more than the beginning: who asks for that before waits until he is killed. */
let isOpen: boolean;

const server = createServer(({ headers }, response) => {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "") ?? [];
  if (Number(from ?? 0) > 0 && !isOpen) return;
  const bytes = image.subarray(Number(from ?? 0), to ? Number(to) + 1 : undefined);
  const told = { "Accept-Ranges": "bytes", ETag: '"1"', "Content-Length": bytes.length };
  const range = `bytes ${from}-${Number(from) + bytes.length - 1}/${image.length}`;
  response.writeHead(
    from === undefined ? 200 : 206,
    from === undefined ? told : { ...told, "Content-Range": range },
  );
  response.end(bytes);
});

beforeEach(async () => {
  folder = new FleetFolder();
  isOpen = false;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function makeList(): string {
  const source = folder.image("poison.raw", 1);
  image = readFileSync(source);
  const options = { sourceFormat: "raw", targetFormat: "raw" };
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/poison.raw`;
  const poison = { id: "poison", kind: "convert", source: url, target: folder.in("poison"), options };
  const fine = { id: "fine", kind: "convert", source, target: folder.in("fine"), options, priority: -1 };
  return folder.list([poison, fine]);
}

/** Whether a process is at the job that will be its end. */
function isAt({ pid }: ChildProcess): boolean {
  const fence = folder.in(".poison.fleet");
  const names = existsSync(fence) ? readdirSync(fence).filter((name) => /^g\d+$/.test(name)) : [];
  const last = names.toSorted().at(-1);
  // It comes or goes at this moment: nothing is written yet.
  return last !== undefined && readFileSync(`${fence}/${last}`, "utf8").includes(`"pid":${pid},`);
}

async function areEqual(): Promise<void> {
  for (const name of ["poison", "fine"])
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", folder.in("poison.raw"), folder.in(name));
}

it.each(["Redis", "PostgreSQL"])("over %s", async (name) => {
  const url = name === "Redis" ? (await folder.redis()).url : folder.postgres().url;
  const queue = ["--queue", url, "--lease", "1000"];
  const status = async (): Promise<Status> =>
    JSON.parse((await folder.fleet("status", "--jobs", "--json", ...queue)).stdout) as Status;
  await folder.fleet("submit", makeList(), ...queue);
  for (let round = 0; round < LOST; round++) {
    const worker = folder.start("worker", "--workers", "1", ...queue);
    await until("it has the job", () => isAt(worker));
    await killed(worker);
  }
  await ended(folder.start("worker", "--workers", "1", "--idle-exit", ...queue));
  const { jobs, ...counts } = await status();
  expect(counts).toEqual({ queued: 0, running: 0, done: 1, failed: 1 });
  const [, poison] = jobs;
  expect(poison).toMatchObject({ id: "poison", state: "failed", attempts: LOST + 1 });
  expect(poison!.lastError).toContain("ended without a word 10 times in a row");
  isOpen = true;
  expect((await folder.fleet("retry", "poison", ...queue)).stdout).toBe("1 retried\n");
  await ended(folder.start("worker", "--workers", "1", "--idle-exit", ...queue));
  const after = await status();
  expect(after).toMatchObject({ done: 2, failed: 0 });
  await areEqual();
});

it("in one process, which is started again each time", async () => {
  const list = makeList();
  for (let round = 0; round < LOST; round++) {
    const run = folder.start("run", list, "--workers", "1");
    await until("it has the job", () => isAt(run));
    await killed(run);
  }
  const { status, stdout } = await folder.fleet("run", list, "--jobs", "--json");
  const { jobs, ...counts } = JSON.parse(stdout) as Status;
  expect({ status, counts }).toEqual({ status: 1, counts: { queued: 0, running: 0, done: 1, failed: 1 } });
  expect(jobs[0]).toMatchObject({ id: "poison", attempts: LOST });
  expect(jobs[0]!.lastError).toContain("ended without a word 10 times in a row");
  isOpen = true;
  expect((await folder.fleet("run", list, "--json")).stdout).toContain('"done":2,"failed":0');
  await areEqual();
});
