/**
 * A QMP client over any connection: typed commands, events as they come.
 *
 * Invariants: one reply for each command, matched by id; when the connection ends, every command in flight rejects.
 * Answers are not checked against the schema (a newer daemon may say more). No event is lost silently: a reader that is too slow is
 * told so. Source: QEMU's QMP specification.
 */
import { readAddress } from "../../base/address.ts";
import { rescue } from "../../base/answer.ts";
import { asyncDispose } from "../../base/lease.ts";
import { CommandError, blockError, type QmpErrorClass } from "../../base/errors.ts";
import type { HostConnection, HostSockets } from "../../base/host.ts";
import { abortable, deferred, type Deferred, Wakeup } from "../../base/signals.ts";
import {
  isJsonObject,
  JsonStream,
  plainJson,
  stringifyJson,
  type ArgsOf,
  type CommandName,
  type EventName,
  type Json,
  type JsonObject,
  type ReturnOf,
  type EventDataOf,
} from "../../wire/qapi/index.ts";
import { limits } from "../../base/limits.ts";

/** An event as a client sees it; `microseconds` is the sender's wall clock, since 1970. */
export interface ClientEvent<N extends EventName = EventName> {
  readonly event: N;
  readonly data: EventDataOf<N>;
  readonly microseconds: number;
}

/** Any event, told apart by its name. */
export type AnyClientEvent = { [N in EventName]: ClientEvent<N> }[EventName];

/** What the EventTarget dispatches, under the QMP event's name and under `event`. */
export class QmpClientEvent extends Event {
  readonly detail: AnyClientEvent;
  constructor(type: string, detail: AnyClientEvent) {
    super(type);
    this.detail = detail;
  }
}

/** Events that wait for one iterator. */
export class EventQueue implements AsyncIterableIterator<AnyClientEvent> {
  readonly #events: AnyClientEvent[] = [];
  readonly #changed = new Wakeup();
  readonly #onReturn: () => void;
  #isFinished = false;
  #isOverrun = false;

  constructor(onReturn: () => void) {
    this.#onReturn = onReturn;
  }

