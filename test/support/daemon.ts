// A storage daemon as a child process, spoken to in QMP over its standard input and output: ours, or the real
// qemu-storage-daemon. The client is this file's own (JSON lines), so that a fault in src/ cannot hide in it.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { HANG_MS } from "./until.ts";

/** A message of the monitor. */
export interface QmpMessage {
  event?: string;
  data?: Record<string, unknown>;
  return?: unknown;
  error?: { class: string; desc: string };
  [member: string]: unknown;
}

/** Programs to start: ours, and QEMU's. */
export const ours = [
  process.execPath,
  fileURLToPath(new URL("../../build/cli/main.js", import.meta.url)),
  "daemon",
];
export const theirs = ["qemu-storage-daemon"];

/** How a daemon is started. */
export interface DaemonOptions {
  /** Default: ours. */
  program?: readonly string[];
  /** Arguments beside those of the monitor. */
  args?: readonly string[];
  /** Those of the monitor. Default: a storage daemon's. */
  monitor?: readonly string[];
  cwd?: string;
}

/** A running daemon. */
export class Daemon {
  /** Everything it wrote to standard error. */
  errors = "";
  /** Events that nobody has taken yet, oldest first. */
  readonly events: QmpMessage[] = [];
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #replies: QmpMessage[] = [];
  readonly #watchers = new Set<() => void>();
  readonly #onEvent: ((event: QmpMessage) => void)[] = [];
  /** How it ended. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  #ended = false;
  #text = "";

  private constructor(options: DaemonOptions) {
    const [program, ...first] = options.program ?? ours;
    const { monitor = ["--chardev", "stdio,id=qmp", "--monitor", "chardev=qmp"] } = options;
    this.#child = spawn(program!, [...first, ...(options.args ?? []), ...monitor], {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      stdio: "pipe",
    });
    this.#child.stdin.on("error", () => undefined);
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => this.#take(text));
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.errors += text;
    });
    this.exited = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (code, signal) => {
        this.#ended = true;
        this.#wake();
        resolve({ code, signal });
      });
    });
    this.exited.catch(() => undefined);
  }

  /** Starts one and greets it. Throws with what it wrote when it ends before. */
  static async start(options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = new Daemon(options);
    await daemon.#until(() => daemon.#replies.shift(), "the greeting");
    await daemon.execute("qmp_capabilities");
    return daemon;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get alive(): boolean {
    return !this.#ended;
  }

  /** Sends a command; resolves with the whole answer, an error too. */
  async ask(execute: string, args: Record<string, unknown> = {}): Promise<QmpMessage> {
    this.send(execute, args);
    return this.#until(() => this.#replies.shift(), `the answer to ${execute}`);
  }

  /** Sends a command and waits for nothing. */
  send(execute: string, args: Record<string, unknown> = {}): void {
    this.#child.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`);
  }

  /** Sends a command that must succeed; resolves with its value. */
  async execute(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const answer = await this.ask(execute, args);
    if (answer.error) throw new Error(`${execute} ${JSON.stringify(args)}: ${answer.error.desc}`);
    return answer.return;
  }

  /** The words with which a command is refused; undefined if it was carried out. */
  async refusal(execute: string, args: Record<string, unknown> = {}): Promise<string | undefined> {
    return (await this.ask(execute, args)).error?.desc;
  }

  /** The next event of that name (and data) that has not been taken; earlier events of other names stay. */
  async event(name: string, data: Record<string, unknown> = {}): Promise<QmpMessage> {
    return this.#until(
      () => {
        const at = this.events.findIndex((event) => event.event === name && contains(event.data ?? {}, data));
        return at < 0 ? undefined : this.events.splice(at, 1)[0];
      },
      `${name} ${JSON.stringify(data)}`,
    );
  }

  /** Calls back for each event at the moment it is read, and for each answer (which has no `event`). */
  watch(callback: (message: QmpMessage) => void): void {
    this.#onEvent.push(callback);
  }

  /** SIGKILL; resolves when the process is gone and all of its output has been read. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
  }

  /** Ends it by `quit`; resolves with its exit status. */
  async quit(): Promise<number | null> {
    if (this.alive) this.send("quit");
    return (await within(this.exited, "the daemon's end")).code;
  }

  #take(text: string): void {
    this.#text += text;
    for (let end = this.#text.indexOf("\n"); end >= 0; end = this.#text.indexOf("\n")) {
      const line = this.#text.slice(0, end).trim();
      this.#text = this.#text.slice(end + 1);
      // A machine also tells what its lines of qemu-io come to.
      if (!line.startsWith("{")) continue;
      const message = JSON.parse(line) as QmpMessage;
      if (message.event === undefined) this.#replies.push(message);
      else this.events.push(message);
      for (const callback of this.#onEvent) callback(message);
    }
    this.#wake();
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher();
  }

  async #until<T>(take: () => T | undefined, what: string): Promise<T> {
    const got = take();
    if (got !== undefined) return got;
    let watcher: (() => void) | undefined;
    const waiting = new Promise<T>((resolve, reject) => {
      watcher = () => {
        const late = take();
        if (late !== undefined) resolve(late);
        else if (this.#ended) reject(new Error(`the daemon ended before ${what}: ${this.errors}`));
      };
      this.#watchers.add(watcher);
      watcher();
    });
    try {
      return await within(waiting, what);
    } finally {
      this.#watchers.delete(watcher!);
    }
  }
}

/** Starts a daemon for `body` and sees to its end: by `quit` (status 0 is checked), by force after an error. */
export async function withDaemon<T>(
  options: DaemonOptions,
  body: (daemon: Daemon) => Promise<T>,
): Promise<T> {
  const daemon = await Daemon.start(options);
  try {
    const result = await body(daemon);
    const code = await daemon.quit();
    if (code !== 0) throw new Error(`the daemon ended with status ${String(code)}: ${daemon.errors}`);
    return result;
  } finally {
    if (daemon.alive) await daemon.kill();
  }
}

function contains(whole: Record<string, unknown>, part: Record<string, unknown>): boolean {
  return Object.entries(part).every(([key, value]) => whole[key] === value);
}

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${HANG_MS} ms`)), HANG_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
