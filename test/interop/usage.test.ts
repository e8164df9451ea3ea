// Wrong command lines, in the words of qemu-img with where to read on; what was meant, where that is near; and images on web
// servers, by their names and as backing files that the gate allows.
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { program, runVerb } from "../support/verb-client.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-usage-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function qemuImg(...words: string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync("qemu-img", words, { cwd: directory, encoding: "utf8" });
  return { status, stderr };
}

beforeAll(() => {
  expect(qemuImg("create", "-f", "qcow2", "x.qcow2", "4M").status).toBe(0);
});

it.each([
  ["info"],
  ["info a b"],
  ["create"],
  ["compare a"],
  ["resize a"],
  ["check"],
  ["check -r foo x.qcow2"],
  ["snapshot -a b -c d x.qcow2"],
  ["snapshot -l"],
  ["map"],
  ["rebase"],
  ["rebase x.qcow2"],
  ["amend x.qcow2"],
  ["amend -o compat=1.1"],
  ["bench"],
  ["bitmap x"],
  ["commit"],
  ["convert"],
  ["measure"],
])("%s is refused as qemu-img refuses it, with where to read on", (line) => {
  const real = qemuImg(...line.split(" "));
  const { status, stderr } = runVerb(line.split(" "), { cwd: directory });
  expect({ status, stderr }).toEqual({
    status: real.status,
    stderr: real.stderr.replaceAll("qemu-img", "blockwright"),
  });
});

it.each([
  ["conver", "Command not found: conver (did you mean 'convert'?)"],
  ["snapshots", "Command not found: snapshots (did you mean 'snapshot'?)"],
  ["version", "Command not found: version (did you mean '--version'?)"],
  ["-v", "unrecognized option '-v' (did you mean '--version'?)"],
  ["info --forma raw x.qcow2", "unrecognized option '--forma' (did you mean '--format'?)"],
  ["ocnvert", "Command not found: ocnvert (did you mean 'convert'?)"],
  ["xyzzy", "Command not found: xyzzy"],
  [
    "fleet sttaus",
    "unknown action 'sttaus': there are run, submit, worker, status, cancel, drain, retry (did you mean 'status'?)",
    2,
  ],
  ["fleet status --jbos", "unrecognized option '--jbos' (did you mean '--jobs'?)", 2],
  ["fleet", "missing required argument 'action'", 2],
  ["backup lsit --repo kept", "backup has no action 'lsit' (did you mean 'list'?)"],
  ["backup create --nmae x", "unrecognized option '--nmae' (did you mean '--name'?)"],
  ["backup frob there --repo kept", "unrecognized option '--repo'"],
])("%s says what was meant, if anything is near", (line, text, code = 1) => {
  const { status, stderr } = runVerb(line.split(" "), { cwd: directory });
  expect(stderr).toBe(`blockwright: ${text}\nTry 'blockwright --help' for more information\n`);
  expect(status).toBe(code);
});

it("says nothing of that as qemu-img, whose words they are not", () => {
  const { stderr } = runVerb(["--run-as=qemu-img", "conver"], { cwd: directory });
  expect(stderr).toBe(qemuImg("conver").stderr);
});

it.each([
  ["convert", "Usage: blockwright convert [options] <source...> <target>"],
  ["bitmap", "Usage: blockwright bitmap [options] <file> <bitmap>"],
  ["resize", "Usage: blockwright resize [options] <file> [+|-]<size>"],
])("%s --help names what it takes, and shows a line to begin with", (verb, usage) => {
  const { stdout } = runVerb([verb, "--help"], { cwd: directory });
  expect(stdout.split("\n")[0]).toBe(usage);
  expect(stdout).toMatch(new RegExp(`\nExamples:\n {2}blockwright ${verb} `));
});

describe("an image on a web server", () => {
  const server = createServer((request, response) => {
    const bytes = readFileSync(join(directory, "x.qcow2"));
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const [start, end] = range
      ? [Number(range[1]), range[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length]
      : [0, bytes.length];
    response.writeHead(range ? 206 : 200, {
      "accept-ranges": "bytes",
      etag: '"one"',
      "content-length": end - start,
      ...(range ? { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` } : {}),
    });
    response.end(request.method === "HEAD" ? undefined : bytes.subarray(start, end));
  });
  let origin = "";

  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  /** In a process of its own, while this one serves. */
  async function run(...words: string[]): Promise<{ stdout: string; stderr: string }> {
    try {
      return await promisify(execFile)(process.execPath, [program, ...words], { cwd: directory });
    } catch (error) {
      return error as { stdout: string; stderr: string };
    }
  }

  it("goes by its URL, which info shows", async () => {
    const url = `${origin}/disk.qcow2`;
    const { stdout } = await run("info", "--output=json", url);
    expect(JSON.parse(stdout)).toMatchObject({ filename: url, format: "qcow2", "virtual-size": 4 * 2 ** 20 });
    expect((await run("info", url)).stdout).toMatch(`image: ${url}\nfile format: qcow2\n`);
    expect((await run("check", url)).stdout).toContain("No errors were found");
    expect((await run("compare", url, "x.qcow2")).stdout).toBe("Images are identical.\n");
  });

  it("is a backing file where the gate names its server, and else is none", async () => {
    const words = ["-f", "qcow2", "-b", `${origin}/disk.qcow2`, "-F", "qcow2", "top.qcow2"];
    expect((await run("create", ...words)).stderr).toBe("");
    expect((await run("compare", "top.qcow2", "x.qcow2")).stderr).toContain("refused");
    const other = `local,https://images.example.org`;
    expect((await run("compare", "--gate", other, "top.qcow2", "x.qcow2")).stderr).toContain(
      "is not allowed",
    );
    for (const gate of [origin, `deny,${origin}`, `all,https://images.example.org,${origin}/`])
      expect(await run("compare", "--gate", gate, "top.qcow2", "x.qcow2")).toMatchObject({
        stdout: "Images are identical.\n",
      });
    const chain = await run("info", "--backing-chain", "--output=json", "--gate", origin, "top.qcow2");
    expect(JSON.parse(chain.stdout)).toMatchObject([
      { format: "qcow2" },
      { filename: `${origin}/disk.qcow2` },
    ]);
  });

  it.each([
    "lokal",
    "local,",
    "ftp://example.org",
    "local,https://example.org/folder",
    "https://me@example.org",
  ])("--gate %s is refused", async (gate) => {
    const { stderr } = await run("info", "--gate", gate, "x.qcow2");
    expect(stderr).toContain("Allowed choices are deny, same-dir, local, all");
  });
});
