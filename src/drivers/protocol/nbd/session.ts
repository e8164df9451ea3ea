/**
 * One connection to an NBD server: connected, agreed on an export, and then requests and their replies.
 *
 * Invariants: a session that has failed once does nothing any more: whoever waits gets the same failure, and no byte that comes
 * later is looked at. The handshake has a limit of time. Data goes from the socket's buffer straight to the request's memory.
 */
import { guarded, isPromise, rescue } from "../../../base/answer.ts";
import { assert } from "../../../base/assert.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../../base/errors.ts";
import type { Host, HostConnection, HostReceiver } from "../../../base/host.ts";
import { limits } from "../../../base/limits.ts";
import { onAbort, settleAll } from "../../../base/signals.ts";
import { Inbox } from "../../../wire/nbd/bytes.ts";
import { type Agreement, negotiate, type Step } from "../../../wire/nbd/client/negotiation.ts";
import { type Awaited, type Reply, ReplyReader } from "../../../wire/nbd/client/replies.ts";
import { command } from "../../../wire/nbd/constants.ts";
import { encodeRequest } from "../../../wire/nbd/transmission.ts";
import type { NbdOptions } from "./options.ts";

/** A request. */
export interface NbdRequest extends Awaited {
  /** commandFlag. */
  readonly flags: number;
  /** A write's data. */
  readonly payload?: Uint8Array;
}

/** The connection is lost, or the server broke the protocol (`isBreach`), and with it all requests under way. */
export class LostLink extends BlockError {
  readonly isBreach: boolean;

  constructor(cause: unknown, { isBreach }: { isBreach: boolean }) {
    super({ code: "EIO", op: "nbd", cause, ...(isBreach ? { message: breachWords(cause) } : {}) });
    this.isBreach = isBreach;
  }
}

function breachWords(cause: unknown): string {
  return `The NBD server broke the protocol: ${cause instanceof Error ? cause.message : String(cause)}`;
}

interface Waiting extends Awaited {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

/** What comes during the handshake, for whom waits for so many bytes. */
class Incoming implements HostReceiver {
  readonly #inbox = new Inbox();
  /** Why no more comes, and why nobody waits for it any more. */
  #ended: BlockError | undefined;
  #failed: Error | undefined;
  #wake: (() => void) | undefined;
  /** After the handshake: who takes everything. */
  onward: HostReceiver | undefined;

  take(bytes: Uint8Array): void {
    if (this.onward) return this.onward.take(bytes);
    // The memory is used again.
    this.#inbox.push(bytes.slice());
    this.#wake?.();
  }

  place(): Uint8Array | undefined {
    return this.onward?.place?.();
  }

  placed(count: number): void {
    this.onward?.placed?.(count);
  }

  end(error?: BlockError): void {
    this.#ended =
      error === undefined
        ? blockError("EIO", "open", "Unexpected end-of-file before all data were read")
        : blockError(error.code, "open", `Unable to read from socket: ${error.message}`);
    this.onward?.end(error);
    this.#wake?.();
  }

