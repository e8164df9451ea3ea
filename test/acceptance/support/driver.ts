// What a test may do with a browser, whichever engine it is: pages that it makes evaluate functions, and a death without warning.
import { type ChildProcess, spawn } from "node:child_process";

/** A page. What goes in and comes out is JSON: what is undefined is left out. */
export interface DrivenPage {
  /** Runs a function in the page, of which only its text goes there, and awaits what it returns. */
  evaluate<A extends readonly unknown[], T>(run: (...args: A) => T, ...args: A): Promise<Awaited<T>>;
  /** Loads it anew. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/** A browser that runs over a profile. */
export interface Driver {
  /** Opens a page in a tab or window of its own. */
  open(url: string): Promise<DrivenPage>;
  /** What an origin may store, bytes, where the engine lets a test say so; undefined: the browser's own limit. */
  setQuota?(origin: string, bytes?: number): Promise<void>;
  /** Kills all of its processes, without a chance to write anything. */
  kill(): Promise<void>;
}

/** The text of an expression whose value, once awaited, is the JSON of what the function returns. */
export function jsonCall(run: (...args: never[]) => unknown, args: readonly unknown[]): string {
  const given = JSON.stringify(JSON.stringify(args));
  return `Promise.resolve((${run.toString()})(...JSON.parse(${given}))).then((value) => JSON.stringify(value) ?? "null")`;
}

/** A browser's process, in a group of its own, so that one signal ends all of its processes at once. */
export class BrowserProcess {
  readonly #child: ChildProcess;
  #said = "";

  constructor(program: string, words: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.#child = spawn(program, words, {
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...env },
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-65_536);
    });
    const end = (): void => this.#signal();
    process.once("exit", end);
    this.#child.once("exit", () => process.off("exit", end));
  }

  /** What it prints that looks so. Rejects when it ends before. */
  says(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = pattern.exec(this.#said);
        if (found) resolve(found[1] ?? found[0]);
      };
      look();
      this.#child.stderr?.on("data", look);
      this.#child.once("error", reject);
      this.#child.once("exit", () => reject(new Error(`the browser has ended: ${this.#said.slice(-2000)}`)));
    });
  }

  async kill(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const gone = new Promise((resolve) => {
      this.#child.once("exit", resolve);
    });
    this.#signal();
    await gone;
  }

  #signal(): void {
    const { pid } = this.#child;
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  }
}
