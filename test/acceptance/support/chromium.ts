// Chromium, by its own debugger: with a profile that a test keeps, and a quota that it sets.
import { type Browser as Connection, type Page, chromium } from "playwright";
import { CHROMIUM, CHROMIUM_ARGUMENTS } from "../../support/chromium.ts";
import { BrowserProcess, type DrivenPage, type Driver, jsonCall } from "./driver.ts";
import { newPage } from "../../support/pages.ts";

const FLAGS = ["--headless", ...CHROMIUM_ARGUMENTS, "--remote-debugging-port=0"];

class ChromiumPage implements DrivenPage {
  readonly #page: Page;

  constructor(page: Page) {
    this.#page = page;
  }

  async evaluate<A extends readonly unknown[], T>(run: (...args: A) => T, ...args: A): Promise<Awaited<T>> {
    return JSON.parse(await this.#page.evaluate<string>(jsonCall(run, args))) as Awaited<T>;
  }

  async reload(): Promise<void> {
    await this.#page.reload();
  }

  close(): Promise<void> {
    return this.#page.close();
  }
}

/** One run of Chromium. */
export class Chromium implements Driver {
  readonly #process: BrowserProcess;
  readonly #connection: Connection;

  private constructor(child: BrowserProcess, connection: Connection) {
    this.#process = child;
    this.#connection = connection;
  }

  static async start(folder: string): Promise<Driver> {
    const child = new BrowserProcess(CHROMIUM, [...FLAGS, `--user-data-dir=${folder}`, "about:blank"]);
    return new Chromium(child, await chromium.connectOverCDP(await child.says(/ws:\/\/\S+/)));
  }

  async open(url: string): Promise<DrivenPage> {
    const page = await newPage(this.#connection.contexts()[0]!);
    await page.goto(url);
    return new ChromiumPage(page);
  }

  async setQuota(origin: string, bytes?: number): Promise<void> {
    const context = this.#connection.contexts()[0]!;
    const session = await context.newCDPSession(context.pages().at(-1)!);
    const quotaSize = bytes === undefined ? {} : { quotaSize: bytes };
    await session.send("Storage.overrideQuotaForOrigin", { origin, ...quotaSize });
  }

  async kill(): Promise<void> {
    await this.#process.kill();
    await this.#connection.close().catch(() => undefined);
  }
}
