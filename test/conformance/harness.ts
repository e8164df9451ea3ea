// Runs one scenario against a storage daemon over QMP: makes the images with the real qemu-img and qemu-io, starts the
// program with qemu-storage-daemon's arguments, sends commands, waits for events, and looks at the images afterwards.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { normalise } from "./compare.ts";
import { HANG_MS } from "../support/until.ts";

interface Command {
  execute: string;
  arguments?: Record<string, unknown>;
}
interface QmpMessage {
  event?: string;
  [key: string]: unknown;
}
interface Step {
  do?: Command;
  /** Commands that are sent in one write, so that what a job does meanwhile does not depend on the machine's load. */
  together?: Command[];
  poll?: Command;
  until?: Record<string, unknown>;
  wait?: number;
}
interface ImageToMake {
  file: string;
  format?: string;
  size?: string;
  options?: string;
  backing?: string;
  backingFormat?: string;
  writes?: string[];
  bitmaps?: string[];
}
interface ImageToCheck {
  file: string;
  format?: string;
  contents?: boolean;
}
/** One story: images, block nodes, steps, and which images to look at. */
export interface Scenario {
  name: string;
  images?: ImageToMake[];
  blockdevs?: object[];
  objects?: object[];
  args?: string[];
  steps: Step[];
  check?: ImageToCheck[];
  /** Reply fields that do not matter here. */
  drop?: string[];
  dropIds?: boolean;
}
/** What a program answered. */
export interface Outcome {
  replies: unknown[];
  events: unknown[];
  images: unknown[];
  exit?: number | null;
  failure?: string;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Whether every field of `want` is in `got`. */
function matches(want: unknown, got: unknown): boolean {
  if (want === null || typeof want !== "object") return want === got;
  if (got === null || typeof got !== "object") return false;
  const fields = got as Record<string, unknown>;
  return Object.entries(want).every(([key, value]) => matches(value, fields[key]));
}

/** One QMP connection: commands in order, events queued. */
class Monitor {
  readonly events: QmpMessage[] = [];
  readonly #replies: QmpMessage[] = [];
  readonly #socket: Socket;
  #waiters: (() => void)[] = [];
  #text = "";
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#take(text));
    for (const end of ["close", "error"]) {
      socket.on(end, () => {
        this.#closed = true;
        this.#wake();
      });
    }
  }

