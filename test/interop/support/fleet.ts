// Images, lists of jobs, servers of queues and processes for the tests of `fleet`.
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { closeSync, ftruncateSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { contentOf } from "../../support/content.ts";
import { program } from "./twins.ts";
import { until } from "../../support/until.ts";

const MiB = 2 ** 20;
const POSTGRES = "/usr/lib/postgresql/15/bin";

/** What a program said and how it ended. */
export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A job as a list has it. */
export interface TestJob {
  id: string;
  kind: string;
  source: string;
  target?: string;
  priority?: number;
  options?: Record<string, unknown>;
}

/** A job as `--jobs --json` has it. */
export interface Row {
  id: string;
  state: string;
  attempts: number;
  worker: string;
  bytes: number;
  lastError: string;
  shards?: { total: number; done: number; free: number };
}

/** Counts, with `--jobs` the rows too. */
export interface Status {
  queued: number;
  running: number;
  done: number;
  failed: number;
  jobs: Row[];
}

/** A Redis server, by the URL of its socket. */
export interface RedisServer {
  readonly url: string;
  /** Forgets everything. */
  forget(): void;
  /** Is killed; what it has written of its jobs it has again when it is started. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** A folder with images in it, and the processes over them. */
export class FleetFolder implements AsyncDisposable {
  readonly path = mkdtempSync(join(tmpdir(), "bw-fleet-"));
  readonly #processes: ChildProcess[] = [];
  readonly #said = new Map<ChildProcess, string>();
  readonly #ends: (() => void)[] = [];

  in(name: string): string {
    return join(this.path, name);
  }

  /** A raw image of so many bytes of data, as long again, and a hole. */
  image(name: string, dataMiB: number): string {
    const path = this.in(name);
    writeFileSync(path, contentOf(dataMiB * MiB, name.length + dataMiB));
    truncateSync(path, 2 * dataMiB * MiB + 512);
    return path;
  }

  /** A sparse raw image with a piece of data in the middle of each of so many equal parts. */
  sparse(name: string, { bytes, pieces, piece }: Record<"bytes" | "pieces" | "piece", number>): string {
    const path = this.in(name);
    const fd = openSync(path, "w");
    ftruncateSync(fd, bytes);
    for (let i = 0; i < pieces; i++) {
      const at = Math.floor(((bytes / pieces) * (i + 0.5)) / 4096) * 4096;
      writeSync(fd, contentOf(piece, i + 1), 0, piece, at);
    }
    closeSync(fd);
    return path;
  }

  list(jobs: readonly TestJob[], name = "jobs.json"): string {
    writeFileSync(this.in(name), JSON.stringify(jobs));
    return this.in(name);
  }

  /** Runs the verb to its end. */
  fleet(...words: string[]): Promise<Ended> {
    return new Promise((resolve) => {
      execFile(process.execPath, [program, "fleet", ...words], (error, stdout, stderr) => {
        resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
      });
    });
  }

  /** Starts the verb. */
  start(...words: string[]): ChildProcess {
    const stdio = ["ignore", "ignore", "pipe"] as const;
    const child = spawn(process.execPath, [program, "fleet", ...words], { stdio: [...stdio] });
    child.stderr?.on("data", (text: Buffer) => {
      this.#said.set(child, this.said(child) + text.toString());
    });
    this.#processes.push(child);
    return child;
  }

  /** What a process has said on stderr. */
  said(child: ChildProcess): string {
    return this.#said.get(child) ?? "";
  }

  /** How far a target's copy is, bytes of the disk: what its newest checkpoint says. */
  position(target: string): number {
    const folder = this.in(`.${target}.fleet`);
    const names = existsSync(folder) ? readdirSync(folder).filter((name) => /^c\d+$/.test(name)) : [];
    const last = names.toSorted().at(-1);
    if (last === undefined) return 0;
    try {
      return (JSON.parse(readFileSync(join(folder, last), "utf8")) as { position: number }).position;
    } catch {
      return 0;
    }
  }

  /** The files in the folder that a reader of targets would not expect. */
  leftovers(): string[] {
    return readdirSync(this.path).filter((name) => name.includes(".part-"));
  }

  atEnd(end: () => void): void {
    this.#ends.push(end);
  }

  /** Starts a Redis server on a socket. */
  async redis(): Promise<RedisServer> {
    const socket = this.in("redis.sock");
    const ask = (word: string): string =>
      execFileSync("redis-cli", ["-s", socket, word], { stdio: ["ignore", "pipe", "ignore"] }).toString();
    const isThere = (): boolean => {
      try {
        return existsSync(socket) && ask("PING").startsWith("PONG");
      } catch {
        return false;
      }
    };
    let server: ChildProcess | undefined;
    const start = async (): Promise<void> => {
      const words = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes"];
      server = spawn("redis-server", [...words, "--dir", this.path], { stdio: "ignore" });
      this.#processes.push(server);
      await until("redis-server", isThere);
    };
    const stop = async (): Promise<void> => {
      if (server) await killed(server);
      rmSync(socket, { force: true });
    };
    await start();
    return { url: `unix://${socket}`, forget: () => void ask("FLUSHALL"), start, stop };
  }

  /** Starts a PostgreSQL server; its URL, and how it is restarted as after a crash. */
  postgres(): { url: string; restart: () => void } {
    const data = this.in("pg");
    mkdirSync(data);
    const isRoot = process.getuid?.() === 0;
    if (isRoot) {
      const [uid = 0, gid = 0] = ["-u", "-g"].map((flag) => Number(execFileSync("id", [flag, "postgres"])));
      chownSync(data, uid, gid);
      execFileSync("chmod", ["755", this.path]);
    }
    const run = (line: string): void => {
      const [command, ...words] = isRoot ? ["su", "postgres", "-c", line] : ["sh", "-c", line];
      execFileSync(command, words, { stdio: "ignore" });
    };
    const control = (words: string): void =>
      run(`${POSTGRES}/pg_ctl -D ${data}/d -o "-k ${data} -c listen_addresses=" -l ${data}/log -w ${words}`);
    run(`${POSTGRES}/initdb -D ${data}/d -A trust -U postgres`);
    control("start");
    this.atEnd(() => control("-m immediate stop"));
    const url = `postgres://postgres@localhost/postgres?host=${encodeURIComponent(data)}`;
    return { url, restart: () => control("-m immediate restart") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends) end();
    for (const child of this.#processes) child.kill("SIGKILL");
    await Promise.all(this.#processes.map(ended));
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Resolves when a process has ended. */
export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}

/** Kills a process as the kernel would, and waits until it is gone. */
export async function killed(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await ended(child);
}
