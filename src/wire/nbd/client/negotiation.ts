/**
 * The client's handshake, as steps: what to send, how much to wait for, when TLS begins. No I/O: whoever drives it sends and
 * receives, and gives back what came. Its states are named after libnbd's.
 *
 * Invariants: nothing is allocated by a number that the server sent before it was checked; options that the server refuses
 * are done without where that is possible; every reply must answer the option that was sent.
 * Source: doc/proto.md of NBD; which options are asked for, and the words of the refusals, as QEMU 7.2.
 */
import type { BlockError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import { isPowerOfTwo } from "../../../base/ranges.ts";
import { Fields } from "../bytes.ts";
import {
  EXPORT_NAME_PADDING,
  GREETING_BYTES,
  handshakeFlag,
  info,
  OLDSTYLE_MAGIC,
  option,
  OPTION_REPLY_HEADER_BYTES,
  optionReply,
  optionReplyWord,
  optionWord,
} from "../constants.ts";
import { protocolError } from "../errors.ts";
import {
  decodeExportNameReply,
  decodeGreeting,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeOption,
} from "../handshake.ts";
import {
  type BlockSizes,
  decodeInformation,
  decodeMetaContext,
  encodeInfoRequest,
  encodeMetaRequest,
} from "../options.ts";
import { utf8 } from "../bytes.ts";
import { ServerRefusal, whyRefused } from "./refusals.ts";

/** What a client wants. */
export interface Wishes {
  readonly exportName: string;
  /** The one metadata context to ask for. */
  readonly context: string;
  readonly tls: boolean;
}

/** What both sides have agreed on. */
export interface Agreement {
  /** Bytes. */
  readonly size: number;
  /** exportFlag. */
  readonly flags: number;
  readonly structuredReplies: boolean;
  /** The number of the context that was asked for, if the server has it. */
  readonly contextId: number | undefined;
  /** If the server told. */
  readonly blockSizes: BlockSizes | undefined;
}

/** Where a handshake is. */
export type HandshakeState =
  | "MAGIC.START"
  | "OLDSTYLE.START"
  | "NEWSTYLE.START"
  | "NEWSTYLE.OPT_ABORT.START"
  | "NEWSTYLE.OPT_STARTTLS.START"
  | "NEWSTYLE.OPT_STRUCTURED_REPLY.START"
  | "NEWSTYLE.OPT_META_CONTEXT.START"
  | "NEWSTYLE.OPT_GO.START"
  | "NEWSTYLE.OPT_EXPORT_NAME.START"
  | "READY";

/**
 * One step: bytes to send, bytes to wait for (given back to next()), or the switch to TLS. `state` says where it is, `what` what is
 * sent or read, in QEMU's words.
 */
export type Step = { readonly state: HandshakeState } & (
  | { readonly send: Uint8Array; readonly what: string }
  | { readonly receive: number; readonly what: string }
  | { readonly startTls: true }
);

type Steps<T> = Generator<Step, T, Uint8Array>;

const SKIP_BYTES = 4096;
const OPTION_REQUEST = "option request header";

/** Goes through the handshake. Throws ServerRefusal, or a protocolError(), after which the connection is of no use. */
export function* negotiate(wishes: Wishes): Steps<Agreement> {
  checkNames(wishes);
  const state = "MAGIC.START";
  const initial = yield { state, receive: 8, what: "initial magic" };
  const magic = yield { state, receive: 8, what: "server magic" };
  if (new Fields(magic).u64() === OLDSTYLE_MAGIC) return yield* oldstyle(wishes);
  const flags = yield { state, receive: GREETING_BYTES - 16, what: "server flags" };
  const server = decodeGreeting(Uint8Array.from([...initial, ...magic, ...flags])).flags;
  return yield* new Newstyle(wishes, server).run();
}

function checkNames({ exportName, context }: Wishes): void {
  if (utf8(exportName).byteLength > limits.nbdMaxStringBytes)
    throw new ServerRefusal("export name too long to send to server");
  if (utf8(context).byteLength > limits.nbdMaxStringBytes)
    throw new ServerRefusal("x-dirty-bitmap query too long to send to server");
}

function* oldstyle(wishes: Wishes): Steps<Agreement> {
  if (wishes.tls) throw new ServerRefusal("Server does not support STARTTLS");
  if (wishes.exportName !== "") throw new ServerRefusal("Server does not support non-empty export names");
  const state = "OLDSTYLE.START";
  const size = new Fields(yield { state, receive: 8, what: "export length" }).size();
  const flags = new Fields(yield { state, receive: 4, what: "export flags" }).u32();
  yield { state, receive: EXPORT_NAME_PADDING, what: "reserved block" };
  return { ...checkedExport(size, flags & 0xffff), ...plain };
}

const plain = { structuredReplies: false, contextId: undefined, blockSizes: undefined } as const;

function checkedExport(size: number, flags: number): { size: number; flags: number } {
  if (size > limits.maxImageBytes) throw protocolError("export length is too large");
  return { size, flags };
}

/** A reply's header and payload; long payloads are skipped, and empty then. */
interface Reply {
  readonly type: number;
  readonly payload: Uint8Array;
  readonly length: number;
}

/** The handshake with a server of our time. */
class Newstyle {
  readonly #wishes: Wishes;
  readonly #serverFlags: number;

  constructor(wishes: Wishes, serverFlags: number) {
    this.#wishes = wishes;
    this.#serverFlags = serverFlags;
  }

  *run(): Steps<Agreement> {
    const { fixedNewstyle, noZeroes } = handshakeFlag;
    const agreed = this.#serverFlags & (fixedNewstyle | noZeroes);
    yield { state: "NEWSTYLE.START", send: encodeClientFlags(agreed), what: "clientflags field" };
    const omitsZeroes = (agreed & noZeroes) !== 0;
    if ((agreed & fixedNewstyle) === 0) {
      if (this.#wishes.tls) throw new ServerRefusal("Server does not support STARTTLS");
      return yield* this.#exportName(omitsZeroes);
    }
    try {
      return yield* this.#options(omitsZeroes);
    } catch (error) {
      // Good-bye: the server need not wonder.
      if (error instanceof ServerRefusal)
        yield { state: "NEWSTYLE.OPT_ABORT.START", send: encodeOption(option.abort), what: OPTION_REQUEST };
      throw error;
    }
  }

  *#options(omitsZeroes: boolean): Steps<Agreement> {
    if (this.#wishes.tls) yield* this.#startTls();
    const structuredReplies = yield* this.#simple(
      option.structuredReply,
      "NEWSTYLE.OPT_STRUCTURED_REPLY.START",
    );
    const contextId = structuredReplies ? yield* this.#metaContext() : undefined;
    const found = yield* this.#go();
    if (found) return { ...found, structuredReplies, contextId };
    return { ...(yield* this.#exportName(omitsZeroes)), structuredReplies, contextId };
  }

  *#startTls(): Steps<void> {
    const state = "NEWSTYLE.OPT_STARTTLS.START";
    const isTaken = yield* this.#simple(option.startTls, state);
    if (!isTaken) throw new ServerRefusal("Server don't support STARTTLS option");
    yield { state, startTls: true };
  }

  /** An option without a payload, which is answered by ACK; false: the server does not know it. */
  *#simple(asked: number, state: HandshakeState): Steps<boolean> {
    yield { state, send: encodeOption(asked), what: OPTION_REQUEST };
    const reply = yield* this.#reply(asked, state);
    if (this.#isRefused(asked, reply)) return false;
    if (reply.type !== optionReply.ack) throw unexpected(reply, optionReply.ack);
    if (reply.length !== 0)
      throw protocolError(
        `option ${asked} (${optionWord(asked)}) response length is ${reply.length} (it should be zero)`,
      );
    return true;
  }

  *#metaContext(): Steps<number | undefined> {
    const state = "NEWSTYLE.OPT_META_CONTEXT.START";
    const { exportName: name, context } = this.#wishes;
    const payload = encodeMetaRequest({ name, queries: [context] });
    yield { state, send: encodeOption(option.setMetaContext, payload), what: OPTION_REQUEST };
    let id: number | undefined;
    for (;;) {
      const reply = yield* this.#reply(option.setMetaContext, state);
      if (this.#isRefused(option.setMetaContext, reply)) return undefined;
      if (reply.type === optionReply.ack) return id;
      if (reply.type !== optionReply.metaContext) throw unexpected(reply, optionReply.metaContext);
      const told = decodeMetaContext(reply.payload);
      if (told.name !== context)
        throw protocolError(
          `Failed to negotiate query '${context}', server answered with different context '${told.name}'`,
        );
      if (id !== undefined) throw protocolError(`The server answered the query '${context}' twice`);
      id = told.id;
    }
  }

  /** Undefined: the server does not know GO. */
  *#go(): Steps<Omit<Agreement, "structuredReplies" | "contextId"> | undefined> {
    const state = "NEWSTYLE.OPT_GO.START";
    const { exportName: name } = this.#wishes;
    const payload = encodeInfoRequest({ name, wanted: [info.blockSize] });
    yield { state, send: encodeOption(option.go, payload), what: OPTION_REQUEST };
    let found: { size: number; flags: number } | undefined;
    let blockSizes: BlockSizes | undefined;
    for (;;) {
      const reply = yield* this.#reply(option.go, state);
      if (this.#isRefused(option.go, reply)) return undefined;
      if (reply.type === optionReply.ack) break;
      if (reply.type !== optionReply.info) throw unexpected(reply, optionReply.info);
      // No kind that is wanted is so long.
      if (reply.payload.byteLength < reply.length) continue;
      const piece = decodeInformation(reply.payload);
      if (piece.kind === "export") found = checkedExport(piece.size, piece.flags);
      if (piece.kind === "blockSize") blockSizes = checkedSizes(piece);
    }
    if (!found) throw protocolError("broken server omitted NBD_INFO_EXPORT");
    if (blockSizes && found.size % blockSizes.minimum !== 0)
      throw protocolError(
        `export size ${found.size} is not multiple of minimum block size ${blockSizes.minimum}`,
      );
    return { ...found, blockSizes };
  }

  /** For servers without GO, which close the connection if they have no such export. */
  *#exportName(omitsZeroes: boolean): Steps<Agreement> {
    const state = "NEWSTYLE.OPT_EXPORT_NAME.START";
    const request = encodeOption(option.exportName, utf8(this.#wishes.exportName));
    yield { state, send: request, what: OPTION_REQUEST };
    const length = yield { state, receive: 8, what: "export length" };
    const rest = yield { state, receive: 2, what: "export flags" };
    const { size, flags } = decodeExportNameReply(Uint8Array.from([...length, ...rest]));
    if (!omitsZeroes) yield { state, receive: EXPORT_NAME_PADDING, what: "reserved block" };
    return { ...checkedExport(size, flags), ...plain };
  }

  *#reply(asked: number, state: HandshakeState): Steps<Reply> {
    const what = "option reply";
    const header = decodeOptionReplyHeader(yield { state, receive: OPTION_REPLY_HEADER_BYTES, what });
    const { type, length } = header;
    if (header.option !== asked)
      throw protocolError(
        `Unexpected option type ${header.option} (${optionWord(header.option)}), expected ${asked}`,
      );
    if (length > limits.nbdMaxOptionBytes) throw protocolError("A reply to an option is too long");
    const nothing = new Uint8Array(0);
    if (length === 0) return { type, length, payload: nothing };
    if (length <= limits.nbdMaxStringBytes + 8)
      return { type, length, payload: yield { state, receive: length, what } };
    for (let left = length; left > 0; left -= SKIP_BYTES)
      yield { state, receive: Math.min(left, SKIP_BYTES), what };
    return { type, length, payload: nothing };
  }

  /** Whether the server does not know the option. Throws ServerRefusal for every other refusal. */
  #isRefused(asked: number, reply: Reply): boolean {
    if (reply.type < optionReply.errUnsupported) return false;
    const isNeeded = asked === option.go || asked === option.startTls;
    if (reply.type === optionReply.errUnsupported || !isNeeded) return true;
    throw whyRefused(asked, reply);
  }
}

function checkedSizes({ minimum, preferred, maximum }: BlockSizes): BlockSizes {
  if (!isPowerOfTwo(minimum))
    throw protocolError(`server minimum block size ${minimum} is not a power of two`);
  if (minimum > limits.nbdMaxMinimumBlockBytes)
    throw protocolError(`server minimum block size ${minimum} is too large`);
  if (!isPowerOfTwo(preferred) || preferred < minimum)
    throw protocolError(`server preferred block size ${preferred} is not valid`);
  if (maximum < minimum) throw protocolError(`server maximum block size ${maximum} is not valid`);
  return { minimum, preferred, maximum };
}

function unexpected({ type }: Reply, wanted: number): BlockError {
  return protocolError(`unexpected reply type ${type} (${optionReplyWord(type)}), expected ${wanted}`);
}
