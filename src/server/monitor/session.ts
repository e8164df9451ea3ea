/**
 * One QMP client: bytes in, lines out; and how it is joined to a connection.
 *
 * States: negotiating (only qmp_capabilities) → ready → closed. Commands run one after another, save those out of band, which wait for
 * no other; `feed` does not resolve while the queue is full, so the transport stops reading. Events go to clients that have negotiated.
 * A byte that no JSON holds ends the connection (a browser can be made to send HTTP to this port), unless the session is told to
 * resume, as QEMU does. Source: QEMU's QMP specification; behaviour of qemu-storage-daemon 7.2.
 */
import type { EventBus } from "../../base/event-bus.ts";
import type { Clock, HostConnection } from "../../base/host.ts";
import { CommandError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { Wakeup, onAbort } from "../../base/signals.ts";
import {
  isJsonObject,
  JsonStream,
  validateArguments,
  type Json,
  type JsonItem,
  type JsonLimits,
  type QmpEvent,
} from "../../wire/qapi/index.ts";
import {
  OutputQueue,
  type WriteBytes,
  formatError,
  formatEvent,
  formatGreeting,
  formatReply,
  isProgramFault,
  toQmpError,
  type RequestId,
} from "./output.ts";
import { HeldEvents } from "./held-events.ts";
import { type CommandContext, type CommandRegistry, idOf, parseRequest } from "./registry.ts";

/** What a session needs. */
export interface QmpSessionOptions<E> {
  readonly registry: CommandRegistry<E>;
  readonly engine: E;
  readonly events: EventBus<QmpEvent>;
  readonly clock: Clock;
  /** By which events are held back (HeldEvents); default: `clock`. */
  readonly eventClock?: Pick<Clock, "timer"> | undefined;
  readonly write: WriteBytes;
  /** See CommandContext. */
  readonly takeDescriptor?: (() => number | undefined) | undefined;
  /** Called once, when the session has ended from this side. */
  readonly onClose?: (reason: string) => void;
  /** Told of faults of the program (broken invariants in handlers). */
  readonly onFault?: (error: unknown) => void;
  /** After input that is no JSON at all: `close` (default), or `resume` as QEMU does (for a person at a terminal). */
  readonly onLexicalError?: "close" | "resume";
  /** Spaces of indentation a level, 0 (default) for one line a message. */
  readonly indent?: number;
  /** Commands that may wait. */
  readonly maxQueue?: number;
  /** Bytes that may wait for the client. */
  readonly maxOutputBytes?: number;
  readonly jsonLimits?: JsonLimits;
}

/** The states of a session. */
export type QmpSessionState = "negotiating" | "ready" | "closed";

/** The session. */
export class QmpSession<E> {
  readonly #options: QmpSessionOptions<E>;
  readonly #input: JsonStream;
  readonly #output: OutputQueue;
  readonly #style: { readonly indent: number };
  readonly #held: HeldEvents;
  readonly #queue: JsonItem[] = [];
  readonly #changed = new Wakeup();
  readonly #unsubscribe: () => void;
  #state: QmpSessionState = "negotiating";
  #isRunning = false;
  /** The client has enabled out-of-band execution. */
  #oob = false;

  /** Sends the greeting at once. */
  constructor(options: QmpSessionOptions<E>) {
    this.#options = options;
    this.#input = new JsonStream(options.jsonLimits);
    this.#output = new OutputQueue({
      write: options.write,
      onFailure: (reason) => this.close(reason.message),
      ...(options.maxOutputBytes === undefined ? {} : { limitBytes: options.maxOutputBytes }),
    });
    this.#style = { indent: options.indent ?? 0 };
    this.#held = new HeldEvents(options.eventClock ?? options.clock);
    this.#unsubscribe = options.events.subscribe((event) => {
      if (this.#state !== "ready") return;
      const line = formatEvent(event, options.clock.wallMicroseconds(), this.#style);
      this.#held.pass(event, () => this.#send(line));
    });
    this.#send(formatGreeting(options.registry.version, this.#style));
  }

  get state(): QmpSessionState {
    return this.#state;
  }

  /** Takes bytes from the client. Resolves when the session has room for more, or has closed. Not re-entrant. */
  async feed(bytes: Uint8Array): Promise<void> {
    const room = this.#options.maxQueue ?? limits.maxQmpQueue;
    for (const item of this.#input.feed(bytes)) {
      if (this.#state === "closed") return;
      if (this.#isOutOfBand(item)) {
        await this.#answer(item);
        continue;
      }
      this.#queue.push(item);
      if (!this.#isRunning) void this.#run();
      await this.#changed.until(() => this.#queue.length < room || this.#state === "closed");
    }
  }

  /** Waits until every command taken so far is answered and the answers are handed over. */
  async idle(): Promise<void> {
    await this.#changed.until(
      () => (!this.#isRunning && this.#queue.length === 0) || this.#state === "closed",
    );
    await this.#output.flushed();
  }

  /** Waits until what was said so far is handed over, or can't be. */
  flushed(): Promise<void> {
    return this.#output.flushed();
  }

  /** Ends the session; a command that is running ends unanswered. May be called in any state. */
  close(reason = "closed"): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#unsubscribe();
    this.#held.end();
    this.#queue.length = 0;
    this.#output.end();
    this.#changed.wake();
    this.#options.onClose?.(reason);
  }

  #send(line: string): void {
    if (this.#state !== "closed") this.#output.push(line);
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let item = this.#queue[0]; item; item = this.#queue[0]) {
      await this.#answer(item);
      if (this.#state === "closed") break;
      this.#queue.shift();
      this.#changed.wake();
    }
    this.#isRunning = false;
    this.#changed.wake();
  }

  async #answer(item: JsonItem): Promise<void> {
    if (item.kind === "error") {
      this.#sendError(new CommandError(item.message), undefined);
      if (!item.lexical || this.#options.onLexicalError === "resume") return;
      await this.#output.flushed();
      return this.close("input that is not JSON");
    }
    const id = idOf(item.value);
    const callbacks: (() => void)[] = [];
    const context: CommandContext<E> = {
      engine: this.#options.engine,
      afterReply: (callback) => callbacks.push(callback),
      takeDescriptor: this.#options.takeDescriptor,
    };
    try {
      const value = await this.#execute(item.value, context);
      this.#send(formatReply(value, id, this.#style));
    } catch (error) {
      if (isProgramFault(error)) this.#options.onFault?.(error);
      this.#sendError(error, id);
    }
    await (callbacks.length > 0 ? this.#output.flushed() : this.#output.hasRoom());
    for (const callback of callbacks) callback();
  }

  #isOutOfBand(item: JsonItem): boolean {
    return this.#oob && item.kind === "value" && isJsonObject(item.value) && "exec-oob" in item.value;
  }

  #sendError(error: unknown, id: RequestId): void {
    this.#send(formatError(toQmpError(error), id, this.#style));
  }

  async #execute(message: Json, context: CommandContext<E>): Promise<unknown> {
    const { command, args, isOutOfBand } = parseRequest(message, { oob: this.#oob });
    if (isOutOfBand) return this.#options.registry.runOutOfBand(command);
    if (command === "qmp_capabilities") return this.#negotiate(args);
    if (this.#state === "negotiating") {
      throw new CommandError("Expecting capabilities negotiation with 'qmp_capabilities'", {
        qmpClass: "CommandNotFound",
      });
    }
    return await this.#options.registry.run(command, args, context);
  }

  #negotiate(args: Json): void {
    const { enable = [] } = validateArguments("qmp_capabilities", args);
    if (this.#state !== "negotiating") {
      throw new CommandError("Capabilities negotiation is already complete, command ignored", {
        qmpClass: "CommandNotFound",
      });
    }
    this.#oob = enable.includes("oob");
    this.#state = "ready";
  }
}

