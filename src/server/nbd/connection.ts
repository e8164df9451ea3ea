/**
 * One client of an NBD server: its handshake, then its requests, of which several are under way.
 *
 * Invariants: nothing more is read while `nbdClientRequests` are under way, or while a write waits for memory, so a client that sends
 * faster or reads slower than it is served waits; when the client is gone its requests are carried out to their end, unanswered; a
 * client that does not get on with its handshake is dropped.
 */
import { type Answer, andThen, ending, guarded, isPromise, rescue } from "../../base/answer.ts";
import { AssertionError } from "../../base/assert.ts";
import { messageOf } from "../../base/errors.ts";
import type { Clock, FileRange, HostConnection, TlsCredentials } from "../../base/host.ts";
import { KiB, limits } from "../../base/limits.ts";
import { Wakeup } from "../../base/signals.ts";
import { Req } from "../../block/model/contract.ts";
import { command, commandFlag, REQUEST_BYTES } from "../../wire/nbd/constants.ts";
import { type Agreement, ServerHandshake } from "../../wire/nbd/server-handshake.ts";
import { checkNbdRequest, hasPayload } from "../../wire/nbd/server-requests.ts";
import { decodeRequest, type NbdRequest } from "../../wire/nbd/transmission.ts";
import type { ExportClient, NbdExport } from "./export.ts";
import { Intake, type Next } from "./intake.ts";
import type { ServerMemory } from "./memory.ts";
import { ConnectionGone, PIECE_BYTES, Replies } from "./replies.ts";

/** Bytes of replies that wait for a client to read them, of which no more come into memory for it. */
const UNSENT_BYTES = 512 * KiB;
/** Replies from this on count as such. */
const LONG_BYTES = 64 * KiB;
/** Requests that are answered at once before others have their turn. */
const TURN_REQUESTS = 64;
/** How long a client may take its last replies when the server ends, ms. */
const FAREWELL_MS = 1000;

/** What a client is served with. */
export interface ClientInit {
  readonly clock: Clock;
  readonly memory: ServerMemory;
  readonly credentials: TlsCredentials | undefined;
  /** What is offered, as of now. */
  list(): readonly NbdExport[];
  /** Something is broken in here. */
  onFault?: ((error: unknown) => void) | undefined;
  /** How a client came and went, for whoever follows. */
  onMessage?: ((text: string) => void) | undefined;
}

/** One connection. */
export class NbdClient implements ExportClient {
  readonly #init: ClientInit;
  readonly #intake = new Intake();
  readonly #changes = new Wakeup();
  #connection: HostConnection;
  #underWay = 0;
  /** Bytes of long replies that the platform has not taken yet. */
  #unsent = 0;
  /** Requests that were taken. */
  #taken = 0;
  #served: Promise<void> | undefined;
  #hasChosen = false;

  constructor(connection: HostConnection, init: ClientInit) {
    this.#connection = connection;
    this.#init = init;
  }

  /** Serves the client until either side ends it. Never rejects: how a client goes away is nobody's error. */
  serve(): Promise<void> {
    this.#served ??= this.#serve();
    return this.#served;
  }

  /** Whether its handshake has come to an export. */
  get served(): boolean {
    return this.#hasChosen;
  }

  async end(how: "abrupt" | "gently"): Promise<void> {
    this.#intake.stop();
    if (how === "gently") await this.#lastReplies();
    this.#drop();
    await this.#served;
  }

