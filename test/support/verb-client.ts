/**
 * Runs verbs of Blockwright's program without starting a process for each: verb-server.mjs carries them out. The call is
 * synchronous, as spawnSync() is, so that it can stand in its place. Where the process itself is what is tested (signals, a
 * crash, stdin that is a terminal), or BLOCKWRIGHT_PROGRAM names another program, a process is started as ever.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { constants as osConstants, tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./root.ts";
import { HANG_MS } from "./until.ts";

/** What one run gave. A run that a signal ended has the status that shells give it. */
export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

const OTHER = process.env["BLOCKWRIGHT_PROGRAM"];
/** The path of our program. */
export const program = OTHER ?? join(root, "build", "cli", "main.js");
/** Runs of a server before a new one takes over: each leaves a module and a WebAssembly memory for the collector. */
const RUNS = 60;
const ENVIRONMENT = { NO_COLOR: "1", CI: "1" };

/** Whether a line ends its process itself. */
function isFatal(words: readonly string[]): boolean {
  return words.some((word) => /^(abort|sigraise)\b/.test(word)) || words[0] === "daemon";
}

/** A server's process and its two pipes. */
class Server {
  readonly #folder = mkdtempSync(join(tmpdir(), "blockwright-verbs-"));
  readonly #child: ChildProcess;
  readonly #requests: number;
  readonly #answers: number;
  runs = 0;

  constructor() {
    const [requests, answers] = [join(this.#folder, "requests"), join(this.#folder, "answers")];
    execFileSync("mkfifo", [requests, answers]);
    // The answers first: the server's opening waits for a reader. Neither opening waits here.
    this.#answers = openSync(answers, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#requests = openSync(requests, constants.O_RDWR);
    const script = join(root, "test", "support", "verb-server.mjs");
    const words = [script, program, requests, answers];
    this.#child = spawn(process.execPath, words, { stdio: ["ignore", "ignore", "inherit"] });
    this.#child.unref();
  }

  run(line: object): Outcome {
    this.runs += 1;
    const body = Buffer.from(JSON.stringify(line));
    const head = Buffer.alloc(4);
    head.writeUInt32LE(body.length);
    const message = Buffer.concat([head, body]);
    for (let done = 0; done < message.length;) done += writeSync(this.#requests, message, done);
    const size = this.#take(4).readUInt32LE();
    return JSON.parse(this.#take(size).toString("utf8")) as Outcome;
  }

  /** Reads that many bytes, looking every millisecond: this thread has nothing else to do. */
  #take(bytes: number): Buffer {
    const buffer = Buffer.alloc(bytes);
    const clock = new Int32Array(new SharedArrayBuffer(4));
    const begin = Date.now();
    for (let done = 0; done < bytes;) {
      const count = this.#some(buffer, done);
      // No writer: it has not begun yet, or it is gone.
      if (count === 0 && (this.runs > 1 || Date.now() - begin > HANG_MS))
        throw new Error("the process that runs verbs has died");
      done += Math.max(0, count);
      if (count <= 0) Atomics.wait(clock, 0, 0, 1);
    }
    return buffer;
  }

  /** Reads what there is: -1 where there is nothing yet, 0 where nobody writes. */
  #some(buffer: Buffer, at: number): number {
    try {
      return readSync(this.#answers, buffer, at, buffer.length - at, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return -1;
      throw error;
    }
  }

  close(): void {
    closeSync(this.#requests);
    closeSync(this.#answers);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

let server: Server | undefined;
process.once("exit", () => server?.close());

/** What our program says in `cwd`, with `input` on its stdin. */
export function runVerb(
  words: readonly string[],
  { cwd, input = "" }: { cwd: string; input?: string },
): Outcome {
  if (OTHER !== undefined || isFatal(words)) return runProcess(words, { cwd, input });
  if (server !== undefined && server.runs >= RUNS) {
    server.close();
    server = undefined;
  }
  server ??= new Server();
  try {
    return server.run({ cwd, words, env: ENVIRONMENT, input });
  } catch (error) {
    server.close();
    server = undefined;
    throw error;
  }
}

/** The same in a process of its own. */
export function runProcess(
  words: readonly string[],
  { cwd, input = "" }: { cwd: string; input?: string },
): Outcome {
  const env = { ...process.env, ...ENVIRONMENT };
  const said = spawnSync(process.execPath, [program, ...words], { cwd, encoding: "utf8", env, input });
  if (said.error) throw said.error;
  const { status, signal, stdout, stderr } = said;
  return { status: signal ? 128 + osConstants.signals[signal] : status, stdout, stderr };
}
