// `blockwright fleet run`: many copies in one process with no server, killed at any time and started again. What is copied is held
// against qemu-img.
import {
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkFaults, must } from "../support/tools.ts";
import { FleetFolder, killed, type Status, type TestJob } from "./support/fleet.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
let folder: FleetFolder;

beforeEach(() => {
  folder = new FleetFolder();
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

function toQcow2(id: string, source: string, more: Partial<TestJob> = {}): TestJob {
  const options = { sourceFormat: "raw", targetFormat: "qcow2", ...more.options };
  return { id, kind: "convert", source, target: folder.in(`${id}.qcow2`), ...more, options };
}

async function run(list: string, ...words: string[]): Promise<{ status: number; said: Status }> {
  const { status, stdout, stderr } = await folder.fleet("run", list, "--json", "--jobs", ...words);
  expect(stdout, stderr).toMatch(/^\{.*\}\n$/);
  return { status, said: JSON.parse(stdout) as Status };
}

describe("a run", () => {
  it("does every kind of job, and one that can't be done fails alone", async () => {
    const source = folder.image("a.raw", 4);
    const copy = folder.image("b.raw", 4);
    truncateSync(copy, 8 * MiB + 1024);
    const list = folder.list([
      toQcow2("convert", source),
      {
        id: "mirror",
        kind: "mirror",
        source,
        target: folder.in("mirror.raw"),
        options: { sourceFormat: "raw" },
      },
      toQcow2("backup", source, {
        kind: "backup",
        options: { compress: true, create: { "cluster-size": 4096 } },
      }),
      { id: "same", kind: "verify", source, target: source.replace("a.raw", "./a.raw") },
      { id: "read", kind: "verify", source: copy },
      toQcow2("poison", folder.in("none.raw")),
      { id: "bad", kind: "convert", source, target: folder.in("bad"), options: { targetFormat: "none" } },
      { id: "differs", kind: "verify", source, target: folder.list([], "other.raw") },
    ]);
    const { status, said } = await run(list);
    expect(status).toBe(1);
    expect({
      ...said,
      jobs: said.jobs.map(({ id, state, attempts }) => `${id} ${state} ${attempts}`),
    }).toEqual({
      queued: 0,
      running: 0,
      done: 5,
      failed: 3,
      jobs: [
        ...["convert done 1", "mirror done 1", "backup done 1", "same done 1", "read done 1"],
        ...["poison failed 1", "bad failed 1", "differs failed 1"],
      ],
    });
    expect(said.jobs.find(({ id }) => id === "poison")?.lastError).toContain("No such file or directory");
    expect(said.jobs.find(({ id }) => id === "differs")?.lastError).toContain("differ");
    for (const image of ["convert.qcow2", "backup.qcow2"]) {
      expect(await checkFaults(folder.in(image), "refused")).toBeUndefined();
      await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder.in(image));
    }
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, folder.in("mirror.raw"));
    expect(statSync(folder.in("backup.qcow2")).size).toBeGreaterThan(MiB);
    expect(existsSync(folder.in("bad"))).toBe(false);
    expect(folder.leftovers()).toEqual([]);
  });

  it("checks what it verifies, by whatever name", async () => {
    const path = folder.in("damaged.qcow2");
    await must("qemu-img", "convert", "-f", "raw", "-O", "qcow2", folder.image("a.raw", 1), path);
    const bytes = readFileSync(path);
    const block = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
    // What the data's clusters are not counted as: used.
    writeFileSync(path, bytes.fill(0, block + 10, block + 2 ** 16));
    const node = { driver: "qcow2", file: { driver: "file", filename: path } };
    const named = [path, `json:${JSON.stringify(node)}`].map((source, i): TestJob => ({
      id: `${i}`,
      kind: "verify",
      source,
    }));
    const { status, said } = await run(
      folder.list([
        ...named,
        { ...named[0]!, id: "as qcow2", options: { sourceFormat: "qcow2" } },
        { ...named[0]!, id: "as raw", options: { sourceFormat: "raw" } },
      ]),
    );
    expect(status).toBe(1);
    expect(said.jobs.map(({ id, state }) => `${id} ${state}`)).toEqual([
      ...["0 failed", "1 failed", "as qcow2 failed", "as raw done"],
    ]);
    for (const { lastError, state } of said.jobs)
      if (state === "failed") expect(lastError).toMatch(/is corrupt: \d+ errors$/);
  });

  it("does nothing twice: by its journal, and without it by what stands beside the target", async () => {
    const list = folder.list([toQcow2("one", folder.image("a.raw", 1))]);
    const identity = (): string => {
      const { ino, mtimeMs } = statSync(folder.in("one.qcow2"));
      return `${ino} ${mtimeMs}`;
    };
    expect((await run(list)).status).toBe(0);
    const first = identity();
    expect((await run(list)).said.done).toBe(1);
    expect(identity()).toBe(first);
    rmSync(`${list}.journal`, { recursive: true });
    const { said } = await run(list);
    expect(said.jobs[0]).toMatchObject({ state: "done", bytes: MiB });
    expect(identity()).toBe(first);
    // Another job of that target is done.
    expect(
      (await run(folder.list([toQcow2("other", folder.in("a.raw"), { target: folder.in("one.qcow2") })])))
        .status,
    ).toBe(0);
    expect(identity()).not.toBe(first);
  });

  it("fails what would take the place of its own source, and what can't be read or made, each with its reason", async () => {
    const base = folder.image("base.raw", 1);
    symlinkSync(base, folder.in("link.raw"));
    const backing = ["-b", base, "-F", "raw"];
    await must("qemu-img", "create", "-q", "-f", "qcow2", ...backing, folder.in("top.qcow2"));
    const copy = (id: string, source: string, target = folder.in(id)) => ({
      id,
      kind: "convert",
      source,
      target,
    });
    const list = folder.list([
      copy("link", base, folder.in("link.raw")),
      copy("backing", folder.in("top.qcow2"), base),
      copy("json", "json:{"),
      copy("folder", base, folder.in("none/x")),
      copy("signed", "https://127.0.0.1:1/x?a=b&X-Amz-Signature=geheim&token=geheim"),
      copy("fine", base),
    ]);
    const before = readFileSync(base);
    const { said, status } = await run(list, "--attempts", "1");
    expect(status).toBe(1);
    expect(said.jobs.map(({ id, state, lastError }) => [id, state, lastError])).toEqual([
      ["link", "failed", `the target '${base}' is what the source is read from`],
      ["backing", "failed", `the target '${base}' is what the source is read from`],
      ["json", "failed", expect.stringContaining("the source's json: is no JSON")],
      ["folder", "failed", `there is no folder '${folder.in("none")}' for the target`],
      ["signed", "failed", expect.stringContaining("?a=b&X-Amz-Signature=***&token=***'")],
      ["fine", "done", ""],
    ]);
    expect(readFileSync(base).equals(before)).toBe(true);
    expect(JSON.stringify(said)).not.toContain("geheim");
  });

  it("reads a list that begins with the mark of its encoding", async () => {
    writeFileSync(folder.in("jobs.json"), "\uFEFF[]");
    expect((await run(folder.in("jobs.json"))).said).toMatchObject({ done: 0, failed: 0 });
  });

  it("tries again what may work later, with a wait between, and not what never will", async () => {
    // A source that is cut off: its second half is no error of the job's own.
    writeFileSync(folder.in("rules"), '[inject-error]\nevent = "read_aio"\nerrno = "5"\nonce = "on"\n');
    const source = folder.image("a.raw", 1);
    const broken = `json:{"driver":"raw","file":{"driver":"blkdebug","config":"${folder.in("rules")}","image":{"driver":"file","filename":"${source}"}}}`;
    const list = folder.list([
      { id: "a", kind: "convert", source: broken, target: folder.in("a"), options: {} },
    ]);
    const { said, status } = await run(list, "--attempts", "2", "--backoff", "1");
    expect(said.jobs[0]).toMatchObject({ state: "failed", attempts: 2 });
    expect(said.jobs[0]?.lastError).not.toBe("");
    expect(status).toBe(1);
    expect(existsSync(folder.in("a"))).toBe(false);
  });

  it("that is killed goes on where it was, and hardly a byte is copied twice", async () => {
    const big = [40, 44, 48].map((size) => folder.image(`${size}.raw`, size));
    const jobs = big.map((source, index) =>
      toQcow2(`big${index}`, source, { options: { speedBytesPerSecond: 30 * MiB } }),
    );
    const small = [1, 2, 3, 4].map((size) => toQcow2(`small${size}`, folder.image(`s${size}.raw`, size)));
    const list = folder.list([...jobs, ...small]);
    for (const least of [6, 18, 30]) {
      const child = folder.start("run", list, "--workers", "2");
      await until("a copy in its middle", () =>
        jobs.some(({ id }) => folder.position(`${id}.qcow2`) > least * MiB),
      );
      await killed(child);
      // Nothing half done has the name of a target.
      for (const { id, source } of jobs)
        if (existsSync(folder.in(`${id}.qcow2`)))
          await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder.in(`${id}.qcow2`));
    }
    const { status, said } = await run(list, "--workers", "2");
    expect(status).toBe(0);
    for (const { id, source } of [...jobs, ...small]) {
      expect(await checkFaults(folder.in(`${id}.qcow2`), "refused")).toBeUndefined();
      await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder.in(`${id}.qcow2`));
    }
    const moved = said.jobs.reduce((sum, { bytes }) => sum + bytes, 0);
    const data = (40 + 44 + 48 + 1 + 2 + 3 + 4) * MiB;
    expect(moved).toBeGreaterThanOrEqual(data);
    expect(moved).toBeLessThanOrEqual(1.1 * data);
    expect(folder.leftovers()).toEqual([]);
  });

  it("makes once more what has gone since it was done", async () => {
    const list = folder.list([
      toQcow2("a", folder.image("a.raw", 1)),
      toQcow2("b", folder.image("b.raw", 1)),
    ]);
    expect((await run(list)).status).toBe(0);
    const { mtimeMs } = statSync(folder.in("b.qcow2"));
    rmSync(folder.in("a.qcow2"));
    const { said } = await run(list);
    expect(said).toMatchObject({ done: 2, failed: 0 });
    await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", folder.in("a.raw"), folder.in("a.qcow2"));
    expect(statSync(folder.in("b.qcow2")).mtimeMs).toBe(mtimeMs);
  });

  it("goes on in a source that has changed from its beginning", async () => {
    const source = folder.image("a.raw", 32);
    const list = folder.list([toQcow2("a", source, { options: { speedBytesPerSecond: 20 * MiB } })]);
    const child = folder.start("run", list);
    await until("a copy in its middle", () => folder.position("a.qcow2") > 4 * MiB);
    await killed(child);
    const changed = readFileSync(source);
    changed.fill(7, 0, MiB);
    writeFileSync(source, changed);
    expect((await run(list)).status).toBe(0);
    await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder.in("a.qcow2"));
  });
});

