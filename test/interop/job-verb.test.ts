// `blockwright job` against both daemons: what it lists, how it follows a job to its end, what it steers, and what it refuses.
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { QmpClient } from "../../src/node.ts";
import { program } from "./support/twins.ts";
import { monitorClient } from "../support/monitor-client.ts";

const servers: Readonly<Record<string, readonly [string, readonly string[]]>> = {
  ours: [process.execPath, [program, "daemon"]],
  "QEMU's": ["qemu-storage-daemon", []],
};

interface Ended {
  status: number;
  stdout: string;
  stderr: string;
}

describe.each(Object.keys(servers))("with %s daemon", (name) => {
  let directory = "";
  let socket = "";
  /** Another monitor: each serves one client at a time. */
  let other = "";
  let daemon: ChildProcess;
  let gone: Promise<unknown>;
  let client: QmpClient;

  /** The verb, in a process of its own. */
  const job = (...words: string[]): Promise<Ended> =>
    new Promise((resolve) => {
      execFile(process.execPath, [program, "job", "--qmp", socket, ...words], (error, stdout, stderr) => {
        resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
      });
    });

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "bw-job-"));
    socket = join(directory, "qmp");
    other = join(directory, "qmp2");
    for (const image of ["a.raw", "b.raw"])
      writeFileSync(join(directory, image), Buffer.alloc(8 * 2 ** 20, image));
    const [command, first] = servers[name]!;
    const node = (image: string): string[] => [
      "--blockdev",
      `driver=raw,node-name=${image[0]},file.driver=file,file.filename=${join(directory, image)}`,
    ];
    const monitor = (id: string, path: string): string[] => [
      ...[
        "--chardev",
        `socket,id=${id},path=${path},server=on,wait=off`,
        "--monitor",
        `chardev=${id},id=m${id}`,
      ],
    ];
    const words = [
      ...first,
      ...node("a.raw"),
      ...node("b.raw"),
      ...monitor("c", other),
      ...monitor("d", socket),
    ];
    daemon = spawn(command, words, { stdio: "inherit" });
    gone = new Promise((resolve) => daemon.once("close", resolve));
    client = await monitorClient(socket);
    const args = { "job-id": "copy", device: "a", target: "b", sync: "full", speed: 65536 } as const;
    await client.execute("blockdev-mirror", args);
    // The monitor serves one client at a time.
    await client.close();
  });

  afterEach(async () => {
    daemon.kill("SIGKILL");
    await gone;
    rmSync(directory, { recursive: true, force: true });
  });

  it("lists, steers and follows a job to its end", async () => {
    const list = await job("list");
    expect(list).toMatchObject({ status: 0, stderr: "" });
    expect(list.stdout).toMatch(
      /^ID +TYPE +STATUS +DONE +SPEED +I\/O\ncopy +mirror +\w+ +[\d.]+% of 8 MiB +64 KiB\/s +ok\n$/,
    );
    expect(await job("pause", "copy")).toMatchObject({ status: 0, stdout: "", stderr: "" });
    const rows = await job("list", "--json");
    expect(JSON.parse(rows.stdout)).toMatchObject({
      id: "copy",
      status: "paused",
      speed: 65536,
      length: 8388608,
    });
    expect(await job("resume", "copy")).toMatchObject({ status: 0 });
    expect(await job("set-speed", "copy", "0")).toMatchObject({ status: 0 });
    let ready = "";
    while (!ready.includes('"ready"')) ready = (await job("list", "--json")).stdout;
    expect(await job("complete", "copy")).toMatchObject({ status: 0, stderr: "" });
    const ended = await job("watch", "copy", "--json");
    // It may be over before it is watched.
    if (ended.status === 1) expect(ended.stderr).toBe("blockwright: Job 'copy' not found\n");
    else expect(JSON.parse(ended.stdout.trim().split("\n").at(-1)!)).toMatchObject({ result: "completed" });
  });

  /** What is started at the other monitor and goes on; resolves when it has printed something. */
  async function onOther(
    words: string[],
    meanwhile: () => Promise<unknown>,
  ): Promise<{ lines: string[]; ended: Promise<unknown> }> {
    const child = spawn(process.execPath, [program, "job", "--qmp", other, ...words]);
    const lines: string[] = [];
    child.stdout
      .setEncoding("utf8")
      .on("data", (text: string) => void lines.push(...text.trim().split("\n")));
    const ended = new Promise((resolve) => child.once("close", resolve));
    while (lines.length === 0) await meanwhile();
    return { lines, ended };
  }

  it("tells how a job that it follows has ended, and hands it on as its status", async () => {
    const { lines, ended } = await onOther(["watch", "copy", "--json"], () => job("list"));
    expect(JSON.parse(lines[0]!)).toMatchObject({ id: "copy", type: "mirror", status: "running" });
    await job("cancel", "copy", "--force");
    expect(await ended).toBe(1);
    expect(JSON.parse(lines.at(-1)!)).toMatchObject({ id: "copy", result: "cancelled" });
  });

  it("refuses in the server's words, and says what is wrong with its own", async () => {
    const refused = await job("complete", "copy");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(
      /^blockwright: Job 'copy' in state 'running' cannot accept command verb 'complete'\n$/,
    );
    expect(await job("pause", "nope")).toMatchObject({ status: 1, stderr: "blockwright: Job not found\n" });
    expect((await job("pause")).stderr).toContain("Expecting the id of a job");
    expect((await job("set-speed", "copy", "fast")).stderr).toContain("Expecting a speed");
    expect((await job("watch", "nope")).stderr).toBe("blockwright: Job 'nope' not found\n");
    expect(await job("cancel", "copy", "--force")).toMatchObject({ status: 0 });
    expect((await job("list")).stdout).toBe("");
  });

  it("tells events as JSON lines until the server goes", async () => {
    const { lines, ended } = await onOther(["events"], async () => {
      await job("pause", "copy");
      await job("resume", "copy");
    });
    expect(JSON.parse(lines[0]!)).toMatchObject({ event: "JOB_STATUS_CHANGE", data: { id: "copy" } });
    daemon.kill("SIGKILL");
    expect(await ended).toBe(0);
  });
});

it("says where nobody listens", () => {
  const { status, stderr } = spawnSync(process.execPath, [program, "job", "--qmp", "/nonexistent", "list"], {
    encoding: "utf8",
  });
  expect(status).toBe(1);
  expect(stderr).toMatch(/^blockwright: .*ENOENT|No such file/);
});
