// A client of NBD for tests of the server, over the codec that is tested by bytes written by hand: it says exactly what it is told
// to, right or wrong.
import type { HostConnection } from "../../../../src/base/host.ts";
import { Inbox, message, utf8 } from "../../../../src/wire/nbd/bytes.ts";
import {
  chunk,
  command,
  GREETING_BYTES,
  option,
  OPTION_REPLY_HEADER_BYTES,
  optionReply,
} from "../../../../src/wire/nbd/constants.ts";
import {
  decodeGreeting,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeOption,
} from "../../../../src/wire/nbd/handshake.ts";
import {
  decodeInformation,
  encodeInfoRequest,
  encodeMetaRequest,
  type Information,
} from "../../../../src/wire/nbd/options.ts";
import {
  decodeBlockStatus,
  decodeChunkHeader,
  decodeDataOffset,
  decodeError,
  decodeHole,
  decodeSimpleReply,
  encodeRequest,
  type NbdRequest,
  replyHeaderBytes,
  type StatusExtent,
} from "../../../../src/wire/nbd/transmission.ts";

/** A reply to an option. */
export interface OptionReply {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** A reply to a request, put together. */
export interface Reply {
  readonly error?: string;
  readonly text?: string;
  /** Data by its offset. */
  readonly data: { offset: number; bytes: Uint8Array }[];
  readonly holes: { offset: number; length: number }[];
  readonly status: { context: number; extents: StatusExtent[] }[];
}

/** The other end of a server's connection. */
export class TestClient {
  readonly connection: HostConnection;
  readonly #inbox = new Inbox();
  readonly #incoming: AsyncIterator<Uint8Array>;
  #cookie = 0n;

  constructor(connection: HostConnection) {
    this.connection = connection;
    this.#incoming = connection.incoming[Symbol.asyncIterator]();
  }

  /** So many bytes. Throws at the end. */
  async bytes(count: number): Promise<Uint8Array> {
    for (;;) {
      const part = this.#inbox.take(count);
      if (part) return part;
      const next = await this.#incoming.next();
      if (next.done) throw new Error("the server has closed the connection");
      this.#inbox.push(next.value);
    }
  }

  /** Resolves when the server has closed; whatever comes before is thrown away. */
  async ended(): Promise<void> {
    while (!(await this.#incoming.next()).done);
  }

  async say(bytes: Uint8Array): Promise<void> {
    return this.connection.write(bytes);
  }

  /** Greets and sets flags. */
  async greet(flags = 3): Promise<number> {
    const greeting = decodeGreeting(await this.bytes(GREETING_BYTES));
    await this.say(encodeClientFlags(flags));
    return greeting.flags;
  }

  /** All replies to an option, the last one too. */
  async ask(asked: number, payload?: Uint8Array): Promise<OptionReply[]> {
    await this.say(encodeOption(asked, payload));
    const replies: OptionReply[] = [];
    for (;;) {
      const {
        type,
        length,
        option: answered,
      } = decodeOptionReplyHeader(await this.bytes(OPTION_REPLY_HEADER_BYTES));
      if (answered !== asked) throw new Error(`an answer to option ${answered}`);
      replies.push({ type, payload: await this.bytes(length) });
      if (type === optionReply.ack || type >= 0x80000000) return replies;
    }
  }

  /** Structured replies, contexts, and GO. Throws unless all is granted. */
  async go(name: string, contexts?: readonly string[]): Promise<Information[]> {
    const granted = (replies: OptionReply[]): OptionReply[] => {
      if (replies.at(-1)?.type !== optionReply.ack)
        throw new Error(new TextDecoder().decode(replies.at(-1)?.payload));
      return replies;
    };
    if (contexts) {
      granted(await this.ask(option.structuredReply));
      granted(await this.ask(option.setMetaContext, encodeMetaRequest({ name, queries: contexts })));
    }
    const replies = granted(await this.ask(option.go, encodeInfoRequest({ name, wanted: [3] })));
    return replies.slice(0, -1).map(({ payload }) => decodeInformation(payload));
  }

  /** Sends a request; a write's data behind it. */
  async request(request: Partial<NbdRequest> & { type: number }, data?: Uint8Array): Promise<bigint> {
    this.#cookie += 1n;
    const whole = { flags: 0, offset: 0, length: data?.byteLength ?? 0, cookie: this.#cookie, ...request };
    await this.say(data ? message(encodeRequest(whole), data) : encodeRequest(whole));
    return whole.cookie;
  }

  /** The reply to the oldest request; a simple one has `length` bytes of data. */
  async reply(cookie: bigint, length = 0): Promise<Reply> {
    const reply: Reply = { data: [], holes: [], status: [] };
    const magic = await this.bytes(4);
    const rest = await this.bytes(replyHeaderBytes(magic) - 4);
    if (rest.byteLength === 12) {
      const simple = decodeSimpleReply(message(magic, rest));
      if (simple.cookie !== cookie) throw new Error(`a reply to ${simple.cookie}`);
      if (simple.error !== undefined) return { ...reply, error: simple.error };
      if (length > 0) reply.data.push({ offset: 0, bytes: await this.bytes(length) });
      return reply;
    }
    const header = decodeChunkHeader(message(magic, rest));
    if (header.cookie !== cookie) throw new Error(`a chunk for ${header.cookie}`);
    const payload = await this.bytes(header.length);
    const more = header.flags === 0 ? await this.reply(cookie) : reply;
    if (header.type === chunk.none) return more;
    if (header.type === chunk.offsetHole) return { ...more, holes: [decodeHole(payload), ...more.holes] };
    if (header.type === chunk.blockStatus)
      return { ...more, status: [decodeBlockStatus(payload), ...more.status] };
    if (header.type === chunk.offsetData) {
      const data = { offset: decodeDataOffset(payload.subarray(0, 8)), bytes: payload.subarray(8) };
      return { ...more, data: [data, ...more.data] };
    }
    const { code, text } = decodeError(header.type, payload);
    return { ...more, error: code, text };
  }

  /** Request and reply. */
  async does(request: Partial<NbdRequest> & { type: number }, data?: Uint8Array): Promise<Reply> {
    const length = request.type === command.read ? (request.length ?? 0) : 0;
    return this.reply(await this.request(request, data), length);
  }
}

/** The text of an option's error. */
export function textOf(replies: readonly OptionReply[]): string {
  return new TextDecoder().decode(replies.at(-1)?.payload);
}

export { utf8 };