describe("refuses, with status 2", () => {
  it.each([
    ["{}", "no array"],
    ["[", "no JSON"],
    ['[{"id":"a"}]', "'kind' must be one of"],
    ['[{"id":"a","kind":"convert","source":"x"}]', "'target' must name an image"],
    [
      '[{"id":"a","kind":"verify","source":"x"},{"id":"a","kind":"verify","source":"y"}]',
      "two jobs have the id 'a'",
    ],
    ['[{"id":"a","kind":"convert","source":"x","target":"x"}]', "are the same"],
    ['[{"id":"a","kind":"convert","source":"x","target":"./x"}]', "are the same"],
    [
      '[{"id":"a","kind":"convert","source":"x","target":"y"},{"id":"b","kind":"convert","source":"x","target":"./y"}]',
      "is another job's ('a')",
    ],
    ['[{"id":"a","kind":"verify","source":"x","options":{"format":"raw"}}]', "there is no option 'format'"],
    [
      '[{"id":"a","kind":"verify","source":"x","options":{"speedBytesPerSecond":1}}]',
      "verify has no option 'speedBytesPerSecond'",
    ],
    [
      '[{"id":"a","kind":"convert","source":"x","target":"y","options":{"create":{"size":1}}}]',
      "option 'create' has no 'size'",
    ],
    ['[{"id":"a","kind":"convert","source":"x","target":"file:x"}]', "are the same"],
    [
      '[{"id":"a","kind":"convert","source":"x","target":"y"},{"id":"b","kind":"mirror","source":"x","target":"file:y"}]',
      "is another job's ('a')",
    ],
    [
      '[{"id":"a","kind":"convert","source":"x","target":"y"},{"id":"b","kind":"backup","source":"./y","target":"x"}]',
      "is copied, by way of other jobs, to its source",
    ],
    [
      '[{"id":"c","kind":"convert","source":"y","target":"z"},{"id":"a","kind":"convert","source":"s3://b/k?region=x","target":"y"},{"id":"b","kind":"mirror","source":"z","target":"s3://b/k"}]',
      "job 'c': its target",
    ],
    [
      '[{"id":"a","kind":"convert","source":"x","target":"s3://b/k"},{"id":"b","kind":"convert","source":"x","target":"s3://b/k?form=chunks"}]',
      "is another job's ('a')",
    ],
    [
      '[{"id":"a","kind":"verify","source":"https://me:geheim@h/x"}]',
      "'source' holds a user's name or password",
    ],
    [
      '[{"id":"a","kind":"convert","source":"x","target":"nbd://me:geheim@h"}]',
      "'target' holds a user's name",
    ],
    [
      String.raw`[{"id":"a","kind":"verify","source":"json:{\"url\":\"https://me:geheim@h/x\"}"}]`,
      "'source' holds a user's name",
    ],
  ])("the list %s", async (text, words) => {
    writeFileSync(folder.in("jobs.json"), text);
    const { status, stderr, stdout } = await folder.fleet("run", folder.in("jobs.json"));
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(words);
    expect(stderr).not.toContain("geheim");
  });

  it.each([
    [["run", "none.json"], "none.json': No such file or directory"],
    [["run", "jobs.json", "--workers", "0"], "--workers"],
    [["run", "jobs.json", "--limit", "disk=1"], "--limit"],
    [["run", "jobs.json", "--journal", "/proc/none"], "'/proc/none': No such file or directory"],
    [["run", "jobs.json", "--journal", "/dev/null/none"], "'/dev/null/none': Not a directory"],
    [["status", "--queue", "http://x"], "no queues of 'http:'"],
    [["retry", "--queue", "redis://localhost"], "--failed"],
    [["status", "--queue", "redis://localhost/first"], "'first' is no number of a database"],
    [["status", "--queue", "unix:///none?db=x"], "'x' is no number of a database"],
    [["status", "--queue", "redis://localhost?que=x"], "there is no option 'que'"],
    [["status", "--queue", "redis://somebody:geheim@localhost:1"], "the queue: connect ECONNREFUSED"],
    [["status", "--queue", "postgres://somebody:geheim@localhost:1/x"], "the queue: "],
  ])("%j", async (words, said) => {
    folder.list([]);
    const { status, stderr } = await folder.fleet(
      ...words.map((word) => word.replace(/^\w+\.json$/, folder.in(word))),
    );
    expect({ status, stderr }).toMatchObject({ status: 2 });
    expect(stderr.toLowerCase()).toContain(said.toLowerCase());
    expect(stderr).not.toContain("geheim");
  });
});
