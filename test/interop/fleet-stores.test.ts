// `blockwright fleet` to and from object stores: every kind of job, a worker that is killed in its middle and another that goes on, a
// storm of 503, credentials that are refused, a target that somebody else makes meanwhile. What is copied is held against qemu-img.
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkFaults, must } from "../support/tools.ts";
import { TestStore } from "../support/s3-store.ts";
import { ended, FleetFolder, killed, type Status, type TestJob } from "./support/fleet.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
const SECRET = "ein-Geheimnis-4711";
let folder: FleetFolder;
let store: TestStore;

beforeEach(async () => {
  folder = new FleetFolder();
  store = await TestStore.start();
  Object.assign(process.env, {
    ...{ AWS_ENDPOINT_URL: store.endpoint, AWS_ACCESS_KEY_ID: "ID", AWS_SECRET_ACCESS_KEY: SECRET },
  });
});

afterEach(async () => {
  for (const name of ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    Reflect.deleteProperty(process.env, name);
  await folder[Symbol.asyncDispose]();
  await store.stop();
});

async function run(jobs: readonly TestJob[], ...words: string[]): Promise<{ status: number; said: Status }> {
  const list = folder.list(jobs);
  const { status, stdout, stderr } = await folder.fleet("run", list, "--json", "--jobs", ...words);
  expect(stdout, stderr).toMatch(/^\{.*\}\n$/);
  expect(stdout + stderr).not.toContain(SECRET);
  return { status, said: JSON.parse(stdout) as Status };
}

/** An object as a file. */
function download(key: string): string {
  const path = folder.in(key.replaceAll("/", "-"));
  writeFileSync(path, store.objects.get(`disks/${key}`)!.bytes);
  return path;
}

/** What lies in the store, save what says that a target is done. */
function keys(): string[] {
  return store.keys().filter((key) => !key.endsWith(".fleet/f/done"));
}

function moved({ jobs }: Status): number {
  return jobs.reduce((sum, { bytes }) => sum + bytes, 0);
}

describe("jobs on s3://", () => {
  it("of every kind are done, and done once", async () => {
    const source = folder.image("a.raw", 4);
    const raw = { sourceFormat: "raw" };
    const jobs: TestJob[] = [
      {
        ...{ id: "convert", kind: "convert", source, target: "s3://disks/a.qcow2" },
        options: { ...raw, targetFormat: "qcow2" },
      },
      { id: "mirror", kind: "mirror", source, target: "s3://disks/sub/a.raw", options: raw },
      {
        ...{ id: "backup", kind: "backup", source, target: "s3://disks/chunks?form=chunks" },
        options: { ...raw, targetFormat: "qcow2", compress: true },
      },
    ];
    expect((await run(jobs)).said.jobs.map(({ state, lastError }) => [state, lastError])).toEqual(
      jobs.map(() => ["done", ""]),
    );
    await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, download("a.qcow2"));
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, download("sub/a.raw"));
    expect(await checkFaults(folder.in("a.qcow2"), "refused")).toBeUndefined();
    expect(keys().filter((key) => key.includes("draft-") || key.includes(".fleet/"))).toEqual([]);
    const requests = store.received;
    const back: TestJob[] = [
      ...jobs,
      { id: "verify", kind: "verify", source: "s3://disks/a.qcow2", target: "s3://disks/sub/a.raw" },
      { id: "read", kind: "verify", source: "s3://disks/chunks", options: { sourceFormat: "qcow2" } },
      { id: "back", kind: "convert", source: "s3://disks/a.qcow2", target: folder.in("b.raw") },
    ];
    expect((await run(back, "--journal", folder.in("other"))).said).toMatchObject({ done: 6, failed: 0 });
    // What was there is known by what lies beside it: nothing was sent again.
    expect(store.received).toBe(requests);
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, folder.in("b.raw"));
  });

  it.each([
    { format: "raw", query: "" },
    { format: "qcow2", query: "?form=chunks" },
  ])("that are killed go on where they were: $format, '$query'", async ({ format, query }) => {
    const source = folder.image("a.raw", 48);
    const options = { sourceFormat: "raw", targetFormat: format, speedBytesPerSecond: 40 * MiB };
    const jobs = [{ id: "a", kind: "convert", source, target: `s3://disks/a${query}`, options }];
    const list = folder.list(jobs);
    const position = (): number =>
      store
        .keys()
        .filter((key) => /\.fleet\/f\/c/.test(key))
        .map((key) => (JSON.parse(store.objects.get(key)!.bytes.toString()) as { position: number }).position)
        .reduce((most, one) => Math.max(most, one), 0);
    for (const least of [1, 17 * MiB]) {
      const child = folder.start("run", list);
      await until("a copy in its middle", () => position() >= least);
      await killed(child);
      expect(store.objects.has("disks/a")).toBe(false);
    }
    const { said, status } = await run(jobs);
    expect({ status, state: said.jobs[0]?.state }).toEqual({ status: 0, state: "done" });
    // What is told counts each step that a kill may have lost: two, of a third of the disk each.
    expect(moved(said)).toBeGreaterThanOrEqual(48 * MiB);
    expect(moved(said)).toBeLessThanOrEqual(48 * MiB + 2 * 33 * MiB);
    const back = [
      {
        id: "back",
        kind: "verify",
        source,
        target: `s3://disks/a`,
        options: { sourceFormat: "raw", targetFormat: format },
      },
    ];
    expect((await run(back, "--journal", folder.in("back"))).status).toBe(0);
    expect(keys().filter((key) => key.includes("draft-") || key.includes(".fleet/"))).toEqual([]);
  });

  it("outlive a storm of 503, and hardly a byte is sent twice", async () => {
    const source = folder.image("a.raw", 40);
    const options = { sourceFormat: "raw", targetFormat: "raw" };
    let asked = 0;
    // Of ten requests in a row four are refused, again and again.
    store.fault = () => (asked++ % 10 < 4 ? { status: 503, code: "SlowDown" } : undefined);
    const jobs = [{ id: "a", kind: "mirror", source, target: "s3://disks/a?retries=8", options }];
    expect((await run(jobs, "--attempts", "20", "--backoff", "1")).status).toBe(0);
    store.fault = () => undefined;
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, download("a"));
  });

  it("that are refused fail alone and say why, and are done when they are retried", async () => {
    const source = folder.image("a.raw", 1);
    const options = { sourceFormat: "raw" };
    store.fault = ({ key }) =>
      key.startsWith("disks/no") ? { status: 403, code: "ExpiredToken" } : undefined;
    const jobs = [
      { id: "no", kind: "convert", source, target: "s3://disks/no", options },
      { id: "yes", kind: "convert", source, target: "s3://disks/yes", options },
      { id: "oci", kind: "convert", source, target: "oci://127.0.0.1:1/x/y:1", options },
    ];
    const { said, status } = await run(jobs);
    expect(status).toBe(1);
    expect(said.jobs.map(({ state, attempts }) => [state, attempts])).toEqual([
      ["failed", 1],
      ["done", 1],
      ["failed", 1],
    ]);
    expect(said.jobs[0]?.lastError).toContain("the credentials have expired");
    expect(said.jobs[2]?.lastError).toContain("keeps a fence");
    store.fault = () => undefined;
    expect((await run(jobs.slice(0, 2))).said.done).toBe(2);
  });

  it.each(["from", "to"])("whose credentials expire midway %s a store go on with new ones", async (way) => {
    const source = folder.image("a.raw", 48);
    const there = "s3://disks/a?retries=0";
    if (way === "from") store.put("disks/a", readFileSync(source));
    const names = way === "from" ? { source: there, target: folder.in("b") } : { source, target: there };
    const jobs = [{ id: "a", kind: "convert", ...names, options: { sourceFormat: "raw" } }];
    // Nobody is let in after so many bytes.
    store.fault = () =>
      store.sent + store.received > 28 * MiB ? { status: 403, code: "ExpiredToken" } : undefined;
    const first = await run(jobs);
    expect(first).toMatchObject({ status: 1, said: { failed: 1 } });
    expect(first.said.jobs[0]).toMatchObject({ attempts: 1 });
    expect(first.said.jobs[0]?.lastError).toContain("the credentials have expired");
    store.fault = () => undefined;
    expect((await run(jobs)).status).toBe(0);
    const copy = way === "from" ? folder.in("b") : download("a");
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, copy);
    // Of the 96 MiB of the object the 28 MiB are not moved again.
    expect(store.sent + store.received).toBeLessThan(1.1 * 96 * MiB);
    expect(folder.leftovers()).toEqual([]);
    expect(keys().filter((key) => key.includes("draft-") || key.includes(".fleet/"))).toEqual([]);
  });

  it.each([
    { at: "a part that is copied", method: "PUT", after: false, next: "the same job" },
    { at: "the last request", method: "POST", after: false, next: "the same job" },
    { at: "the last request", method: "POST", after: false, next: "another job" },
    { at: "the last request, which is done", method: "POST", after: true, next: "the same job" },
  ])("killed within $at leave no upload open after $next", async ({ method, after, next }) => {
    const source = folder.image("a.raw", 12);
    const jobs: TestJob[] = [
      { id: "a", kind: "mirror", source, target: "s3://disks/a", options: { sourceFormat: "raw" } },
    ];
    let isHung = false;
    store.fault = (seen) => {
      if (!seen.query.has("uploadId") || seen.method !== method) return undefined;
      isHung = true;
      return { hang: true, after };
    };
    const child = folder.start("run", folder.list(jobs));
    await until("a request that hangs", () => isHung);
    await killed(child);
    expect(store.uploads.size).toBe(after ? 0 : 1);
    store.fault = () => undefined;
    if (next === "another job") Object.assign(jobs[0]!, { kind: "convert" });
    expect((await run(jobs)).status).toBe(0);
    expect(store.uploads.size).toBe(0);
    expect(keys()).toEqual(["disks/a"]);
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, download("a"));
  });

  it("say what a store lacks that joins no objects, and leave nothing in it", async () => {
    const source = folder.image("a.raw", 1);
    const job = { id: "a", kind: "convert", source, options: { sourceFormat: "raw" } };
    store.fault = ({ query }) =>
      query.has("partNumber") ? { status: 501, code: "NotImplemented" } : undefined;
    const { said } = await run([{ ...job, target: "s3://disks/a" }]);
    expect(said.jobs[0]).toMatchObject({ state: "failed", attempts: 1 });
    expect(said.jobs[0]!.lastError).toContain(
      "HTTP status 501 (NotImplemented): the store does not join objects to one (UploadPartCopy)",
    );
    expect(store.uploads.size).toBe(0);
    expect(keys().filter((key) => key.includes("draft-"))).toEqual([]);
    // As it says.
    expect((await run([{ ...job, target: "s3://disks/a?form=chunks" }])).status).toBe(0);
  });

  it("never replace what somebody else has put at the target meanwhile unseen", async () => {
    const source = folder.image("a.raw", 32);
    const options = { sourceFormat: "raw", targetFormat: "raw", speedBytesPerSecond: 40 * MiB };
    const list = folder.list([{ id: "a", kind: "convert", source, target: "s3://disks/a", options }]);
    const child = folder.start("run", list, "--attempts", "3");
    await until("a draft", () => store.keys().some((key) => key.includes("draft-")));
    store.put("disks/a", Buffer.from("another's"));
    await ended(child);
    expect(store.objects.get("disks/a")?.bytes.subarray(0, 64).toString()).toBe("another's");
    // Told, and tried again, it takes that one's place: who retries has been told.
    expect(child.exitCode).toBe(1);
    expect((await folder.fleet("run", list)).status).toBe(0);
    expect(store.objects.get("disks/a")?.bytes.byteLength).toBe(readFileSync(source).byteLength);
  });

  it("begin anew where the source has changed", async () => {
    const path = folder.image("a.raw", 32);
    store.put("disks/source", readFileSync(path));
    const options = { sourceFormat: "raw", targetFormat: "raw", speedBytesPerSecond: 20 * MiB };
    const target = folder.in("copy");
    const list = folder.list([{ id: "a", kind: "convert", source: "s3://disks/source", target, options }]);
    const child = folder.start("run", list);
    await until("a copy in its middle", () => folder.position("copy") > 4 * MiB);
    await killed(child);
    const changed = readFileSync(path);
    changed.fill(7, 0, MiB);
    store.put("disks/source", changed);
    truncateSync(path, 0);
    writeFileSync(path, changed);
    expect((await folder.fleet("run", list)).status).toBe(0);
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", path, target);
  });
});
