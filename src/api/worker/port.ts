/**
 * Calls over a message port: who asks numbers its calls, who answers gives the number back. Any number may be under way.
 *
 * Invariants: calls are begun in the order in which they were made; every call settles, with EIO when the port goes
 * first; errors arrive as what they were (class, errno, text). A closing end says `bye`, since not every browser tells
 * the other end of a port that was closed.
 */
import { isErrno } from "../../base/errno.ts";
import {
  BlockError,
  CommandError,
  ImageError,
  type QmpErrorClass,
  firstFailure,
  messageOf,
} from "../../base/errors.ts";
import { type Deferred, deferred, onAbort } from "../../base/signals.ts";

/** What is needed of a MessagePort or a Worker, of browsers or of Node. */
export interface PortLike {
  /** `transfer`: buffers, ports and streams. The DOM's own type of them is none of Node's. */
  postMessage(message: unknown, transfer: object[]): void;
  addEventListener(type: string, listener: (event: Event) => void): void;
  removeEventListener(type: string, listener: (event: Event) => void): void;
  /** Ports only: lets messages come. */
  start?(): void;
  /** Ports only. */
  close?(): void;
}

/** Calls by name: what each takes and gives. */
export type CallTable = Record<string, { args: object; value: unknown }>;

/** What a handler gets beside the arguments. */
export interface CallContext {
  /** The caller has lost interest. */
  readonly signal: AbortSignal;
  /** What the answer hands over rather than copies. */
  readonly transfer: object[];
}

/** The functions that answer calls. */
export type CallHandlers<C extends CallTable> = {
  readonly [N in keyof C]: (args: C[N]["args"], context: CallContext) => Promise<C[N]["value"]>;
};

/** An error as it crosses. */
interface WireError {
  type: string;
  message: string;
  details: Record<string, unknown>;
}

type Message =
  | { call: number; method: string; args: object }
  | { answer: number; value?: unknown; error?: WireError }
  | { abort: number }
  | { bye: true };

/** The data of a message event. */
export function dataOf(event: Event): unknown {
  return (event as MessageEvent<unknown>).data;
}

function messageIn(event: Event): Message | undefined {
  const data = dataOf(event);
  return typeof data === "object" && data !== null ? (data as Message) : undefined;
}

const DETAILS = ["code", "op", "node", "offset", "bytes", "structure", "field", "qmpClass"] as const;

function toWire(thrown: unknown): WireError {
  const error = firstFailure(thrown);
  const source = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
  const details: Record<string, unknown> = {};
  for (const name of DETAILS) if (source[name] !== undefined) details[name] = source[name];
  const known =
    error instanceof ImageError ? "ImageError" : error instanceof BlockError ? "BlockError" : "Error";
  return {
    type: error instanceof CommandError ? "CommandError" : known,
    message: messageOf(error),
    details,
  };
}

function fromWire({ type, message, details }: WireError): Error {
  if (type === "CommandError") {
    const code = isErrno(details["code"]) ? details["code"] : undefined;
    return new CommandError(message, { qmpClass: details["qmpClass"] as QmpErrorClass, code });
  }
  if (type === "Error") return new Error(message);
  const code = isErrno(details["code"]) ? details["code"] : "EIO";
  const op = typeof details["op"] === "string" ? details["op"] : "remote";
  const place: { node?: string; offset?: number; bytes?: number } = {};
  if (typeof details["node"] === "string") place.node = details["node"];
  if (typeof details["offset"] === "number") place.offset = details["offset"];
  if (typeof details["bytes"] === "number") place.bytes = details["bytes"];
  if (type !== "ImageError") return new BlockError({ code, op, message, ...place });
  const field = typeof details["field"] === "string" ? { field: details["field"] } : {};
  return new ImageError({ code, op, message, ...place, structure: String(details["structure"]), ...field });
}

