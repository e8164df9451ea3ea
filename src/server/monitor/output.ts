/**
 * What a monitor sends: greeting, replies and events, a line each, and the queue of those on their way to one client. The one
 * place where an error becomes QMP's `{class, desc}`. Source: QEMU's QMP specification (docs/interop/qmp-spec).
 *
 * Invariants: lines leave in the order in which they were pushed; commands wait while a quarter of the limit is on its way, events
 * never wait, and a client that falls behind by more than the limit is given up.
 */
import { limits } from "../../base/limits.ts";
import { Wakeup } from "../../base/signals.ts";
import { AssertionError } from "../../base/assert.ts";
import { CommandError, firstFailure, messageOf, type QmpErrorClass } from "../../base/errors.ts";
import { withoutPassword } from "../../base/names.ts";
import { stringifyJson, type Json, type QmpEvent, type TypeOf } from "../../wire/qapi/index.ts";

/** Hands bytes to the transport; resolves when it takes more. */
export type WriteBytes = (bytes: Uint8Array) => Promise<void>;

/** The queue. */
export class OutputQueue {
  readonly #write: WriteBytes;
  readonly #limitBytes: number;
  readonly #onFailure: (reason: Error) => void;
  readonly #moved = new Wakeup();
  readonly #encoder = new TextEncoder();
  #lines: Uint8Array[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #failure: Error | undefined;

  /** `onFailure` is called once: after a failed write, or when the client is too far behind. */
  constructor(options: { write: WriteBytes; onFailure: (reason: Error) => void; limitBytes?: number }) {
    this.#write = options.write;
    this.#onFailure = options.onFailure;
    this.#limitBytes = options.limitBytes ?? limits.maxQmpOutputBytes;
  }

  /** Queues a line. Lines pushed after a failure are dropped. */
  push(line: string): void {
    if (this.#failure) return;
    const bytes = this.#encoder.encode(line);
    // One line may be longer than the limit (a large reply); a backlog may not.
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes.length > this.#limitBytes) {
      return this.#fail(new Error("the client does not read its replies and events"));
    }
    this.#lines.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#isWriting) void this.#run();
  }

  /** Waits while so much is on its way that nothing should be added: as QEMU, a client may send before it reads. */
  async hasRoom(): Promise<void> {
    const most = this.#limitBytes / 4;
    await this.#moved.until(() => this.#failure !== undefined || this.#waitingBytes <= most);
  }

  /** Waits until every line has been handed over, or the queue has failed. */
  async flushed(): Promise<void> {
    await this.#moved.until(() => this.#failure !== undefined || this.#waitingBytes === 0);
  }

  /** The client is given up: what it has not taken is dropped, and nobody waits for it any more. */
  end(): void {
    this.#failure ??= new Error("the session has ended");
    this.#lines = [];
    this.#moved.wake();
  }

  async #run(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let next = this.#lines.shift(); next && !this.#failure; next = this.#lines.shift()) {
        await this.#write(next);
        this.#waitingBytes -= next.length;
        this.#moved.wake();
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#isWriting = false;
    }
  }

  #fail(reason: Error): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#lines = [];
    this.#moved.wake();
    this.#onFailure(reason);
  }
}

/** An error as QMP shows it. */
export interface QmpError {
  readonly class: QmpErrorClass;
  readonly desc: string;
}

/** How lines are written: spaces of indentation a level, 0 for one line a message. */
export interface LineStyle {
  readonly indent: number;
}

/** A request's id, echoed; undefined if it had none. */
export type RequestId = Json | undefined;

function line(message: object, style: LineStyle): string {
  return `${stringifyJson(message, style.indent)}\r\n`;
}

/** The greeting. */
export function formatGreeting(version: TypeOf<"VersionInfo">, style: LineStyle): string {
  return line({ QMP: { version, capabilities: ["oob"] } }, style);
}

/** A successful reply; `undefined` answers `{}`. */
export function formatReply(value: unknown, id: RequestId, style: LineStyle): string {
  return line({ return: value ?? {}, id }, style);
}

/** An error reply. */
export function formatError(error: QmpError, id: RequestId, style: LineStyle): string {
  return line({ id, error }, style);
}

/** An event, stamped with wall-clock `microseconds` since 1970. `data` is left out if it is empty. */
export function formatEvent(event: QmpEvent, microseconds: number, style: LineStyle): string {
  const timestamp = {
    seconds: Math.floor(microseconds / 1_000_000),
    microseconds: Math.floor(microseconds % 1_000_000),
  };
  const data = Object.keys(event.data).length > 0 ? event.data : undefined;
  return line({ timestamp, event: event.event, data }, style);
}

/** The QMP form of anything thrown: a CommandError's own class, GenericError for the rest. */
export function toQmpError(thrown: unknown): QmpError {
  const error = firstFailure(thrown);
  const qmpClass = error instanceof CommandError ? error.qmpClass : "GenericError";
  return { class: qmpClass, desc: withoutPassword(messageOf(error)) };
}

/** Whether `error` is a fault of the program and should be logged. */
export function isProgramFault(error: unknown): boolean {
  const isFault = error instanceof AssertionError || error instanceof TypeError;
  return isFault || error instanceof ReferenceError || error instanceof RangeError;
}
