// What stores do wrong, all at once: each job of a list meets its own fault. Those of passing ones are done, those of lasting ones fail with
// the reason, nothing half-done is seen, and a secret is nowhere. When the faults are over, a retry does the rest.
import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { must } from "../support/tools.ts";
import { type Fault, type Seen, TestStore } from "../support/s3-store.ts";
import { ended, FleetFolder, type Status, type TestJob } from "./support/fleet.ts";

const SECRET = "ein-Geheimnis-4711";
const KEYS = { AWS_ACCESS_KEY_ID: "ID", AWS_SECRET_ACCESS_KEY: SECRET };
let folder: FleetFolder;
let store: TestStore;

beforeEach(async () => {
  folder = new FleetFolder();
  store = await TestStore.start();
  Object.assign(process.env, KEYS, { AWS_ENDPOINT_URL: store.endpoint });
});

afterEach(async () => {
  for (const name of [...Object.keys(KEYS), "AWS_ENDPOINT_URL"]) Reflect.deleteProperty(process.env, name);
  await folder[Symbol.asyncDispose]();
  await store.stop();
});

/** What a fault does for a while: two of every five requests meet it. */
function passing(answer: NonNullable<ReturnType<Fault>>): Fault {
  let asked = 0;
  return () => (asked++ % 5 < 2 ? answer : undefined);
}

/** The first two meet it. */
function first(answer: NonNullable<ReturnType<Fault>>): Fault {
  let asked = 0;
  return ({ method }) => (method === "PUT" && asked++ < 2 ? answer : undefined);
}

const isPut = ({ method }: Seen): boolean => method === "PUT";
const elsewhere = createServer((_request, response) => response.end());
let asksElsewhere = 0;

/** What the jobs to a store meet: those that pass; and those that last, with what is told of them. */
const passingFaults: Readonly<Record<string, Fault>> = {
  p409: passing({ status: 409, code: "ConditionalRequestConflict" }),
  p429: passing({ status: 429 }),
  p503: passing({ status: 503, code: "SlowDown" }),
  "p-cut": passing({ cut: true }),
  "p-silent": first({ hang: true }),
  "p-lost": passing({ status: 503, after: true }),
};
const lastingFaults: Readonly<Record<string, { fault: Fault; told: string }>> = {
  l403: { fault: () => ({ status: 403, code: "AccessDenied" }), told: "HTTP status 403 (AccessDenied)" },
  "l403-clock": {
    fault: () => ({ status: 403, code: "RequestTimeTooSkewed" }),
    told: "HTTP status 403 (RequestTimeTooSkewed)",
  },
  l404: {
    fault: (seen) => (isPut(seen) ? { status: 404, code: "NoSuchBucket" } : undefined),
    told: "HTTP status 404 (NoSuchBucket)",
  },
  l412: { fault: (seen) => (isPut(seen) ? { status: 412 } : undefined), told: "HTTP status 412" },
  "l-elsewhere": {
    fault: () => {
      const { port } = elsewhere.address() as AddressInfo;
      return { status: 307, headers: { Location: `http://127.0.0.1:${port}/` } };
    },
    told: "the store sends the request elsewhere, which is refused",
  },
};
/** What the sources in a store meet as they are read, of 4194816 bytes; of some no more is asked for. */
const lies: Readonly<Record<string, NonNullable<ReturnType<Fault>>>> = {
  empty: { status: 206, headers: { "Content-Length": "0" } },
  short: { status: 206, headers: { "Content-Range": "bytes 0-9/4194816" } },
  other: { status: 206, headers: { "Content-Range": "bytes 4096-8191/4194816" } },
  grown: { status: 206, headers: { "Content-Range": "bytes 0-65535/9999999" } },
  whole: { status: 200, headers: { "Content-Length": "10" } },
};
const final = ["grown", "whole"];

/** Whether a text is in any file of the folder: lists, journals, what servers of queues keep. */
function isKept(text: string): boolean {
  return readdirSync(folder.path, { recursive: true })
    .map((name) => join(folder.path, String(name)))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
    .some((path) => readFileSync(path).includes(text));
}