/** The error of calls whose other end has gone. */
export function goneError(why: string, cause?: unknown): BlockError {
  return new BlockError({
    code: "EIO",
    op: "remote",
    message: why,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The calling end of a port. */
export class PortCaller<C extends CallTable> {
  /** Resolves when the other end has gone, or end() was called. */
  readonly ended: Promise<Error>;
  readonly #port: PortLike;
  readonly #pending = new Map<number, Deferred<unknown>>();
  readonly #ended = deferred<Error>();
  #next = 1;
  #failure: Error | undefined;

  constructor(port: PortLike) {
    this.#port = port;
    this.ended = this.#ended.promise;
    port.addEventListener("message", this.#onMessage);
    port.addEventListener("close", this.#onClose);
    port.start?.();
  }

  /** Why no call can be made any more. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /**
   * Makes a call. It is posted before this returns. Of an abort the other end is told, and the call ends
   * with what it answers then.
   */
  async call<N extends keyof C & string>(
    method: N,
    args: C[N]["args"],
    { signal, transfer = [] }: { signal?: AbortSignal | undefined; transfer?: object[] } = {},
  ): Promise<C[N]["value"]> {
    if (this.#failure) throw this.#failure;
    signal?.throwIfAborted();
    const id = this.#next++;
    const answer = deferred<unknown>();
    this.#port.postMessage({ call: id, method, args } satisfies Message, transfer);
    this.#pending.set(id, answer);
    const promise = answer.promise as Promise<C[N]["value"]>;
    if (!signal) return promise;
    const forget = onAbort(signal, () => {
      if (this.#pending.has(id)) this.#port.postMessage({ abort: id } satisfies Message, []);
    });
    return promise.finally(forget);
  }

  /** Ends it from this side: what is under way rejects with `reason`. May be called again. */
  end(reason: Error): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#port.removeEventListener("message", this.#onMessage);
    this.#port.removeEventListener("close", this.#onClose);
    for (const answer of this.#pending.values()) answer.reject(reason);
    this.#pending.clear();
    this.#ended.resolve(reason);
    this.#port.postMessage({ bye: true } satisfies Message, []);
    this.#port.close?.();
  }

  readonly #onClose = (): void => this.end(goneError("the worker has gone"));

  readonly #onMessage = (event: Event): void => {
    const message = messageIn(event);
    if (!message) return;
    if ("bye" in message) return this.#onClose();
    if (!("answer" in message)) return;
    const answer = this.#pending.get(message.answer);
    this.#pending.delete(message.answer);
    if (message.error) answer?.reject(fromWire(message.error));
    else answer?.resolve(message.value);
  };
}

/** The answering end of a port. */
export class PortServer<C extends CallTable> {
  /** Resolves when the caller has gone, or end() was called. */
  readonly ended: Promise<void>;
  readonly #port: PortLike;
  readonly #handlers: CallHandlers<C>;
  readonly #underWay = new Map<number, AbortController>();
  readonly #ended = deferred();
  #isOver = false;

  constructor(port: PortLike, handlers: CallHandlers<C>) {
    this.#port = port;
    this.#handlers = handlers;
    this.ended = this.#ended.promise;
    port.addEventListener("message", this.#onMessage);
    port.addEventListener("close", this.#onClose);
    port.start?.();
  }

  /** Takes no more calls; those under way are told and not answered. May be called again. */
  readonly end = (): void => {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#port.removeEventListener("message", this.#onMessage);
    this.#port.removeEventListener("close", this.#onClose);
    const gone = goneError("the caller has gone");
    for (const abort of this.#underWay.values()) abort.abort(gone);
    this.#ended.resolve();
    this.#port.postMessage({ bye: true } satisfies Message, []);
    this.#port.close?.();
  };

  readonly #onClose = this.end;

  readonly #onMessage = (event: Event): void => {
    const message = messageIn(event);
    if (!message) return;
    if ("bye" in message) this.end();
    else if ("abort" in message) this.#underWay.get(message.abort)?.abort();
    else if ("call" in message) void this.#serve(message);
  };

  async #serve({ call, method, args }: { call: number; method: string; args: object }): Promise<void> {
    const abort = new AbortController();
    const context = { signal: abort.signal, transfer: [] as object[] };
    this.#underWay.set(call, abort);
    let answer: Message;
    try {
      if (!Object.hasOwn(this.#handlers, method)) throw new Error(`the worker knows no call '${method}'`);
      answer = { answer: call, value: await this.#handlers[method as keyof C](args, context) };
    } catch (error) {
      answer = { answer: call, error: toWire(error) };
    }
    this.#underWay.delete(call);
    if (!this.#isOver) this.#port.postMessage(answer, context.transfer);
  }
}
