/** A storage daemon, ours or QEMU's, that runs one job under a QMP client. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { type Socket, connect } from "node:net";
import { join } from "node:path";
import type { Sample } from "./contest.ts";
import { cpuOf, peakOf } from "./process.ts";

/** What it is told. */
export interface Job {
  readonly nodes: readonly object[];
  readonly command: { readonly execute: string; readonly arguments: object };
  /** The event that ends what is measured. */
  readonly until: string;
}

interface Message {
  readonly event?: string;
  readonly error?: { readonly desc: string };
  readonly data?: { readonly error?: string };
}

async function connectTo(path: string): Promise<Socket> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (!existsSync(path)) continue;
    const socket = connect(path);
    const ok = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (ok) return socket;
  }
}

/** Messages as they come. */
async function* messages(socket: Socket): AsyncGenerator<Message> {
  let text = "";
  for await (const part of socket.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
    const lines = (text + String(part)).split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as Message;
  }
}

async function measured(pid: number, socket: Socket, { command, until }: Job): Promise<Sample> {
  const send = (message: object): void => void socket.write(`${JSON.stringify(message)}\n`);
  send({ execute: "qmp_capabilities" });
  // The program's start is not what is measured.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const cpu = cpuOf(pid);
  const begin = performance.now();
  send(command);
  for await (const { event, error, data } of messages(socket)) {
    if (event !== until && !error) continue;
    const found = { value: (performance.now() - begin) / 1000, cpu: cpuOf(pid) - cpu, peakMiB: peakOf(pid) };
    send({ execute: "quit" });
    const failure = error?.desc ?? data?.error;
    if (failure !== undefined) throw new Error(failure);
    return found;
  }
  throw new Error(`the daemon ended before ${until}`);
}

/** Starts a daemon in a folder, runs the job, and ends both. Throws where it fails. */
export async function runJob(daemon: readonly string[], job: Job, dir: string): Promise<Sample> {
  const path = join(dir, "mon.sock");
  rmSync(path, { force: true });
  const [executable = "", ...args] = daemon;
  const nodes = job.nodes.flatMap((node) => ["--blockdev", JSON.stringify(node)]);
  const monitor = ["--chardev", `socket,path=${path},server=on,wait=off,id=m`, "--monitor", "chardev=m"];
  const child: ChildProcess = spawn(executable, [...args, ...nodes, ...monitor], {
    cwd: dir,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const socket = await connectTo(path);
  try {
    return await measured(child.pid ?? 0, socket, job);
  } finally {
    await exited;
    socket.destroy();
  }
}
