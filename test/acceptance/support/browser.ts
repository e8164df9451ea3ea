// A real browser with a profile of its own, which a test may kill, and the page of the acceptance tests in it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AppServer } from "./app.ts";
import type { Calls, State } from "../app/worker.ts";
import { Chromium } from "./chromium.ts";
import type { DrivenPage, Driver } from "./driver.ts";
import { Firefox } from "./firefox.ts";
import { WebKit } from "./webkit.ts";
import { HANG_MS } from "../../support/until.ts";

type Result<N extends keyof Calls> = Awaited<ReturnType<Calls[N]>>;

/** The engines: each starts over a profile's folder. */
const engines = { chromium: Chromium, firefox: Firefox, webkit: WebKit } as const;

/** One of them. */
export type EngineName = keyof typeof engines;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** A tab with the page. */
export class Tab {
  readonly page: DrivenPage;

  private constructor(page: DrivenPage) {
    this.page = page;
  }

  /** Takes a page that is loaded; waits until it can be called. */
  static async over(page: DrivenPage): Promise<Tab> {
    const tab = new Tab(page);
    await tab.#ready();
    return tab;
  }

  /** Calls a function of the page's worker. */
  call<N extends keyof Calls>(name: N, ...args: Parameters<Calls[N]>): Promise<Result<N>> {
    return this.callOther<Result<N>>(name, ...args);
  }

  /** Calls a function that only another page than the first one has. */
  callOther<T>(name: string, ...args: unknown[]): Promise<T> {
    return this.page.evaluate((what, given) => globalThis.call(what, given), name, args) as Promise<T>;
  }

  /** The content of the disk, or of the file that holds it, by way of the page's server. */
  async content(app: AppServer, what: "disk" | "file"): Promise<Uint8Array> {
    return this.upload(app, "content", what);
  }

  /** The bytes that a function of the page gives, by way of the page's server. */
  async upload(app: AppServer, name: string, ...args: unknown[]): Promise<Uint8Array> {
    await this.page.evaluate((what, given) => globalThis.upload(what, given), name, args);
    return app.take();
  }

  async reload(): Promise<void> {
    await this.page.reload();
    await this.#ready();
  }

  /** Waits until the state is as wanted; returns it. Fails with what it was at last. */
  async until(what: string, wanted: (state: State) => boolean): Promise<State> {
    const end = Date.now() + HANG_MS;
    for (;;) {
      const state = await this.call("state");
      if (wanted(state)) return state;
      if (Date.now() > end) throw new Error(`it never came: ${what}; ${JSON.stringify(state)}`);
      await pause(50);
    }
  }

  async #ready(): Promise<void> {
    while (!(await this.page.evaluate(() => typeof globalThis.call === "function"))) await pause(20);
  }
}

/** One run of a browser over a profile. */
export class Browser {
  readonly #driver: Driver;

  private constructor(driver: Driver) {
    this.#driver = driver;
  }

  static async start(profile: Profile): Promise<Browser> {
    return new Browser(await engines[profile.engine].start(profile.folder));
  }

  /** Opens any page. */
  visit(url: string): Promise<DrivenPage> {
    return this.#driver.open(url);
  }

  /** Opens the tests' page. */
  async open(origin: string, path = "/"): Promise<Tab> {
    return Tab.over(await this.#driver.open(`${origin}${path}`));
  }

  /** What the origin may store from now on, bytes; undefined: as much as the browser lets it. */
  async setQuota(tab: Tab, origin: string, bytes?: number): Promise<void> {
    if (this.#driver.setQuota) await this.#driver.setQuota(origin, bytes);
    else await tab.callOther("ballast", bytes);
  }

  /** Kills all of its processes, without a chance to write anything. */
  kill(): Promise<void> {
    return this.#driver.kill();
  }
}

/** What a browser keeps between its runs. */
export class Profile {
  readonly engine: EngineName;
  readonly folder = mkdtempSync(join(tmpdir(), "blockwright-profile-"));

  constructor(engine: EngineName) {
    this.engine = engine;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
