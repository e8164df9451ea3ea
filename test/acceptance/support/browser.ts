// A real Chromium with a profile of its own, which a test may kill, and the page of the acceptance tests in it.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser as Connection, type Page, chromium } from "playwright";
import { CHROMIUM, CHROMIUM_ARGUMENTS } from "../../support/chromium.ts";
import type { AppServer } from "./app.ts";
import type { Calls, State } from "../app/worker.ts";

const FLAGS = ["--headless", ...CHROMIUM_ARGUMENTS, "--remote-debugging-port=0"];

type Result<N extends keyof Calls> = Awaited<ReturnType<Calls[N]>>;

async function ready(page: Page): Promise<void> {
  await page.waitForFunction(() => typeof globalThis.call === "function");
}

/** A tab with the page. */
export class Tab {
  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  /** Calls a function of the page's worker. */
  call<N extends keyof Calls>(name: N, ...args: Parameters<Calls[N]>): Promise<Result<N>> {
    return this.page.evaluate(([what, given]) => globalThis.call(what, given), [
      name,
      args,
    ] as const) as Promise<Result<N>>;
  }

  /** Calls a function that only another page than the first one has. */
  callOther<T>(name: string, ...args: unknown[]): Promise<T> {
    return this.page.evaluate(([what, given]) => globalThis.call(what, given), [
      name,
      args,
    ] as const) as Promise<T>;
  }

  /** The content of the disk, or of the file that holds it, by way of the page's server. */
  async content(app: AppServer, what: "disk" | "file"): Promise<Uint8Array> {
    return this.upload(app, "content", what);
  }

  /** The bytes that a function of the page gives, by way of the page's server. */
  async upload(app: AppServer, name: string, ...args: unknown[]): Promise<Uint8Array> {
    await this.page.evaluate(([what, given]) => globalThis.upload(what, given), [name, args] as const);
    return app.take();
  }

  async reload(): Promise<void> {
    await this.page.reload();
    await ready(this.page);
  }

  /** Waits until the state is as wanted; returns it. Fails with what it was at last. */
  async until(what: string, wanted: (state: State) => boolean, timeoutMs = 60_000): Promise<State> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const state = await this.call("state");
      if (wanted(state)) return state;
      if (Date.now() > end) throw new Error(`not ${what} after ${timeoutMs} ms: ${JSON.stringify(state)}`);
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
    }
  }
}

/** Where the browser listens for its debugger; it prints that when it is up. */
function debuggerOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = /ws:\/\/\S+/.exec(text);
      if (found) resolve(found[0]);
    });
    child.on("exit", () => reject(new Error(`chromium ended: ${text}`)));
  });
}

/** One run of the browser over a profile. */
export class Browser {
  readonly #child: ChildProcess;
  readonly #connection: Connection;

  private constructor(child: ChildProcess, connection: Connection) {
    this.#child = child;
    this.#connection = connection;
  }

  static async start(profile: Profile): Promise<Browser> {
    const flags = [...FLAGS, `--user-data-dir=${profile.folder}`, "about:blank"];
    // A process group of its own, so that one signal ends all its processes at once.
    const child = spawn(CHROMIUM, flags, { detached: true, stdio: ["ignore", "ignore", "pipe"] });
    const connection = await chromium.connectOverCDP(await debuggerOf(child));
    return new Browser(child, connection);
  }

  /** Opens a page. */
  async open(origin: string, path = "/"): Promise<Tab> {
    const page = await this.#connection.contexts()[0]!.newPage();
    await page.goto(`${origin}${path}`);
    await ready(page);
    return new Tab(page);
  }

  /** What the origin may store, bytes; undefined: the browser's own limit. */
  async setQuota(tab: Tab, origin: string, bytes?: number): Promise<void> {
    const session = await tab.page.context().newCDPSession(tab.page);
    const quotaSize = bytes === undefined ? {} : { quotaSize: bytes };
    await session.send("Storage.overrideQuotaForOrigin", { origin, ...quotaSize });
  }

  /** Kills all of its processes, without a chance to write anything. */
  async kill(): Promise<void> {
    const gone = new Promise((resolve) => {
      this.#child.once("exit", resolve);
    });
    process.kill(-this.#child.pid!, "SIGKILL");
    await gone;
    await this.#connection.close().catch(() => undefined);
  }
}

/** What a browser keeps between its runs. */
export class Profile {
  readonly folder = mkdtempSync(join(tmpdir(), "blockwright-profile-"));

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
