/**
 * The way to an export, over one connection after the other: requests go out up to a depth, and a lost connection is made
 * anew. With `reconnect-delay` requests wait for that so long, those under way are sent again; without it they fail at once, and
 * the next request tries once.
 *
 * Invariants: an export that is another one after a reconnection (size, flags, block sizes, context) is never used: ESTALE from
 * then on. A server that broke the protocol is not connected to again: EIO from then on. Sending again is safe: every request of
 * NBD names its place, and the block layer keeps requests that overlap apart.
 * Source: behaviour of QEMU 7.2's client; the comparison is ours.
 */
import { BlockError, blockError, errnoOf } from "../../../base/errors.ts";
import type { Host } from "../../../base/host.ts";
import { sleep } from "../../../base/sleep.ts";
import type { Unanswered } from "../../../block/model/contract.ts";
import type { Agreement } from "../../../wire/nbd/client/negotiation.ts";
import type { Reply } from "../../../wire/nbd/client/replies.ts";
import { command } from "../../../wire/nbd/constants.ts";
import type { NbdOptions } from "./options.ts";
import { LostLink, type NbdRequest, Session } from "./session.ts";

/** Requests under way at once (QEMU's). */
const DEPTH = 16;
/** Pauses between attempts, ms: the first, doubled up to the longest. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;
/** Requests that a server which works answers soon. */
const QUICK: ReadonlySet<number> = new Set([command.read, command.write, command.blockStatus]);

/** The link of one open node. */
export class Link {
  readonly #host: Host;
  readonly #options: NbdOptions;
  readonly #agreement: Agreement;
  #session: Session;
  #connecting: Promise<Session> | undefined;
  #lostAtMs = 0;
  /** Why no connection will be made any more. */
  #over: Error | undefined;
  readonly #closing = new AbortController();
  #free = DEPTH;
  #queue: (() => void)[] = [];
  /** Requests without an answer, and since when, ms. */
  readonly #since = new Map<NbdRequest, number>();

  constructor(host: Host, options: NbdOptions, session: Session) {
    this.#host = host;
    this.#options = options;
    this.#session = session;
    this.#agreement = session.agreement;
  }

  get agreement(): Agreement {
    return this.#agreement;
  }

  /** Carries out a request. Rejects with BlockError: what the server answered, EIO for a lost link, ESTALE. */
  async request(request: NbdRequest): Promise<Reply> {
    this.#since.set(request, this.#host.clock.nowMs());
    await this.#enter();
    try {
      const reply = await this.#carryOut(request);
      if (reply.error === undefined) return reply;
      const { error: code, text } = reply;
      throw new BlockError({ code, op: "nbd", ...(text ? { cause: new Error(text) } : {}) });
    } finally {
      this.#since.delete(request);
      this.#leave();
    }
  }

  async #carryOut(request: NbdRequest): Promise<Reply> {
    for (;;) {
      const session = await this.#connected();
      try {
        return await session.request(request);
      } catch (error) {
        if (!(error instanceof LostLink)) throw error;
        this.#noteLoss(session, error);
        if (error.isBreach || this.#waitLeftMs() <= 0) throw error;
      }
    }
  }

  async close(): Promise<void> {
    const why = blockError("EIO", "nbd", "The node is being closed");
    this.#over ??= why;
    this.#closing.abort(why);
    await this.#connecting?.catch(() => undefined);
    await this.#session.close();
  }

  /** See BlockDriver. */
  giveUp({ shortMs, longMs }: Unanswered): void {
    const now = this.#host.clock.nowMs();
    const isStuck = ([{ type }, since]: [NbdRequest, number]): boolean =>
      now - since >= (QUICK.has(type) ? shortMs : longMs);
    if (this.#over || ![...this.#since].some(isStuck)) return;
    this.#over = blockError("EIO", "nbd", "The NBD server does not answer");
    this.#closing.abort(this.#over);
    this.#session.abort(this.#over);
  }

  #noteLoss(session: Session, error: LostLink): void {
    if (session !== this.#session || this.#over) return;
    if (error.isBreach) this.#over = error;
    else if (this.#lostAtMs === 0) this.#lostAtMs = this.#host.clock.nowMs();
  }

  /** How long requests wait for the link yet. */
  #waitLeftMs(): number {
    if (this.#over) return 0;
    return this.#lostAtMs + this.#options.reconnectDelayMs - this.#host.clock.nowMs();
  }

  #connected(): Promise<Session> {
    if (this.#over) return Promise.reject(this.#over);
    if (this.#session.isAlive) return Promise.resolve(this.#session);
    // The loss may have been noticed by nobody yet: the link was idle.
    if (this.#lostAtMs === 0) this.#lostAtMs = this.#host.clock.nowMs();
    this.#connecting ??= this.#reconnect().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #reconnect(): Promise<Session> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        return this.#accept(await Session.open(this.#host, this.#options, this.#closing.signal));
      } catch (error) {
        const leftMs = this.#waitLeftMs();
        if (this.#over || leftMs <= 0) throw this.#over ?? new LostLink(error, { isBreach: false });
        await sleep(this.#host.clock, Math.min(pauseMs, leftMs), this.#closing.signal);
      }
    }
  }

  #accept(session: Session): Session {
    if (this.#over) {
      session.abort(this.#over);
      throw this.#over;
    }
    const changed = difference(this.#agreement, session.agreement);
    if (changed !== undefined) {
      const message = `The NBD export is another one since the reconnection: ${changed}`;
      this.#over = new BlockError({ code: "ESTALE", op: "nbd", message });
      session.abort(this.#over);
      throw this.#over;
    }
    this.#session = session;
    this.#lostAtMs = 0;
    return session;
  }

  async #enter(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve) => this.#queue.push(resolve));
  }

  #leave(): void {
    const next = this.#queue.shift();
    if (next) next();
    else this.#free += 1;
  }
}

/** In what two agreements differ, in words; undefined: in nothing that matters. */
function difference(before: Agreement, after: Agreement): string | undefined {
  if (before.size !== after.size) return `its size was ${before.size} bytes and is ${after.size}`;
  if (before.flags !== after.flags) return `its flags were ${before.flags} and are ${after.flags}`;
  if (JSON.stringify(before.blockSizes) !== JSON.stringify(after.blockSizes))
    return "its block sizes have changed";
  if ((before.contextId === undefined) !== (after.contextId === undefined))
    return "its metadata context has come or gone";
  return undefined;
}

/** Connects for the first time, again and again while the time for opening lasts. Rejects with what the last attempt fails with. */
export async function openLink(host: Host, options: NbdOptions): Promise<Link> {
  const until = host.clock.nowMs() + options.openTimeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return new Link(host, options, await Session.open(host, options));
    } catch (error) {
      errnoOf(error);
      const leftMs = until - host.clock.nowMs();
      if (leftMs <= 0) throw error;
      await sleep(host.clock, Math.min(pauseMs, leftMs));
    }
  }
}