  /** Waits until all that was asked is answered, but not for long: the client may not read. */
  async #lastReplies(): Promise<void> {
    let late = false;
    const cancel = this.#init.clock.timer(FAREWELL_MS, () => {
      late = true;
      this.#changes.wake();
    });
    await this.#changes.until(() => late || this.#underWay === 0);
    cancel();
  }

  #drop(): void {
    if (this.#connection.abort) this.#connection.abort();
    else void this.#connection.close().catch(() => undefined);
  }

  async #serve(): Promise<void> {
    let why: string | undefined;
    this.#intake.listen(this.#connection);
    try {
      const agreed = await this.#handshake();
      if (agreed) await this.#withExport(agreed);
    } catch (error) {
      why = messageOf(error);
      if (error instanceof AssertionError) this.#init.onFault?.(error);
    }
    await this.#changes.until(() => this.#underWay === 0);
    await this.#connection.close().catch(() => undefined);
    if (why !== undefined) this.#init.onMessage?.(why);
  }

  /** Undefined: the client wants to go, or has gone. Throws for one that can't be understood. */
  async #handshake(): Promise<Agreement<NbdExport> | undefined> {
    const { clock, credentials } = this.#init;
    const late = clock.timer(limits.nbdHandshakeSeconds * 1000, () => this.#drop());
    try {
      const handshake = new ServerHandshake({
        tls: credentials ? "required" : "none",
        list: () => this.#init.list(),
      });
      await this.#connection.write(handshake.greeting());
      for (;;) {
        const step = handshake.next(this.#intake.inbox);
        if (!step) {
          if (!(await this.#intake.more())) return undefined;
          continue;
        }
        const go = step.kind === "tls" ? this.#intake.switchOver() : undefined;
        if (step.bytes) await this.#connection.write(step.bytes);
        if (step.kind === "transmission") return step;
        if (go) await this.#startTls(handshake, go);
        if (step.kind !== "closed") continue;
        if (step.why !== undefined) this.#init.onMessage?.(step.why);
        return undefined;
      }
    } finally {
      late();
    }
  }

  /** What came in the clear behind the wish for TLS is nobody's, and is thrown away. */
  async #startTls(
    handshake: ServerHandshake<NbdExport>,
    go: (connection: HostConnection) => void,
  ): Promise<void> {
    const { credentials } = this.#init;
    if (!credentials || !this.#connection.startTls) throw new Error("there is no TLS here");
    const how = { role: "server", credentials, receiver: this.#intake } as const;
    this.#connection = await this.#connection.startTls(how);
    go(this.#connection);
    handshake.secured();
  }

  async #withExport(agreed: Agreement<NbdExport>): Promise<void> {
    const { clients } = agreed.export;
    this.#hasChosen = true;
    clients.add(this);
    try {
      await this.#transmission(agreed);
    } finally {
      await this.#changes.until(() => this.#underWay === 0);
      clients.delete(this);
    }
  }

  async #transmission(agreed: Agreement<NbdExport>): Promise<void> {
    const replies = new Replies(agreed, this.#init.memory, {
      send: (bytes) => this.#send(bytes),
      sendFile: (head, range) => this.#sendFile(head, range),
    });
    await this.#intake.serve(() => this.#next(agreed, replies));
  }

  /** What is there already is begun in this turn, request by request, and what can be answered at once is. */
  #next(agreed: Agreement<NbdExport>, replies: Replies): Answer<Next> {
    if (this.#intake.isStopped) return "over";
    if (this.#isBusy()) return this.#changes.until(() => !this.#isBusy()).then(() => "again");
    const head = this.#intake.inbox.take(REQUEST_BYTES);
    if (!head) return "wait";
    const request = decodeRequest(head);
    if (request.type === command.disconnect) return "over";
    return andThen(this.#take(request, agreed, replies), (going) => {
      this.#taken += 1;
      // Of one whose requests are all answered at once the others have their turn, too.
      const isGreedy = this.#underWay === 0 && this.#taken % TURN_REQUESTS === 0;
      const next = going ? "again" : "over";
      return isGreedy ? this.#init.clock.turn().then(() => next) : next;
    });
  }

  #isBusy(): boolean {
    return this.#underWay >= limits.nbdClientRequests || this.#unsent >= UNSENT_BYTES;
  }

  /** Takes in one request with its data. False: nothing more comes. */
  #take(request: NbdRequest, agreed: Agreement<NbdExport>, replies: Replies): Answer<boolean> {
    const { export: one, structured, contexts } = agreed;
    const given = { size: one.size, writable: one.writable, structured, hasContexts: contexts.length > 0 };
    const refusal = checkNbdRequest(request, given);
    if (refusal) {
      return andThen(hasPayload(request) ? this.#intake.pass(request.length) : true, (going) => {
        if (going) this.#start(() => replies.refuse(request, refusal));
        return going;
      });
    }
    if (hasPayload(request)) return this.#takeWrite(request, replies);
    this.#start(() => replies.answer(request));
    return true;
  }

  /** A write is carried out when its data is here; a long one in several steps, as its data comes. */
  #takeWrite(request: NbdRequest, replies: Replies): Answer<boolean> {
    const { length, flags, offset } = request;
    if (length > PIECE_BYTES) return this.#takeLongWrite(request, replies);
    const fua = flags & commandFlag.fua ? Req.fua : 0;
    return andThen(replies.borrow(length), (loan) =>
      andThen(this.#intake.fill(loan.data), (isFull) => {
        if (isFull)
          this.#start(() =>
            ending(
              () => replies.finish(request, () => replies.write(offset, loan.data, fua)),
              () => loan.end(),
            ),
          );
        else loan.end();
        return isFull;
      }),
    );
  }

  async #takeLongWrite(request: NbdRequest, replies: Replies): Promise<boolean> {
    const end = request.offset + request.length;
    let failure: { error: unknown } | undefined;
    for (let at = request.offset; at < end;) {
      const bytes = Math.min(PIECE_BYTES, end - at);
      const loan = await replies.borrow(bytes);
      try {
        if (!(await this.#intake.fill(loan.data))) return false;
        if (!failure) await replies.write(at, loan.data, 0);
      } catch (error) {
        failure = { error };
      } finally {
        loan.end();
      }
      at += bytes;
    }
    this.#start(() =>
      replies.finish(request, () => {
        if (failure) throw failure.error;
        return request.flags & commandFlag.fua ? replies.flush() : undefined;
      }),
    );
    return true;
  }

  /** Begins to carry out a request; its end is heard of by `changes`. */
  #start(body: () => Answer<void>): void {
    this.#underWay += 1;
    const answer = guarded(body);
    if (isPromise(answer)) void answer.then(this.#ended, this.#failed);
    else this.#ended();
  }

  readonly #ended = (): void => {
    this.#underWay -= 1;
    this.#changes.wake();
  };

  readonly #failed = (error: unknown): void => {
    if (!(error instanceof ConnectionGone)) {
      this.#init.onFault?.(error);
      this.#drop();
    }
    this.#ended();
  };

  /** Nobody else's data comes into memory for a client that does not read what there is for it. */
  #send(bytes: Uint8Array): Answer<void> {
    return this.#sent(
      rescue(() => this.#connection.write(bytes), isGone),
      bytes.byteLength,
    );
  }

  #sendFile(head: Uint8Array, range: FileRange): Answer<void> | false {
    if (!this.#connection.writeFile) return false;
    const sending = this.#connection.writeFile(head, range);
    return isPromise(sending) ? this.#sent(sending.catch(isGone), range.bytes) : sending;
  }

  #sent(sending: Answer<void>, bytes: number): Answer<void> {
    if (!isPromise(sending) || bytes < LONG_BYTES) return sending;
    this.#unsent += bytes;
    return sending.finally(() => {
      this.#unsent -= bytes;
      this.#changes.wake();
    });
  }
}

function isGone(cause: unknown): never {
  throw new ConnectionGone("the client is gone", { cause });
}
