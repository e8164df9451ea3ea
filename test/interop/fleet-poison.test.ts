// Jobs that end whoever has them, as one does for which the memory is too small: they are given up after a while and say why, over a queue
// and without one, the other jobs go on, and a retry tries them anew. A job that gets on goes on, however often its worker is killed.
import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../support/until.ts";
import { FleetFolder, ended, killed, type Row, type Status } from "./support/fleet.ts";
import { must } from "../support/tools.ts";

const LOST = 10;
const MiB = 2 ** 20;
let folder: FleetFolder;
let image: Buffer;
/** Bytes that the server gives: who asks for more waits until he is killed. It always gives the beginning. */
let open: number;
/** Bytes that it has given. */
let given: number;

const server = createServer(({ headers }, response) => {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "") ?? [];
  if (Number(from ?? 0) > 0 && Number(to || Infinity) >= open) return;
  const bytes = image.subarray(Number(from ?? 0), to ? Number(to) + 1 : undefined);
  given += bytes.length;
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
  [open, given] = [0, 0];
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
  open = Infinity;
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
  open = Infinity;
  expect((await folder.fleet("run", list, "--json")).stdout).toContain('"done":2,"failed":0');
  await areEqual();
});

/** How far the journal says that the job is. */
function positionOf(id: string): number {
  const path = folder.in("jobs.json.journal/journal.jsonl");
  const lines = existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => line.includes(`"${id}"`))
    : [];
  try {
    return (
      (JSON.parse(lines.at(-1) ?? "{}") as { checkpoint?: { position: number } }).checkpoint?.position ?? 0
    );
  } catch {
    // It is being written.
    return 0;
  }
}

describe.each(["read", "compared"])("a disk that is %s", (how) => {
  const ROUNDS = LOST + 2;
  /** The longest piece that is compared at once. */
  const STEP = 4 * MiB;
  let list: string;

  beforeEach(() => {
    const path = folder.image("long.raw", ROUNDS * 2);
    image = readFileSync(path);
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/long.raw`;
    const file = { driver: "http", url, readahead: 0 };
    const source = `json:${JSON.stringify({ driver: "raw", file })}`;
    list = folder.list([{ id: "long", kind: "verify", source, ...(how === "compared" && { target: path }) }]);
  });

  /** Most bytes are read once: what was under way at a kill is read again. */
  const isReadOnce = (): void => expect(given).toBeLessThan(1.7 * image.length);

  it("is gone on with in one process that is killed again and again", async () => {
    let before = 0;
    for (let round = 1; round <= ROUNDS; round++) {
      open = round * STEP;
      const run = folder.start("run", list, "--workers", "1");
      await until("it gets on", () => positionOf("long") > before);
      await killed(run);
      before = positionOf("long");
    }
    open = Infinity;
    expect(await folder.fleet("run", list)).toMatchObject({ status: 0 });
    isReadOnce();
  });

  // What a queue keeps of it is the same for both.
  if (how === "compared") return;

  it("is gone on with over a queue by the next worker", async () => {
    const queue = ["--queue", (await folder.redis()).url, "--lease", "1000"];
    const row = async (): Promise<Row> => {
      const { jobs } = JSON.parse(
        (await folder.fleet("status", "--jobs", "--json", ...queue)).stdout,
      ) as Status;
      return jobs[0]!;
    };
    await folder.fleet("submit", list, ...queue);
    let before = 0;
    for (let round = 1; round <= ROUNDS; round++) {
      open = round * STEP;
      const worker = folder.start("worker", "--workers", "1", ...queue);
      await until("it gets on", async () => (await row()).bytes > before);
      await killed(worker);
      before = (await row()).bytes;
    }
    open = Infinity;
    await ended(folder.start("worker", "--workers", "1", "--idle-exit", ...queue));
    expect(await row()).toMatchObject({ state: "done", attempts: ROUNDS + 1 });
    isReadOnce();
  });
});
