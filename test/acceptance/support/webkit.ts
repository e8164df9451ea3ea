// WebKit, as Debian's WebKitGTK has it: its MiniBrowser on a display without a screen (Xvfb). Under WebDriver it forgets all that
// pages store when it ends, so here a page asks this driver for what it is to evaluate (app/agent.ts).
import { type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { BrowserProcess, type DrivenPage, type Driver, jsonCall } from "./driver.ts";

/** Where Debian has it. */
const MINI_BROWSER =
  process.env["BLOCKWRIGHT_MINIBROWSER"] ?? "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser";

/** What the page tells: which command is done, and its JSON or its error. */
interface Told {
  id: number;
  value?: string;
  error?: string;
}

interface Waiting {
  resolve(value: string): void;
  reject(error: Error): void;
}

class WebKitPage implements DrivenPage {
  /** The page's first question. */
  loaded: Promise<void>;
  #isLoaded!: () => void;
  /** The page is about to go; what is asked waits for the one that follows it. */
  #isLeaving = false;
  /** The request by which the page waits for something to do. */
  #idle: ServerResponse | undefined;
  readonly #commands: { id: number; script: string }[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  constructor() {
    this.loaded = new Promise((resolve) => (this.#isLoaded = resolve));
  }

  async evaluate<A extends readonly unknown[], T>(run: (...args: A) => T, ...args: A): Promise<Awaited<T>> {
    const id = ++this.#next;
    const told = new Promise<string>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#commands.push({ id, script: jsonCall(run, args) });
    this.#give();
    return JSON.parse(await told) as Awaited<T>;
  }

  async reload(): Promise<void> {
    await this.evaluate(() => void setTimeout(() => location.reload(), 200));
    this.#isLeaving = true;
    this.loaded = new Promise((resolve) => (this.#isLoaded = resolve));
    await this.loaded;
  }

  async close(): Promise<void> {
    await this.evaluate(() => void setTimeout(() => globalThis.close()));
  }

  /** The page asks what to do, for the first time or again. */
  ask(response: ServerResponse, isFirst: boolean): void {
    if (isFirst) {
      this.#isLeaving = false;
      this.#isLoaded();
    }
    this.#idle = response;
    response.once("close", () => {
      if (this.#idle === response) this.#idle = undefined;
    });
    this.#give();
  }

  /** The page tells what came of a command. */
  take({ id, value, error }: Told): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(value ?? "null");
    else waiting?.reject(new Error(error));
  }

  /** The browser is gone. */
  end(): void {
    for (const { reject } of this.#waiting.values()) reject(new Error("the browser is gone"));
  }

  #give(): void {
    const command = this.#idle && !this.#isLeaving ? this.#commands.shift() : undefined;
    if (!command) return;
    this.#idle?.end(JSON.stringify(command));
    this.#idle = undefined;
  }
}

/** One run of WebKit. */
export class WebKit implements Driver {
  readonly #folder: string;
  readonly #display: BrowserProcess;
  readonly #name: string;
  readonly #server: Server;
  readonly #pages: { page: WebKitPage; process: BrowserProcess }[] = [];

  private constructor(folder: string, display: { process: BrowserProcess; name: string }) {
    this.#folder = folder;
    this.#display = display.process;
    this.#name = display.name;
    this.#server = createServer((request, response) => {
      response.setHeader("Access-Control-Allow-Origin", "*");
      const [number, first] = (request.url ?? "").slice(1).split("?");
      const { page } = this.#pages[Number(number)] ?? {};
      if (page === undefined) return void response.writeHead(404).end();
      if (request.method !== "POST") return page.ask(response, first !== undefined);
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        page.take(JSON.parse(Buffer.concat(chunks).toString()) as Told);
        response.end();
      });
    });
  }

  static async start(folder: string): Promise<Driver> {
    // It chooses a free number, and prints it.
    const process = new BrowserProcess("Xvfb", [
      "-displayfd",
      "2",
      "-screen",
      "0",
      "1280x800x24",
      "-nolisten",
      "tcp",
    ]);
    const number = await process.says(/^(\d+)$/m);
    const made = new WebKit(folder, { process, name: `:${number}` });
    await new Promise<void>((resolve) => {
      made.#server.listen(0, "127.0.0.1", resolve);
    });
    return made;
  }

  async open(url: string): Promise<DrivenPage> {
    const page = new WebKitPage();
    const { port } = this.#server.address() as AddressInfo;
    const address = new URL(url);
    address.searchParams.set("agent", `http://127.0.0.1:${port}/${this.#pages.length}`);
    const process = new BrowserProcess(MINI_BROWSER, [address.href], {
      DISPLAY: this.#name,
      GDK_BACKEND: "x11",
      HOME: this.#folder,
      XDG_DATA_HOME: `${this.#folder}/data`,
      XDG_CACHE_HOME: `${this.#folder}/cache`,
      XDG_CONFIG_HOME: `${this.#folder}/config`,
      WEBKIT_DISABLE_COMPOSITING_MODE: "1",
    });
    this.#pages.push({ page, process });
    await page.loaded;
    return page;
  }

  async kill(): Promise<void> {
    await Promise.all(this.#pages.map(({ process }) => process.kill()));
    await this.#display.kill();
    for (const { page } of this.#pages) page.end();
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