describe("jobs whose stores do wrong", () => {
  beforeEach(async () => {
    asksElsewhere = 0;
    elsewhere.on("request", () => (asksElsewhere += 1));
    await new Promise<void>((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
  });

  afterEach(() => new Promise((resolve) => elsewhere.close(resolve)));

  it("are done where it passes, and fail alone with the reason where it does not", async () => {
    const source = folder.image("a.raw", 2);
    const options = { sourceFormat: "raw", targetFormat: "raw" };
    const query = (id: string): string => `?retries=12&timeout=${id === "p-silent" ? 1 : 60}`;
    const faults = new Map<string, Fault>(Object.entries(passingFaults));
    for (const [name, { fault }] of Object.entries(lastingFaults)) faults.set(name, fault);
    const jobs: TestJob[] = [...faults.keys()].map((id) => {
      return { id, kind: "convert", source, target: `s3://disks/${id}${query(id)}`, options };
    });
    for (const [name, answer] of Object.entries(lies))
      for (const isLasting of final.includes(name) ? [true] : [false, true]) {
        const id = `${name}-${isLasting ? "lasts" : "passes"}`;
        store.put(`disks/${id}`, readFileSync(source));
        const often = passing(answer);
        faults.set(id, (seen) => (seen.method === "GET" ? (isLasting ? answer : often(seen)) : undefined));
        const from = `s3://disks/${id}?retries=${isLasting ? 1 : 12}`;
        jobs.push({ id, kind: "mirror", source: from, target: folder.in(id), options });
      }
    jobs.push({ id: "fine", kind: "mirror", source, target: folder.in("fine"), options });
    const isLasting = (id: string): boolean => id in lastingFaults || id.endsWith("-lasts");
    store.fault = (seen) => faults.get(/^disks\/([a-z\d-]+)/.exec(seen.key)?.[1] ?? "")?.(seen);
    const list = folder.list(jobs);
    const words = ["run", list, "--json", "--jobs", "--workers", "8", "--attempts", "2", "--backoff", "1"];
    const { stdout, stderr, status } = await folder.fleet(...words);
    const said = JSON.parse(stdout) as Status;
    const told = (id: string): string => lastingFaults[id]?.told ?? `s3://disks/${id}`;
    const ends = said.jobs.map(({ id, state, lastError }) => {
      if (state === "done") return `${id} done`;
      return `${id} ${state} ${lastError.includes(told(id)) ? "as told" : lastError}`;
    });
    expect(ends).toEqual(jobs.map(({ id }) => (isLasting(id) ? `${id} failed as told` : `${id} done`)));
    expect(status).toBe(1);
    expect(asksElsewhere).toBe(0);
    // Nothing half-done is to be seen.
    for (const { id } of jobs.filter((job) => isLasting(job.id)))
      expect(
        id.startsWith("l") ? store.objects.has(`disks/${id}`) : readdirSync(folder.path).includes(id),
      ).toBe(false);
    expect(stdout + stderr).not.toContain(SECRET);
    expect(isKept(SECRET)).toBe(false);
    // When it is over, those that failed are done.
    store.fault = () => undefined;
    const again = await folder.fleet(...words);
    expect(again.status, again.stdout).toBe(0);
    for (const { id, target = "" } of jobs) {
      const copy = target.startsWith("s3:") ? folder.in(`copy-${id}`) : target;
      if (target.startsWith("s3:")) writeFileSync(copy, store.objects.get(`disks/${id}`)!.bytes);
      await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, copy);
    }
  });
});

it("no secret is in a queue, in what is told of it, or beside a target", async () => {
  const source = folder.image("a.raw", 1);
  const { url } = await folder.redis();
  const target = (key: string): string => `s3://disks/${key}`;
  store.fault = ({ key }) => (key.startsWith("disks/no") ? { status: 403, code: "ExpiredToken" } : undefined);
  const list = folder.list(
    ["no", "yes"].map((id) => ({ id, kind: "convert", source, target: target(id), options: {} })),
  );
  const queue = ["--queue", url];
  await folder.fleet("submit", list, ...queue);
  const worker = folder.start("worker", "--idle-exit", ...queue);
  await ended(worker);
  const told = [folder.said(worker)];
  for (const words of [["--json", "--jobs"], ["--jobs"], ["--metrics"]]) {
    const { stdout, stderr } = await folder.fleet("status", ...words, ...queue);
    told.push(stdout, stderr);
  }
  expect(told.join("\n")).toContain("the credentials have expired");
  expect(told.join("\n")).not.toContain(SECRET);
  // The server keeps a file of all that it was told.
  expect(isKept("ExpiredToken")).toBe(true);
  expect(isKept(SECRET)).toBe(false);
  for (const [key, { bytes }] of store.objects) expect(bytes.includes(SECRET), key).toBe(false);
  expect(execFileSync("redis-cli", ["-s", folder.in("redis.sock"), "DBSIZE"]).toString()).not.toBe("0\n");
});