  push(event: AnyClientEvent): void {
    if (this.#events.length >= limits.maxQmpClientEvents) this.#isOverrun = true;
    else this.#events.push(event);
    this.#changed.wake();
  }

  finish(): void {
    this.#isFinished = true;
    this.#changed.wake();
  }

  async next(): Promise<IteratorResult<AnyClientEvent>> {
    await this.#changed.until(() => this.#events.length > 0 || this.#isFinished || this.#isOverrun);
    const value = this.#events.shift();
    if (value) return { done: false, value };
    if (this.#isOverrun) throw new Error("QMP events were lost: their reader is too slow");
    return { done: true, value: undefined };
  }

  return(): Promise<IteratorResult<AnyClientEvent>> {
    this.#onReturn();
    this.finish();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<AnyClientEvent> {
    return this;
  }
}

/** A command's arguments may be left out where none is required. */
type Arguments<N extends CommandName> =
  Record<never, never> extends ArgsOf<N> ? [args?: ArgsOf<N>] : [args: ArgsOf<N>];

const CLASSES: readonly QmpErrorClass[] = [
  "GenericError",
  "CommandNotFound",
  "DeviceNotActive",
  "DeviceNotFound",
  "KVMMissingCap",
];

/** Options of QmpClient.connect(). */
export interface QmpConnectOptions {
  readonly signal?: AbortSignal | undefined;
  /** What an address is reached by; in the Node entry the process's own, by default. */
  readonly sockets?: HostSockets | undefined;
}

/** Connects to an address; what comes after the signal has aborted is closed again. */
async function opened(
  address: string,
  sockets: HostSockets | undefined,
  signal: AbortSignal | undefined,
): Promise<HostConnection> {
  // Without a word before it an address might be a path that was meant as one.
  const where = /^(?:unix|tcp):/.test(address) ? readAddress(address) : undefined;
  if (!where) {
    const message = `'${address}' is no address of a socket: unix:PATH or tcp:HOST:PORT`;
    throw blockError("EINVAL", "connect", message);
  }
  if (!sockets) throw blockError("ENOTSUP", "connect", `no sockets here for '${address}': give a connection`);
  const connecting = sockets.connect(where);
  return abortable(connecting, signal).catch((error: unknown) => {
    connecting.then((late) => late.close()).catch(() => undefined);
    throw error;
  });
}

/** The client. */
export class QmpClient extends EventTarget {
  readonly #connection: HostConnection;
  readonly #pending = new Map<number, Deferred<unknown>>();
  readonly #greeting = deferred<JsonObject>();
  readonly #iterators = new Set<EventQueue>();
  #nextId = 1;
  #failure: Error | undefined;

  /** By connect(). */
  protected constructor(connection: HostConnection) {
    super();
    this.#connection = connection;
    this.#greeting.promise.catch(() => undefined);
    void this.#read();
  }

  /**
   * Connects, waits for the greeting and negotiates. `target` is a connection, or where there are sockets (in Node) an address:
   * `unix:qmp.sock`, `tcp:localhost:4444`. Rejects if the other side is no QMP server, or with the signal's reason; ENOTSUP
   * for an address without sockets.
   */
  static async connect(target: HostConnection | string, options: QmpConnectOptions = {}): Promise<QmpClient> {
    const { signal, sockets } = options;
    signal?.throwIfAborted();
    const connection = typeof target === "string" ? await opened(target, sockets, signal) : target;
    const client = new this(connection);
    try {
      await abortable(client.#greeting.promise, signal);
      await abortable(client.execute("qmp_capabilities"), signal);
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /** What the server said of itself. */
  async greeting(): Promise<unknown> {
    return plainJson(await this.#greeting.promise);
  }

  /** Runs a command. Rejects with CommandError (the server's words and class), or Error if the connection ends. */
  async execute<N extends CommandName>(name: N, ...[args]: Arguments<N>): Promise<ReturnOf<N>> {
    return (await this.executeRaw(name, args)) as ReturnOf<N>;
  }

  /** As execute, for a command that the schema does not know. */
  async executeRaw(name: string, args?: object): Promise<unknown> {
    if (this.#failure) throw this.#failure;
    const id = this.#nextId++;
    const reply = deferred<unknown>();
    this.#pending.set(id, reply);
    const line = `${stringifyJson({ execute: name, arguments: args, id })}\n`;
    void rescue(
      () => this.#connection.write(new TextEncoder().encode(line)),
      (error) => this.#end(error instanceof Error ? error : new Error(String(error))),
    );
    return reply.promise;
  }

  /** Calls `listener` for each event of this name until the returned function is called. */
  on<N extends EventName>(name: N, listener: (event: ClientEvent<N>) => void): () => void {
    const handle = (event: Event): void => {
      if (event instanceof QmpClientEvent) listener(event.detail as ClientEvent<N>);
    };
    this.addEventListener(name, handle);
    return () => this.removeEventListener(name, handle);
  }

  /**
   * The events from now on. Ends with the connection; throws if more events wait than limits.maxQmpClientEvents.
   * The subscription begins with this call, not with the first `next`.
   */
  events(): AsyncIterableIterator<AnyClientEvent> {
    const queue = new EventQueue(() => this.#iterators.delete(queue));
    if (this.#failure) queue.finish();
    else this.#iterators.add(queue);
    return queue;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<AnyClientEvent> {
    return this.events();
  }

  /** Closes the connection; commands in flight reject. */
  async close(): Promise<void> {
    this.#end(new Error("the QMP connection is closed"));
    await this.#connection.close().catch(() => undefined);
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  async #read(): Promise<void> {
    const stream = new JsonStream();
    try {
      for await (const bytes of this.#connection.incoming) {
        for (const item of stream.feed(bytes)) {
          if (item.kind === "error") throw new Error(`the QMP server sent no JSON: ${item.message}`);
          this.#message(item.value);
        }
        if (this.#failure) break;
      }
      this.#end(new Error("the QMP server has closed the connection"));
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
      await this.#connection.close().catch(() => undefined);
    }
  }

  #message(message: Json): void {
    if (!isJsonObject(message)) throw new Error("the QMP server sent something that is no object");
    if (isJsonObject(message["QMP"])) return this.#greeting.resolve(message["QMP"]);
    if (typeof message["event"] === "string") return this.#event(message["event"], message);
    const id = message["id"];
    const reply = typeof id === "number" ? this.#pending.get(id) : undefined;
    if (typeof id !== "number" || reply === undefined) return;
    this.#pending.delete(id);
    const error = message["error"];
    if (!isJsonObject(error)) return reply.resolve(plainJson(message["return"] ?? {}));
    const qmpClass = CLASSES.find((known) => known === error["class"]) ?? "GenericError";
    const desc = typeof error["desc"] === "string" ? error["desc"] : "unknown error";
    reply.reject(new CommandError(desc, { qmpClass }));
  }

  #event(name: string, message: JsonObject): void {
    const stamp = message["timestamp"];
    const part = (key: string): number => Number(isJsonObject(stamp) ? plainJson(stamp[key] ?? 0) : 0);
    // The server's word is taken for the data's form; unknown events go through under their own name.
    const detail = {
      event: name,
      data: plainJson(message["data"] ?? {}),
      microseconds: part("seconds") * 1_000_000 + part("microseconds"),
    } as AnyClientEvent;
    for (const queue of this.#iterators) queue.push(detail);
    this.dispatchEvent(new QmpClientEvent(name, detail));
    this.dispatchEvent(new QmpClientEvent("event", detail));
  }

  #end(reason: Error): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#greeting.reject(reason);
    for (const reply of this.#pending.values()) reply.reject(reason);
    this.#pending.clear();
    for (const queue of this.#iterators) queue.finish();
    this.#iterators.clear();
    this.dispatchEvent(new Event("close"));
  }
}
