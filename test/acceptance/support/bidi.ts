// A small client of WebDriver BiDi (W3C), the protocol by which Firefox is driven: commands with numbers, answers with theirs.
import { WebSocket } from "ws";
import { HANG_MS } from "../../support/until.ts";

interface Answer {
  id?: number;
  type: "success" | "error" | "event";
  result?: unknown;
  error?: string;
  message?: string;
}

/** What `script.evaluate` answers. */
export interface Evaluated {
  type: "success" | "exception";
  result?: { type: string; value?: unknown };
  exceptionDetails?: { text: string };
}

interface Waiting {
  resolve(result: never): void;
  reject(error: Error): void;
}

/** A session. */
export class BidiSession {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data) => this.#take(JSON.parse(new TextDecoder().decode(data)) as Answer));
    socket.on("close", () => this.#end());
    socket.on("error", () => this.#end());
  }

  /** Begins a session with the browser that listens at an address, such as `ws://127.0.0.1:9222`. */
  static async begin(address: string): Promise<BidiSession> {
    // Answers may be as long as a test's image.
    const socket = new WebSocket(`${address}/session`, { maxPayload: 0 });
    await new Promise<void>((resolve, reject) => {
      socket.once("open", () => resolve());
      socket.once("error", reject);
    });
    const session = new BidiSession(socket);
    await session.send("session.new", { capabilities: {} });
    return session;
  }

  /** Sends a command; its result. A page may take long, and a dead browser ends all of them; the limit is for one that hangs. */
  send<T>(method: string, params: object): Promise<T> {
    const id = ++this.#next;
    const hangs = new Error(`the browser has not answered ${method} ${JSON.stringify(params).slice(0, 500)}`);
    return new Promise<T>((resolve, reject) => {
      const limit = setTimeout(() => reject(hangs), HANG_MS);
      const over = (): void => clearTimeout(limit);
      this.#waiting.set(id, {
        resolve(result) {
          over();
          resolve(result);
        },
        reject(error) {
          over();
          reject(error);
        },
      });
      this.#socket.send(JSON.stringify({ id, method, params }), (error) => {
        if (error) this.#end();
      });
    });
  }

  close(): void {
    this.#socket.terminate();
  }

  #take({ id, type, result, error, message }: Answer): void {
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (id === undefined || waiting === undefined) return;
    this.#waiting.delete(id);
    if (type === "success") waiting.resolve(result as never);
    else waiting.reject(new Error(`${error}: ${message}`));
  }

  #end(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(new Error("the browser is gone"));
  }
}
