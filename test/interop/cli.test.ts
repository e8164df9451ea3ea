// The program as a user runs it: the built command line in a temporary directory, its results judged by qemu-img.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const program = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));
const hasScript = spawnSync("script", ["--version"]).error === undefined;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-cli-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const environment = { ...process.env, NO_COLOR: "1", CI: "" };

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

function blockwright(...args: string[]): Result {
  const result = spawnSync(process.execPath, [program, ...args], {
    cwd: directory,
    encoding: "utf8",
    env: environment,
    input: "",
  });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** A run that can be signalled while it goes on. */
class Running {
  stdout = "";
  stderr = "";
  readonly child: ChildProcess;
  readonly #closed: Promise<number | null>;

  constructor(...args: string[]) {
    const child = spawn(process.execPath, [program, ...args], {
      cwd: directory,
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.#closed = new Promise((resolve) => child.once("close", resolve));
    this.child = child;
  }

  /** Waits until the condition holds; fails when the program ends before. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.child.exitCode !== null) throw new Error(`ended early: ${this.stdout}${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async ended(): Promise<Result> {
    return { status: await this.#closed, stdout: this.stdout, stderr: this.stderr };
  }
}

function qemuImg(...args: string[]): string {
  return execFileSync("qemu-img", args, { cwd: directory, encoding: "utf8" });
}

function qemuIo(image: string, ...commands: string[]): void {
  execFileSync("qemu-io", [...commands.flatMap((command) => ["-c", command]), image], { cwd: directory });
}

/** base.qcow2 ← top.qcow2, 32 MiB. */
function makeChain(): void {
  qemuImg("create", "-q", "-f", "qcow2", "base.qcow2", "32M");
  qemuIo("base.qcow2", "write -q -P 7 1M 6M", "write -q -P 8 20M 100k");
  qemuImg("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2");
  qemuIo("top.qcow2", "write -q -P 9 3M 1M", "write -q -z 5M 1M");
}

function expectSame(a: string, b: string): void {
  expect(qemuImg("compare", a, b)).toBe("Images are identical.\n");
}

function expectClean(image: string): void {
  expect(qemuImg("check", image)).toContain("No errors were found on the image.");
}

/** An existing or future image below a blkdebug that fails one write, once. */
function faulty(format: string, filename: string, errno: number): string {
  const rule = { event: "none", iotype: "write", errno, sector: (3 * 1024 * 1024) / 512, once: true };
  const image = { driver: format, file: { driver: "file", filename } };
  return `json:${JSON.stringify({ driver: "blkdebug", image, "inject-error": [rule] })}`;
}

interface Line {
  event?: string;
  data?: Record<string, unknown>;
  progress?: { offset: number; length: number; status: string };
  result?: object;
  error?: { desc: string };
}

function jsonLines(text: string): Line[] {
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

describe("info", () => {
  it("says what qemu-img says, as text and as JSON", () => {
    makeChain();
    writeFileSync(join(directory, "plain.raw"), new Uint8Array(70_000));
    for (const image of ["top.qcow2", "base.qcow2", "plain.raw"]) {
      const ours = blockwright("info", image);
      const lines = (text: string): string[] => text.trim().split("\n").toSorted();
      expect([ours.status, lines(ours.stdout)]).toEqual([0, lines(qemuImg("info", image))]);
      const json = blockwright("info", "--output", "json", image);
      expect(JSON.parse(json.stdout)).toEqual(JSON.parse(qemuImg("info", "--output=json", image)));
    }
  });

  it("shows the backing chain, if the gate lets it", () => {
    makeChain();
    const json = blockwright("info", "--backing-chain", "--output", "json", "top.qcow2");
    expect(JSON.parse(json.stdout)).toEqual(
      JSON.parse(qemuImg("info", "--backing-chain", "--output=json", "top.qcow2")),
    );
    const denied = blockwright("info", "--backing-chain", "--gate", "deny", "top.qcow2");
    expect(denied.status).toBe(1);
    expect(denied.stderr).toContain("'base.qcow2' was not opened: no gate allows it");
    expect(blockwright("info", "--gate", "deny", "top.qcow2").status).toBe(0);
  });

  it("fails in QEMU's words", () => {
    expect(blockwright("info", "none.raw")).toMatchObject({
      status: 1,
      stderr:
        "blockwright: Could not open 'none.raw': Could not open 'none.raw': No such file or directory\n",
    });
    writeFileSync(join(directory, "plain.raw"), new Uint8Array(70_000));
    expect(blockwright("info", "-f", "qcow2", "plain.raw")).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("Image is not in qcow2 format") as string,
    });
  });
});

describe("jobs in the foreground", () => {
  it.each([
    ["mirror", ["-O", "raw"], "raw"],
    ["mirror", ["-O", "qcow2"], "qcow2"],
    ["mirror", ["-O", "qcow2", "--sync", "top", "-F", "qcow2"], "qcow2"],
    ["backup", ["-O", "raw"], "raw"],
    ["backup", ["-O", "qcow2"], "qcow2"],
    ["backup", ["-O", "qcow2", "--compress"], "qcow2"],
  ])("%s %s makes an equal copy", (verb, flags, format) => {
    makeChain();
    const before = readFileSync(join(directory, "top.qcow2"));
    expect(blockwright(verb, "top.qcow2", "copy", ...flags)).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(qemuImg("info", "--output=json", "copy"))).toMatchObject({ format });
    expectSame("top.qcow2", "copy");
    if (format === "qcow2") expectClean("copy");
    expect(readFileSync(join(directory, "top.qcow2")).equals(before)).toBe(true);
  });

  it("stream makes an image independent", () => {
    makeChain();
    qemuImg("convert", "-O", "raw", "top.qcow2", "before.raw");
    expect(blockwright("stream", "top.qcow2")).toMatchObject({ status: 0, stderr: "" });
    rmSync(join(directory, "base.qcow2"));
    expectSame("before.raw", "top.qcow2");
    expectClean("top.qcow2");
  });

  it("commit brings an image into its backing file, or one between into the one below", () => {
    makeChain();
    qemuImg("create", "-q", "-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2", "active.qcow2");
    qemuIo("active.qcow2", "write -q -P 3 30M 64k");
    qemuImg("convert", "-O", "raw", "active.qcow2", "before.raw");
    const between = blockwright("commit", "active.qcow2", "--top", "top.qcow2", "--base", "base.qcow2");
    expect(between).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(qemuImg("info", "--output=json", "active.qcow2"))).toMatchObject({
      "backing-filename": "base.qcow2",
    });
    expectSame("before.raw", "active.qcow2");
    expect(blockwright("commit", "active.qcow2")).toMatchObject({ status: 0, stderr: "" });
    expectSame("before.raw", "base.qcow2");
    expectClean("base.qcow2");
    expectSame("before.raw", "active.qcow2");
    const lines = jsonLines(blockwright("commit", "--json", "-d", "active.qcow2").stdout);
    expect(lines.flatMap(({ event }) => event ?? [])).toContain("BLOCK_JOB_COMPLETED");
  });

  it("speak JSON lines", () => {
    makeChain();
    const { status, stdout, stderr } = blockwright("mirror", "--json", "top.qcow2", "copy");
    expect([status, stderr]).toEqual([0, ""]);
    const lines = jsonLines(stdout);
    const events = lines.flatMap(({ event }) => event ?? []);
    expect(events).toContain("BLOCK_JOB_READY");
    expect(events).toContain("BLOCK_JOB_COMPLETED");
    expect(lines.findLast(({ progress }) => progress)?.progress).toMatchObject({
      offset: expect.any(Number) as number,
      length: expect.any(Number) as number,
    });
    expect(lines.at(-1)?.result).toBeDefined();
  });

  it("warn about a raw format that was guessed", () => {
    writeFileSync(join(directory, "plain.raw"), new Uint8Array(70_144).fill(5));
    const guessed = blockwright("mirror", "plain.raw", "one.raw");
    expect(guessed.status).toBe(0);
    expect(guessed.stderr).toContain(
      "Image format was not specified for 'plain.raw' and probing guessed raw.",
    );
    expect(blockwright("mirror", "-f", "raw", "plain.raw", "two.raw")).toMatchObject({
      status: 0,
      stderr: "",
    });
    expectSame("plain.raw", "two.raw");
  });

  it("show progress when told to", () => {
    makeChain();
    const { stderr } = blockwright("backup", "-p", "top.qcow2", "copy");
    expect(stderr).toMatch(/backup 100\.0% {2}32 MiB of 32 MiB/);
  });
});

describe("targets", () => {
  it("are not written over, unless --force says so", () => {
    makeChain();
    writeFileSync(join(directory, "precious"), "precious");
    const refused = blockwright("mirror", "top.qcow2", "precious");
    expect(refused).toMatchObject({
      status: 1,
      stderr: "blockwright: 'precious' exists; --force writes over it\n",
    });
    expect(readFileSync(join(directory, "precious"), "utf8")).toBe("precious");
    expect(blockwright("mirror", "--force", "top.qcow2", "precious").status).toBe(0);
    expectSame("top.qcow2", "precious");
  });

  it("are never the source or what lies below it", () => {
    makeChain();
    for (const target of ["top.qcow2", "base.qcow2", "./base.qcow2"]) {
      const refused = blockwright("backup", "--force", "top.qcow2", target);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain("belongs to the source");
    }
    expectClean("base.qcow2");
    expect(statSync(join(directory, "base.qcow2")).size).toBeGreaterThan(6 * 1024 * 1024);
  });

  it("that a failed job made itself are removed", () => {
    makeChain();
    const failed = blockwright("mirror", "top.qcow2", faulty("qcow2", "copy.qcow2", 5));
    expect(failed.status).toBe(1);
    expect(failed.stderr).toMatch(
      /^blockwright: mirror failed: write of .* at offset \d+ of node 'target' \(copy.qcow2\) failed: Input\/output error \(EIO\)\n$/,
    );
    expect(existsSync(join(directory, "copy.qcow2"))).toBe(false);
    const unknown = blockwright("mirror", "top.qcow2", "copy.vmdk", "-O", "vmdk");
    expect(unknown).toMatchObject({ status: 1 });
    expect(existsSync(join(directory, "copy.vmdk"))).toBe(false);
  });
});

describe("an error that stops the job", () => {
  it("is told, and the job resumed after --auto-resume seconds", () => {
    makeChain();
    const target = faulty("qcow2", "copy.qcow2", 28);
    const flags = ["--on-target-error", "enospc", "--auto-resume", "0.1"];
    const { status, stderr } = blockwright("mirror", "top.qcow2", target, ...flags);
    expect(stderr).toMatch(
      /^mirror stopped: write of .* at offset \d+ of node 'target' \(copy.qcow2\) failed: No space left on device \(ENOSPC\)\nresuming in 0.1 s\n$/,
    );
    expect(status).toBe(0);
    expectSame("top.qcow2", "copy.qcow2");
    expectClean("copy.qcow2");
  });

  it.each([
    ["backup", ["--on-target-error", "stop"]],
    ["mirror", ["--on-target-error", "stop"]],
  ])("ends %s where nobody can be asked", (verb, flags) => {
    makeChain();
    const { status, stderr } = blockwright(verb, "top.qcow2", faulty("raw", "copy.raw", 5), ...flags);
    expect(status).toBe(1);
    expect(stderr).toContain("failed: Input/output error (EIO)");
    expect(stderr).toContain("cancelled, for nobody can be asked");
    expect(existsSync(join(directory, "copy.raw"))).toBe(false);
  });

  it.skipIf(!hasScript)("asks at a terminal", () => {
    makeChain();
    const args = ["mirror", "top.qcow2", faulty("raw", "copy.raw", 5), "--on-target-error", "stop"];
    const command = [process.execPath, program, ...args].map((word) => `'${word}'`).join(" ");
    const answer = (text: string): Result => {
      rmSync(join(directory, "copy.raw"), { force: true });
      const asked = spawnSync("script", ["-qec", command, "/dev/null"], {
        cwd: directory,
        encoding: "utf8",
        env: environment,
        input: text,
      });
      return { status: asked.status, stdout: asked.stdout, stderr: asked.stderr };
    };
    const resumed = answer("what?\nr\n");
    expect(resumed.stdout).toContain("[r]esume, [c]ancel?");
    expect(resumed.status).toBe(0);
    expectSame("top.qcow2", "copy.raw");
    expect(answer("c\n").status).toBe(1);
    expect(existsSync(join(directory, "copy.raw"))).toBe(false);
  });
});

describe("signals", () => {
  const slow = ["--speed", "1M", "--json"];

  function underWay(run: Running): boolean {
    return /"progress".*"offset":[1-9]/.test(run.stdout);
  }

  it.each([
    ["SIGINT", 130],
    ["SIGHUP", 129],
  ] as const)("%s cancels cleanly", async (signal, code) => {
    makeChain();
    const run = new Running("mirror", "top.qcow2", "copy", ...slow);
    await run.until(() => underWay(run));
    run.child.kill(signal);
    const { status, stdout, stderr } = await run.ended();
    expect([status, stderr]).toEqual([code, `blockwright: cancelled by ${signal}\n`]);
    expect(jsonLines(stdout).at(-1)?.error?.desc).toBe("Operation canceled");
    expect(existsSync(join(directory, "copy"))).toBe(false);
  });

  it("SIGINT leaves a chain as it was", async () => {
    makeChain();
    qemuImg("convert", "-O", "raw", "top.qcow2", "before.raw");
    const run = new Running("stream", "top.qcow2", ...slow);
    await run.until(() => underWay(run));
    run.child.kill("SIGINT");
    expect((await run.ended()).status).toBe(130);
    expectClean("top.qcow2");
    expectSame("before.raw", "top.qcow2");
    expect(qemuImg("info", "top.qcow2")).toContain("backing file: base.qcow2");
  });

  it("a reader of JSON lines that goes away cancels too", async () => {
    makeChain();
    const run = new Running("mirror", "top.qcow2", "copy", ...slow);
    await run.until(() => underWay(run));
    run.child.stdout?.destroy();
    const { status, stderr } = await run.ended();
    expect([status, stderr]).toEqual([1, "blockwright: nobody reads stdout any more\n"]);
    expect(existsSync(join(directory, "copy"))).toBe(false);
  });

  it("SIGUSR1 is nothing to a program that has no progress to tell", async () => {
    const run = new Running("daemon", "--chardev", "stdio,id=m", "--monitor", "chardev=m");
    await run.until(() => run.stdout.includes("QMP"));
    run.child.kill("SIGUSR1");
    await new Promise((resolve) => setTimeout(resolve, 200));
    run.child.kill("SIGTERM");
    expect(await run.ended()).toMatchObject({ status: 0, stderr: "" });
  });

  it("SIGUSR1 prints a line of progress and nothing else happens", async () => {
    makeChain();
    const run = new Running("mirror", "top.qcow2", "copy", ...slow);
    await run.until(() => underWay(run));
    run.child.kill("SIGUSR1");
    await run.until(() => run.stderr.includes("\n"));
    expect(run.stderr).toMatch(/^mirror +\d+\.\d% {2}.* of .* {2}.*\/s {2}ETA .*\n$/);
    run.child.kill("SIGINT");
    expect((await run.ended()).status).toBe(130);
  });
});

describe("demo", () => {
  it("shows a full disk, the resume and an equal copy", () => {
    const { status, stderr } = blockwright("demo");
    expect([status, stderr]).toEqual([0, expect.any(String)]);
    expect(stderr).toContain('"operation":"write","action":"stop"');
    expect(stderr).toContain('"io-status":"nospace"');
    expect(stderr).toContain("No space left on device (ENOSPC)");
    expect(stderr).toContain("BLOCK_JOB_COMPLETED");
    expect(stderr).toContain("✖ failed");
    expect(stderr).toContain("Every byte is");
    expect(stderr).toContain("qemu-img compare: Images are identical.");
    expect(stderr).not.toContain("\u001B");
  });

  it("does the same with the user's images", () => {
    makeChain();
    const quiet = blockwright("demo", "top.qcow2", "copy.qcow2");
    expect([quiet.status, quiet.stderr]).toEqual([0, expect.not.stringContaining("stopped")]);
    expectSame("top.qcow2", "copy.qcow2");
    const injected = blockwright("demo", "--inject", "top.qcow2", "copy2.qcow2");
    expect([injected.status, injected.stderr]).toEqual([0, expect.stringContaining("mirror stopped")]);
    expectSame("top.qcow2", "copy2.qcow2");
    expect(blockwright("demo", "top.qcow2", "copy.qcow2").status).toBe(1);
    expect(blockwright("demo", "top.qcow2", "copy.raw").status).toBe(0);
    const { "virtual-size": size } = JSON.parse(qemuImg("info", "--output=json", "top.qcow2")) as {
      "virtual-size": number;
    };
    expect(statSync(join(directory, "copy.raw")).size).toBe(size);
    expect(blockwright("demo", "top.qcow2").status).toBe(1);
  });
});
