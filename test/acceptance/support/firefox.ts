// Firefox, by WebDriver BiDi: headless, with a profile that a test keeps, away from this machine's own settings.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BidiSession, type Evaluated } from "./bidi.ts";
import { BrowserProcess, type DrivenPage, type Driver, jsonCall } from "./driver.ts";

/** Its path, or its name on the PATH. */
const FIREFOX = process.env["BLOCKWRIGHT_FIREFOX"] ?? "firefox-esr";

/** What an origin may store, bytes: a fifth of what Firefox gives all of them. */
const ORIGIN_BYTES = 256 * 1024 * 1024;

const preferences: Readonly<Record<string, boolean | number>> = {
  // A killed browser neither asks what to do nor opens what was open.
  "toolkit.startup.max_resumed_crashes": -1,
  "browser.sessionstore.resume_from_crash": false,
  // In KiB.
  "dom.quotaManager.temporaryStorage.fixedLimit": (5 * ORIGIN_BYTES) / 1024,
  "app.update.disabledForTesting": true,
  "datareporting.policy.dataSubmissionEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
};

class FirefoxPage implements DrivenPage {
  readonly #session: BidiSession;
  readonly #context: string;

  constructor(session: BidiSession, context: string) {
    this.#session = session;
    this.#context = context;
  }

  async evaluate<A extends readonly unknown[], T>(run: (...args: A) => T, ...args: A): Promise<Awaited<T>> {
    const evaluated = await this.#session.send<Evaluated>("script.evaluate", {
      expression: jsonCall(run, args),
      target: { context: this.#context },
      awaitPromise: true,
    });
    if (evaluated.type === "exception") throw new Error(evaluated.exceptionDetails?.text);
    return JSON.parse(evaluated.result!.value as string) as Awaited<T>;
  }

  async reload(): Promise<void> {
    await this.#session.send("browsingContext.reload", { context: this.#context, wait: "complete" });
  }

  async close(): Promise<void> {
    await this.#session.send("browsingContext.close", { context: this.#context });
  }
}

/** One run of Firefox. */
export class Firefox implements Driver {
  readonly #process: BrowserProcess;
  readonly #session: BidiSession;

  private constructor(child: BrowserProcess, session: BidiSession) {
    this.#process = child;
    this.#session = session;
  }

  static async start(folder: string): Promise<Driver> {
    const file = join(folder, "user.js");
    const lines = Object.entries(preferences).map(([name, value]) => `user_pref("${name}", ${value});\n`);
    if (!existsSync(file)) writeFileSync(file, lines.join(""));
    const words = ["--headless", "--no-remote", "--profile", folder, "--remote-debugging-port=0"];
    const child = new BrowserProcess(FIREFOX, words, { HOME: folder, MOZ_CRASHREPORTER_DISABLE: "1" });
    const address = await child.says(/WebDriver BiDi listening on (ws:\/\/\S+)/);
    return new Firefox(child, await BidiSession.begin(address));
  }

  async open(url: string): Promise<DrivenPage> {
    const made = { type: "tab", background: false };
    const { context } = await this.#session.send<{ context: string }>("browsingContext.create", made);
    await this.#session.send("browsingContext.navigate", { context, url, wait: "complete" });
    return new FirefoxPage(this.#session, context);
  }

  async kill(): Promise<void> {
    await this.#process.kill();
    this.#session.close();
  }
}