  /** The next bytes. Rejects where they do not come: with what they were to be. */
  async read(count: number, what: string): Promise<Uint8Array> {
    for (;;) {
      const bytes = this.#inbox.take(count);
      if (bytes) return bytes;
      if (this.#failed) throw this.#failed;
      if (this.#ended)
        throw blockError(this.#ended.code, "open", `Failed to read ${what}: ${this.#ended.message}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Whether something has come that nobody waited for. */
  get hasMore(): boolean {
    return this.#inbox.length > 0;
  }

  /** Hands over what is here, and all that comes. */
  handOver(onward: HostReceiver): void {
    this.onward = onward;
    const rest = this.#inbox.take(this.#inbox.length);
    if (rest && rest.byteLength > 0) onward.take(rest);
    if (this.#ended) onward.end();
  }

  /** Ends the wait of read(). */
  fail(error: Error): void {
    this.#failed ??= error;
    this.#wake?.();
  }
}

/** A connection in transmission. */
export class Session implements HostReceiver {
  readonly agreement: Agreement;
  readonly #connection: HostConnection;
  readonly #replies: ReplyReader;
  readonly #waiting = new Map<bigint, Waiting>();
  #cookie = 0n;
  #lost: LostLink | undefined;

  private constructor(connection: HostConnection, agreement: Agreement) {
    this.#connection = connection;
    this.agreement = agreement;
    const finish = (cookie: bigint, reply: Reply): void => {
      const waiting = this.#waiting.get(cookie);
      this.#waiting.delete(cookie);
      waiting?.resolve(reply);
    };
    this.#replies = new ReplyReader({ find: (cookie) => this.#waiting.get(cookie), finish }, agreement);
  }

  /** Connects and agrees. Rejects with what connecting fails with, a ServerRefusal, a protocolError(), or the signal's reason. */
  static async open(host: Host, options: NbdOptions, signal?: AbortSignal): Promise<Session> {
    if (!host.sockets) throw blockError("ENOTSUP", "open", "This platform has no sockets");
    const attempt = new AbortController();
    const limit = limits.nbdHandshakeSeconds;
    const late = blockError("ETIMEDOUT", "open", `The NBD server took more than ${limit} seconds to agree`);
    let incoming = new Incoming();
    const end = (why: Error): void => {
      attempt.abort(why);
      incoming.fail(why);
    };
    const stop = host.clock.timer(limit * 1000, () => end(late));
    const forget = signal && onAbort(signal, () => end(signal.reason as Error));
    try {
      const plain = await host.sockets.connect(options.address, {
        receiver: incoming,
        signal: attempt.signal,
      });
      let connection = plain;
      try {
        const switchOver = async (): Promise<Incoming> => {
          if (incoming.hasMore) throw blockError("EIO", "open", "The server spoke before TLS began");
          incoming = new Incoming();
          connection = await startTls(connection, incoming, options);
          return incoming;
        };
        const agreement = await agree({ options, incoming, connection: () => connection, switchOver });
        const session = new Session(connection, agreement);
        incoming.handOver(session);
        return session;
      } catch (error) {
        drop(connection);
        throw error;
      }
    } finally {
      stop();
      forget?.();
    }
  }

  get isAlive(): boolean {
    return this.#lost === undefined;
  }

  /** Sends a request, and answers when its reply is here. Rejects with LostLink. */
  request(request: NbdRequest): Promise<Reply> {
    if (this.#lost) return Promise.reject(this.#lost);
    const { type, flags, offset, length, payload } = request;
    const cookie = ++this.#cookie;
    const header = encodeRequest({ type, flags, offset, length, cookie });
    assert(!payload || payload.byteLength === length, "a request has its data");
    const reply = new Promise<Reply>((resolve, reject) => {
      this.#waiting.set(cookie, { ...request, resolve, reject });
    });
    const sending = guarded(() =>
      rescue(
        () => this.#connection.write(header, payload),
        (error) => {
          throw this.#fail(error, false);
        },
      ),
    );
    if (!isPromise(sending)) return reply;
    if (payload) return this.#whenSent(reply, sending);
    // Who waits for the reply is told of it.
    sending.catch(() => undefined);
    return reply;
  }

  /** A server may refuse before it has read all of the data, which must stay as it is until it is sent. */
  async #whenSent(reply: Promise<Reply>, sending: Promise<void>): Promise<Reply> {
    await settleAll<unknown>([reply, sending]);
    return reply;
  }

  take(bytes: Uint8Array): void {
    this.#understand(() => this.#replies.push(bytes));
  }

  place(): Uint8Array | undefined {
    return this.#lost ? undefined : this.#replies.place();
  }

  placed(count: number): void {
    this.#understand(() => this.#replies.placed(count));
  }

  /** Once it is lost, nothing that comes is looked at. */
  #understand(take: () => void): void {
    if (this.#lost) return;
    try {
      take();
    } catch (error) {
      this.#fail(error, true);
    }
  }

  end(error?: BlockError): void {
    this.#fail(error ?? blockError("EIO", "nbd", "The NBD server closed the connection"), false);
  }

  /** Ends it, if it has not ended yet; answers why it did. */
  #fail(cause: unknown, isBreach: boolean): LostLink {
    if (this.#lost) return this.#lost;
    const lost = new LostLink(cause, { isBreach });
    this.#lost = lost;
    drop(this.#connection);
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(lost);
    return lost;
  }

  /** Says good-bye. Nothing may be under way. */
  async close(): Promise<void> {
    if (this.#lost) return;
    this.#lost = new LostLink(undefined, { isBreach: false });
    const { disconnect: type } = command;
    const bye = encodeRequest({ type, flags: 0, offset: 0, length: 0, cookie: ++this.#cookie });
    await rescue(
      () => this.#connection.write(bye),
      () => undefined,
    );
    await this.#connection.close();
  }

  /** Drops the connection with all that waits. */
  abort(cause: unknown): void {
    this.#fail(cause, false);
  }
}

function drop(connection: HostConnection): void {
  if (connection.abort) return connection.abort();
  connection.close().catch(() => undefined);
}

function startTls(
  connection: HostConnection,
  receiver: HostReceiver,
  { tls }: NbdOptions,
): Promise<HostConnection> {
  if (!connection.startTls || !tls)
    throw blockError("ENOTSUP", "open", "This platform has no TLS for sockets");
  const { credentials, hostname } = tls;
  const named = hostname === undefined ? {} : { hostname };
  return connection.startTls({ role: "client", credentials, ...named, receiver });
}

async function send(
  connection: HostConnection,
  { send: bytes, what }: { send: Uint8Array; what: string },
): Promise<void> {
  try {
    await connection.write(bytes);
  } catch (error) {
    const message = `Failed to send ${what}: Unable to write to socket: ${messageOf(error)}`;
    throw blockError(errnoOf(error), "open", message);
  }
}

interface Agreeing {
  readonly options: NbdOptions;
  readonly incoming: Incoming;
  readonly connection: () => HostConnection;
  readonly switchOver: () => Promise<Incoming>;
}

async function agree({ options, incoming, connection, switchOver }: Agreeing): Promise<Agreement> {
  const { exportName, context, tls } = options;
  const steps = negotiate({ exportName, context, tls: tls !== undefined });
  let from = incoming;
  let next: IteratorResult<Step, Agreement> = steps.next();
  const nothing: Uint8Array = new Uint8Array(0);
  while (!next.done) {
    const step = next.value;
    let came: Uint8Array = nothing;
    if ("send" in step) await send(connection(), step);
    else if ("receive" in step) came = await from.read(step.receive, step.what);
    else from = await switchOver();
    next = steps.next(came);
  }
  return next.value;
}