/** A connection whose client may hand descriptors over: `waiting`: one came that no command took. */
type MonitorConnection = HostConnection & {
  readonly descriptors?: { readonly waiting: boolean; take(): number | undefined } | undefined;
};

/** How long a client may take what was said to it before the service ended, ms. */
const FAREWELL_MS = 1000;

/**
 * Serves one client until it, or the session, closes; commands already read are answered first. Never rejects: how a client goes away
 * is nobody's error. `signal` closes the connection once the client has taken what was said before, or has not within a second.
 */
export async function serveMonitor<E>(
  connection: MonitorConnection,
  options: Omit<QmpSessionOptions<E>, "write"> & { readonly signal?: AbortSignal },
): Promise<void> {
  const { signal, ...sessionOptions } = options;
  const closeConnection = (): void => void connection.close().catch(() => undefined);
  const session = new QmpSession<E>({
    ...sessionOptions,
    write: async (bytes) => connection.write(bytes),
    takeDescriptor: connection.descriptors && (() => connection.descriptors?.take()),
    onClose: (reason) => {
      options.onClose?.(reason);
      closeConnection();
    },
  });
  const abort = (): void => {
    const cancel = options.clock.timer(FAREWELL_MS, () => session.close("shut down"));
    void session.flushed().finally(() => {
      cancel();
      session.close("shut down");
    });
  };
  const forget = onAbort(signal, abort);
  if (signal?.aborted) abort();
  try {
    for await (const bytes of connection.incoming) {
      await session.feed(bytes);
      // What comes next would take the place of a descriptor that is meant for a command that waits.
      if (connection.descriptors?.waiting) await session.idle();
      if (session.state === "closed") break;
    }
    await session.idle();
  } catch {
    // The connection broke: the same as its end.
  } finally {
    forget();
    session.close("the client has gone");
    closeConnection();
  }
}