  #take(text: string): void {
    const lines = (this.#text + text).split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() === "") continue;
      const message = JSON.parse(line) as QmpMessage;
      (message.event ? this.events : this.#replies).push(message);
    }
    this.#wake();
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  async waitFor<T>(take: () => T | undefined, what: string): Promise<T> {
    const deadline = Date.now() + HANG_MS;
    for (;;) {
      const got = take();
      if (got !== undefined) return got;
      if (this.#closed) throw new Error(`connection closed while waiting for ${what}`);
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no ${what} within ${HANG_MS} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiters.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  reply(what: string): Promise<QmpMessage> {
    return this.waitFor(() => this.#replies.shift(), `reply to ${what}`);
  }

  send(...commands: Command[]): void {
    this.#socket.write(commands.map((command) => `${JSON.stringify(command)}\n`).join(""));
  }

  command(command: Command): Promise<QmpMessage> {
    this.send(command);
    return this.reply(command.execute);
  }
}

function sh(cwd: string, command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
}

function makeImage(cwd: string, image: ImageToMake): void {
  const format = image.format ?? "qcow2";
  const backing = image.backing ? ["-b", image.backing, "-F", image.backingFormat ?? "qcow2"] : [];
  const options = image.options ? ["-o", image.options] : [];
  sh(cwd, "qemu-img", "create", "-q", "-f", format, ...options, ...backing, image.file, image.size ?? "1M");
  const writes = image.writes ?? [];
  if (writes.length > 0) sh(cwd, "qemu-io", "-f", format, ...writes.flatMap((w) => ["-c", w]), image.file);
  for (const bitmap of image.bitmaps ?? [])
    sh(cwd, "qemu-img", "bitmap", "--add", "-f", format, image.file, bitmap);
}

function contents(cwd: string, { file, format }: ImageToCheck): string {
  const raw = join(cwd, `${file}.contents`);
  sh(cwd, "qemu-img", "convert", "-f", format ?? "qcow2", "-O", "raw", file, raw);
  const sum = createHash("sha256").update(readFileSync(raw)).digest("hex");
  rmSync(raw);
  return sum;
}

function checkResult(cwd: string, file: string): string {
  try {
    sh(cwd, "qemu-img", "check", "-q", "-f", "qcow2", file);
    return "clean";
  } catch (error) {
    const { status } = error as { status: number };
    return status === 3 ? "leaks" : `corrupt (${status})`;
  }
}

interface ImageInfo {
  "virtual-size": number;
  "backing-filename"?: string;
  "format-specific"?: { data?: { bitmaps?: { name: string; flags: string[]; granularity: number }[] } };
}

function inspect(cwd: string, check: ImageToCheck): Record<string, unknown> {
  const format = check.format ?? "qcow2";
  const info = JSON.parse(
    sh(cwd, "qemu-img", "info", "-f", format, "--output=json", check.file),
  ) as ImageInfo;
  const bitmaps = info["format-specific"]?.data?.bitmaps;
  return {
    file: check.file,
    size: info["virtual-size"],
    backing: info["backing-filename"] ?? null,
    ...(check.contents === false ? {} : { contents: contents(cwd, check) }),
    ...(format === "qcow2" ? { check: checkResult(cwd, check.file) } : {}),
    ...(format === "qcow2" && bitmaps
      ? { bitmaps: bitmaps.map(({ name, flags, granularity }) => ({ name, flags, granularity })) }
      : {}),
  };
}

async function connectTo(path: string, child: ChildProcess): Promise<Socket> {
  for (const deadline = Date.now() + HANG_MS; Date.now() < deadline; await sleep(25)) {
    if (child.exitCode !== null)
      throw new Error(`the program exited with ${child.exitCode} before its monitor was up`);
    if (!existsSync(path)) continue;
    const socket = connect(path);
    const connected = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (connected) return socket;
  }
  throw new Error(`no monitor socket within ${HANG_MS} ms`);
}

async function poll(monitor: Monitor, command: Command, until: unknown): Promise<QmpMessage> {
  const deadline = Date.now() + HANG_MS;
  for (;;) {
    const reply = await monitor.command(command);
    if (matches(until, reply)) return reply;
    if (Date.now() > deadline) {
      throw new Error(
        `poll of ${command.execute} never matched ${JSON.stringify(until)}; last ${JSON.stringify(reply)}`,
      );
    }
    await sleep(20);
  }
}

async function carryOut(scenario: Scenario, monitor: Monitor, outcome: Outcome): Promise<void> {
  let seen = 0; // events before this one are behind the last 'until'
  const keep = (of: string, reply: QmpMessage): void =>
    void outcome.replies.push(normalise({ of, ...reply }, scenario));
  for (const step of scenario.steps) {
    if (step.do) keep(step.do.execute, await monitor.command(step.do));
    else if (step.together) {
      monitor.send(...step.together);
      for (const { execute } of step.together) keep(execute, await monitor.reply(execute));
    } else if (step.poll) keep(step.poll.execute, await poll(monitor, step.poll, step.until));
    else if (step.until) {
      const { until } = step;
      const at = await monitor.waitFor(
        () => {
          const index = monitor.events.findIndex((event, n) => n >= seen && matches(until, event));
          return index < 0 ? undefined : index;
        },
        `event ${JSON.stringify(until)}`,
      );
      seen = at + 1;
    } else if (step.wait) await sleep(step.wait);
  }
}

function programArguments(scenario: Scenario, socketPath: string): string[] {
  const chardev = `socket,path=${socketPath},server=on,wait=off,id=mon`;
  const args = ["--chardev", chardev, "--monitor", "chardev=mon"];
  for (const object of scenario.objects ?? []) args.push("--object", JSON.stringify(object));
  for (const blockdev of scenario.blockdevs ?? []) args.push("--blockdev", JSON.stringify(blockdev));
  return [...args, ...(scenario.args ?? [])];
}

/** Runs a scenario; what goes wrong on the way is in `failure`. */
export async function runScenario(scenario: Scenario, program: readonly string[]): Promise<Outcome> {
  const cwd = mkdtempSync(join(tmpdir(), "conformance-"));
  const outcome: Outcome = { replies: [], events: [], images: [] };
  let child: ChildProcess | undefined;
  let stderr = "";
  try {
    for (const image of scenario.images ?? []) makeImage(cwd, image);
    const socketPath = join(cwd, "mon.sock");
    const [command = "", ...prefix] = program;
    child = spawn(command, [...prefix, ...programArguments(scenario, socketPath)], {
      cwd,
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.on("data", (data: Buffer) => (stderr += data.toString()));
    const exited = new Promise<void>((resolve) => child?.once("exit", () => resolve()));
    const monitor = new Monitor(await connectTo(socketPath, child));
    await monitor.reply("greeting");
    await monitor.command({ execute: "qmp_capabilities" });
    await carryOut(scenario, monitor, outcome);
    await sleep(50);
    await monitor.command({ execute: "quit" }).catch(() => undefined);
    outcome.events = monitor.events.map((event) => normalise(event, scenario));
    await Promise.race([exited, sleep(HANG_MS)]);
    if (child.exitCode === null) throw new Error(`the program did not exit within ${HANG_MS} ms of quit`);
    outcome.exit = child.exitCode;
    outcome.images = (scenario.check ?? []).map((check) => inspect(cwd, check));
  } catch (error) {
    outcome.failure = `${(error as Error).message}${stderr ? `; stderr: ${stderr.slice(0, 400)}` : ""}`;
  } finally {
    if (child?.exitCode === null) child.kill("SIGKILL");
    rmSync(cwd, { recursive: true, force: true });
  }
  return outcome;
}
