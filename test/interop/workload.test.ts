// The verb workload as scripts use it: exit statuses, a stdout that always parses, files as disks, fio's examples and fio's own reader.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { ResultDocument } from "../../src/workload.ts";
import { parseWorkload, runWorkload } from "../../src/workload.ts";
import { runVerb } from "../support/verb-client.ts";

const EXAMPLES = "/usr/share/doc/fio/examples";
const folder = mkdtempSync(join(tmpdir(), "blockwright-workload-"));
afterAll(() => rmSync(folder, { recursive: true }));

function workload(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return runVerb(["workload", ...words], { cwd: folder });
}

/** Runs, and reads the document: nothing else may stand on stdout. */
function run(...words: string[]): { status: number | null; document: ResultDocument } {
  const { status, stdout } = workload("run", ...words);
  return { status, document: JSON.parse(stdout) as ResultDocument };
}

const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return name;
};

const json = file(
  "load.json",
  JSON.stringify({
    size: "1M",
    workers: [{ mix: { read: 1, write: 1 }, locality: "random", requests: 200, depth: 4 }],
  }),
);
const fio = file("load.fio", "[global]\nthread\n[job]\nrw=randwrite\nbs=4k\nsize=1m\nio_size=400k\n");

describe("run", () => {
  it("prints one document, the same again, by seed, clock and device", () => {
    for (const workloadFile of [json, fio]) {
      const one = run(workloadFile, "--clock", "virtual", "--device", "ssd", "--seed", "5");
      expect(one).toMatchObject({
        status: 0,
        document: { seed: 5, clock: "virtual", device: "ssd", status: "done" },
      });
      expect(run(workloadFile, "--device", "ssd", "--seed", "5")).toEqual(one);
      const real = run(workloadFile, "--seed", "5");
      expect(real.document).toMatchObject({ clock: "real", device: null, digest: one.document.digest });
      expect(run(workloadFile, "--seed", "6").document.digest.requests).not.toBe(
        one.document.digest.requests,
      );
    }
  });

  it("writes to a file that it makes, and not to one that holds data", () => {
    const words = [fio, "--target", "made.img"];
    const first = run(...words);
    expect(first).toMatchObject({ status: 0, document: { target: { driver: "raw", length: 2 ** 20 } } });
    const before = readFileSync(join(folder, "made.img"));
    const refused = run(...words);
    expect(refused).toMatchObject({ status: 2, document: { status: "failed", errors: [{ code: "INPUT" }] } });
    expect(readFileSync(join(folder, "made.img")).equals(before)).toBe(true);
    expect(run(...words, "--seed", "2", "--overwrite").status).toBe(0);
    expect(readFileSync(join(folder, "made.img")).equals(before)).toBe(false);
  });

  it("makes a file for our own workloads, too, and none where it only reads or is not understood", () => {
    expect(run(json, "--target", "ours.img")).toMatchObject({ status: 0, document: { status: "done" } });
    expect(statSync(join(folder, "ours.img")).size).toBe(2 ** 20);
    const reads = file("reads.json", '{"size":"1M","workers":[{"requests":5}]}');
    expect(run(reads, "--target", "typo.img").status).toBe(1);
    expect(run(json, "--target", "never.img", "--output", "xml").status).toBe(2);
    for (const name of ["typo.img", "never.img"]) expect(existsSync(join(folder, name))).toBe(false);
    const image = run(json, "--target", "ours.qcow2");
    expect(image).toMatchObject({ status: 2, document: { errors: [{ code: "INPUT" }] } });
    expect(existsSync(join(folder, "ours.qcow2"))).toBe(false);
  });

  it("refuses a block device, and one that is mounted always", () => {
    const refusal = (target: string, ...words: string[]): unknown => {
      const { status, document } = run(json, "--target", target, ...words);
      return { status, message: document.errors[0]?.message, code: document.errors[0]?.code };
    };
    // No driver is behind that number: whoever opens it gets ENXIO.
    const made = spawnSync("mknod", ["device", "b", "7", "4095"], { cwd: folder });
    if (made.status === 0) {
      for (const target of ["device", '{"driver":"host_device","filename":"device"}'])
        expect(refusal(target)).toEqual({
          status: 2,
          code: "INPUT",
          message: "'device' is a block device: a run that writes needs --overwrite",
        });
      expect(refusal("device", "--overwrite")).not.toMatchObject({
        message: expect.stringContaining("needs --overwrite") as unknown,
      });
    }
    const mounted = readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .map((line) => line.split(" - ")[1]?.split(" ")[1] ?? "")
      .find((source) => source.startsWith("/dev/") && existsSync(source));
    if (mounted !== undefined)
      expect(refusal(mounted, "--overwrite")).toEqual({
        status: 2,
        code: "INPUT",
        message: `'${mounted}' is mounted: a run that writes to it is refused`,
      });
  });

  it("has the same disk in a qcow2 image as in memory", () => {
    runVerb(["create", "-q", "-f", "qcow2", "disk.qcow2", "1M"], { cwd: folder });
    const image = run(json, "--target", "disk.qcow2");
    expect(image.document.target).toMatchObject({ driver: "qcow2", chain: ["file"] });
    expect(image.document.digest).toEqual(run(json).document.digest);
    expect(spawnSync("qemu-img", ["check", "-q", "disk.qcow2"], { cwd: folder }).status).toBe(0);
  });

  it("takes the description of a node, and a model in a file", () => {
    file("model.json", JSON.stringify({ name: "mine", latency: { read: "1ms", write: "2ms" } }));
    const { document } = run(
      json,
      "--target",
      '{"driver":"raw","file":{"driver":"memory"}}',
      "--device",
      "model.json",
    );
    expect(document).toMatchObject({
      status: "done",
      device: "mine",
      deviceModel: { latency: { write: "2ms" } },
    });
    expect(document.totals.read?.service.minNs).toBeGreaterThanOrEqual(1e6);
  });

  it("ends by requests and time of the command line", () => {
    expect(run(json, "--requests", "7").document.workers[0]?.requests).toBe(7);
    const timed = run(json, "--runtime", "3ms", "--device", "http").document;
    expect(timed.elapsedNs).toBeLessThan(200e6);
  });

  it("tells the other forms", () => {
    expect(workload("run", json, "--output", "csv").stdout).toMatch(/^workload,seed,clock,.*\nload,1,real,/);
    expect(workload("run", json, "--output", "openmetrics").stdout).toMatch(/# EOF\n$/);
    const html = workload("run", json, "--output", "html", "-o", "out.html");
    expect(html).toMatchObject({ status: 0, stdout: "" });
    expect(statSync(join(folder, "out.html")).size).toBeLessThan(300 * 1024);
  });

  it("says of a member that has several forms what is wrong with the nearest", () => {
    const { document } = run(file("zipf.json", '{"workers":[{"locality":{"zipf":-1}}]}'));
    expect(document.errors).toMatchObject([{ message: "workers[0].locality.zipf: must be above 0" }]);
  });

  it("names what is not known in a model", () => {
    file("typo-model.json", '{"latency":{"read":"1ms"},"chanels":8}');
    const { document } = run(json, "--device", "typo-model.json");
    expect(document.ignored).toMatchObject([{ name: "chanels", where: "device, top level" }]);
  });

  it("names the devices that are declared to whom misspells one", () => {
    const { status, stderr } = workload("run", json, "--device", "floppy");
    expect(stderr).toContain("--device: 'floppy' is neither a file nor one of ssd, disk, cloud, http");
    expect(status).toBe(2);
  });

  it.each([
    [["missing.json"], 2],
    [[], 2],
    [["load.json", "--nonsense"], 2],
    [["load.json", "--seed", "many"], 2],
    [["load.json", "--clock", "sun"], 2],
    [["load.json", "--device", "missing-model.json"], 2],
    [["load.json", "--target", '{"driver":'], 2],
    [["load.json", "--output", "xml"], 2],
    [["load.json", "--seed"], 2],
    [["load.json", "--record", "no/such/folder/x.log"], 2],
    [["broken.json"], 2],
    [["load.json", "--target", '{"driver":"there-is-none"}'], 1],
    [
      [
        "load.json",
        "--target",
        '{"driver":"blkdebug","image":{"driver":"memory"},"inject-error":[{"event":"none"}]}',
      ],
      1,
    ],
  ] as const)("%j fails with a document that parses", (words, status) => {
    file("broken.json", '{"workers":[{"depth":-1}]}');
    const failed = run(...words);
    expect(failed.status).toBe(status);
    expect(failed.document.status).toBe("failed");
    expect(failed.document.errors.length).toBeGreaterThan(0);
    expect(failed.document.digest).toBeDefined();
  });
});

it("a document that can't be written goes to stdout", () => {
  const { status, stdout } = workload("run", json, "-o", "no/such/folder/out.json");
  expect(status).toBe(1);
  expect((JSON.parse(stdout) as ResultDocument).status).toBe("done");
});

it("jobs over images: a stream, a commit and a mirror into a file, which holds no data", () => {
  const image = (...words: string[]): unknown =>
    JSON.parse(runVerb(["info", "--output=json", ...words], { cwd: folder }).stdout);
  const job = (name: string, type: string, target?: string): string =>
    file(
      `${name}.json`,
      JSON.stringify({ workers: [{ name: "job", job: { type, ...(target ? { target } : {}) } }] }),
    );
  runVerb(["create", "-q", "-f", "qcow2", "base.qcow2", "1M"], { cwd: folder });
  expect(run(json, "--target", "base.qcow2").status).toBe(0);
  runVerb(["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"], { cwd: folder });
  // The backing file is looked for while virtual time stands still.
  const virtual = run(json, "--target", "top.qcow2", "--device", "ssd", "--overwrite");
  expect(virtual).toMatchObject({ status: 0, document: { clock: "virtual", errors: [] } });
  const before = run(job("commit", "commit"), "--target", "top.qcow2");
  expect(before).toMatchObject({ status: 0, document: { workers: [{ job: { status: "completed" } }] } });
  const words = [job("mirror", "mirror", "copy.img"), "--target", "base.qcow2"];
  expect(run(...words)).toMatchObject({ status: 0, document: { errors: [] } });
  expect(spawnSync("qemu-img", ["compare", "base.qcow2", "copy.img"], { cwd: folder }).status).toBe(0);
  const refused = run(...words);
  expect(refused).toMatchObject({ status: 2, document: { errors: [{ code: "INPUT" }] } });
  expect(refused.document.errors[0]!.message).toContain("'copy.img' holds data");
  expect(run(job("stream", "stream"), "--target", "top.qcow2").status).toBe(0);
  expect(image("top.qcow2")).not.toHaveProperty("backing-filename");
});

it("verify compares, record writes fio's iolog, replay sends it again", () => {
  const verified = JSON.parse(workload("verify", json, "--device", "ssd").stdout) as ResultDocument;
  expect(verified).toMatchObject({ status: "done", verified: { corrupt: 0 } });
  expect(verified.verified!.sectorsRead).toBeGreaterThan(100);
  expect(workload("record", json, "--device", "ssd", "-o", "trace.log")).toMatchObject({
    status: 0,
    stdout: "",
  });
  expect(readFileSync(join(folder, "trace.log"), "utf8")).toMatch(/^fio version 3 iolog\n/);
  const { stdout } = workload("replay", "trace.log", "--device", "ssd", "--size", "1M");
  const replayed = JSON.parse(stdout) as ResultDocument;
  expect(replayed.digest.requests).toBe(verified.digest.requests);
  for (const [words, message] of [
    [["replay", json], "it is no recording: 'workload run' takes workloads"],
    [["run", json, "--speed", "2"], "--speed has no effect: the workload is no recording"],
  ] as const) {
    const refused = workload(...words);
    const { errors } = JSON.parse(refused.stdout) as ResultDocument;
    expect([refused.status, errors]).toEqual([2, [{ message, code: "INPUT" }]]);
  }
});

it("check names what is ignored, one a line", () => {
  expect(workload("check", fio)).toEqual({
    status: 0,
    stdout: "thread: ignored (not supported; line 2, [global])\n",
    stderr: "",
  });
  expect(workload("check", json)).toMatchObject({ status: 0, stdout: "" });
  file("bad.fio", "bs=4k\n");
  expect(workload("check", "bad.fio")).toMatchObject({ status: 2, stdout: "" });
  expect(workload("check", "missing.fio").status).toBe(2);
});

describe("gate", () => {
  it("0 no worse, 1 worse, 2 bad input, 3 no verdict", () => {
    for (const [name, ...words] of [
      ["base.json", "--device", "ssd"],
      ["same.json", "--device", "ssd"],
      ["slow.json", "--device", "cloud"],
      ["real.json", "--clock", "real"],
    ] as const)
      workload("run", json, ...words, "-o", name);
    file("none.json", "{}");
    const status = (base: string, now: string): number | null => workload("gate", base, now).status;
    expect(status("base.json", "same.json")).toBe(0);
    expect(status("base.json", "slow.json")).toBe(1);
    expect(status("slow.json", "base.json")).toBe(0);
    expect(status("base.json", "real.json")).toBe(3);
    expect(status("real.json", "real.json")).toBe(3);
    expect(status("base.json", "none.json")).toBe(2);
    expect(status("base.json", "missing.json")).toBe(2);
    expect(workload("gate", "base.json").status).toBe(2);
    expect(workload("compare", "base.json", "same.json").stdout).toContain("requests: same");
    expect(workload("report", "base.json", "slow.json").stdout).toContain("B against A");
    const half = JSON.parse(readFileSync(join(folder, "base.json"), "utf8")) as ResultDocument;
    file("half.json", JSON.stringify({ ...half, totals: { read: {} } }));
    expect(status("base.json", "half.json")).toBe(2);
    file("odd.json", JSON.stringify({ ...half, timeline: {} }));
    expect(workload("report", "odd.json")).toMatchObject({ status: 2, stdout: "" });
  });

  it("--repeat gives the wall clock an interval, --vs compares with a program", () => {
    const repeated = run(json, "--repeat", "5").document;
    expect(repeated.samplesNs).toHaveLength(5);
    const { versus } = run(json, "--vs", "true", "--repeat", "3").document;
    expect(versus).toMatchObject({ command: "true", interval: { pairs: 3 } });
  });
});

it.each([
  ["verify", "--repeat", "0"],
  ["verify", "--vs", "true"],
  ["run", "--record", "log", "--repeat", "2"],
  ["record", "--output", "csv"],
  ["check", "--seed", "7"],
  ["gate", "--target", "memory:1M"],
  ["compare", "--tolerance", "1"],
  ["report", "--no-disk-digest"],
  ["schema", "-o", "schema.json"],
])("%s %s: what would have no effect is refused", (action, ...words) => {
  const { status, stdout, stderr } = workload(action, json, ...words);
  expect(status).toBe(2);
  const what = words.at(-2) === "--repeat" ? "--repeat" : words[0];
  expect(stderr).toContain(`${what} has no effect with`);
  if (["run", "verify"].includes(action)) {
    const { errors } = JSON.parse(stdout) as ResultDocument;
    expect(errors).toMatchObject([{ code: "INPUT" }]);
  }
});

it("the schema is the one that is shipped", () => {
  const { stdout } = workload("schema");
  expect(JSON.parse(stdout)).toEqual(
    JSON.parse(readFileSync(new URL("../../build/workload.schema.json", import.meta.url), "utf8")),
  );
});

describe.runIf(existsSync(EXAMPLES))("fio", () => {
  const examples = existsSync(EXAMPLES) ? readdirSync(EXAMPLES).filter((name) => name.endsWith(".fio")) : [];

  it("all examples of fio parse, and sixty and more run", async () => {
    let ran = 0;
    for (const name of examples) {
      const plan = await parseWorkload(readFileSync(join(EXAMPLES, name), "utf8"), { name });
      const workers = plan.workers.map((worker) => ({ ...worker, until: { ...worker.until, requests: 3 } }));
      const result = await runWorkload({ ...plan, workers }, { target: "memory:64M" });
      if (result.status === "done") ran += 1;
      else expect(result.errors[0]?.message, name).toContain("no worker that does any I/O");
    }
    expect(examples.length).toBeGreaterThan(80);
    expect(ran).toBeGreaterThanOrEqual(60);
  });

  it("fio's own reader takes our json+", () => {
    workload("run", json, "--output", "json+", "--device", "ssd", "-o", "plus.json");
    const read = (...words: string[]): string =>
      spawnSync("fio_jsonplus_clat2csv", ["plus.json", "plus.csv", ...words], {
        cwd: folder,
        encoding: "utf8",
      }).stdout;
    expect(read()).toContain("plus_job0.csv generated");
    expect(read("--validate")).toContain("plus_job0.csv validated");
    expect(readFileSync(join(folder, "plus_job0.csv"), "utf8").split("\n").length).toBeGreaterThan(10);
  });
});
