/**
 * The server's side of the handshake: bytes in, steps out, no I/O. States are named after libnbd's.
 *
 *   newstyle.clientFlags → newstyle.option ⇄ newstyle.payload, newstyle.skip → transmission | tls | closed
 *
 * Invariants: a payload is never longer in memory than nbdMaxOptionKeptBytes; after the step "tls" all that was agreed on is
 * forgotten; what cannot be understood any more (a magic, a length beyond the limit) closes, everything else is answered by an
 * error and the connection goes on. Source: doc/proto.md; which replies, and their words: behaviour of qemu-nbd 7.2.
 */
import { messageOf } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { Fields, type Inbox } from "./bytes.ts";
import {
  CLIENT_FLAGS_BYTES,
  exportFlag,
  handshakeFlag,
  info,
  option,
  OPTION_HEADER_BYTES,
  optionReply,
  optionWord,
} from "./constants.ts";
import { selectContexts } from "./contexts.ts";
import {
  decodeClientFlags,
  decodeOptionHeader,
  encodeExportNameReply,
  encodeGreeting,
  encodeOptionReply,
  type ExportInfo,
} from "./handshake.ts";
import {
  type BlockSizes,
  decodeInfoRequest,
  decodeMetaRequest,
  encodeInformation,
  encodeListed,
  encodeMetaContext,
  type InfoRequest,
  type MetaContext,
} from "./options.ts";

/** What the server has to offer of one export. */
export interface OfferedExport {
  readonly name: string;
  readonly description?: string | undefined;
  /** Size and flags as they are now. */
  info(): ExportInfo;
  readonly blockSizes: BlockSizes;
  /** Names of metadata contexts; the place in the list is the context's number. */
  readonly contexts: readonly string[];
}

/** What was agreed on. */
export interface Agreement<E> {
  readonly export: E;
  readonly structured: boolean;
  readonly contexts: readonly MetaContext[];
}

/** What is to be done next. `bytes` are sent first. */
export type HandshakeStep<E> =
  | { readonly kind: "reply"; readonly bytes: Uint8Array }
  /** TLS begins once they are sent. */
  | { readonly kind: "tls"; readonly bytes: Uint8Array }
  | ({ readonly kind: "transmission"; readonly bytes: Uint8Array } & Agreement<E>)
  /** `why` for the log; none: the client wants to go. */
  | { readonly kind: "closed"; readonly bytes?: Uint8Array; readonly why?: string };

/** What a handshake works with. */
export interface HandshakeInit<E> {
  /** Whether the connection must be in TLS before an export is shown; `active`: it is. */
  readonly tls: "none" | "required" | "active";
  /** All exports; asked each time, since they come and go. */
  list(): readonly E[];
}

type State = "newstyle.clientFlags" | "newstyle.option" | "newstyle.payload" | "newstyle.skip" | "closed";

/** An option whose payload comes. */
interface Pending {
  readonly option: number;
  readonly length: number;
}

/** Flags that the server offers. */
const SERVER_FLAGS = handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes;
const NOTHING = new Uint8Array(0);

/** One handshake. */
export class ServerHandshake<E extends OfferedExport> {
  readonly #init: HandshakeInit<E>;
  #tls: HandshakeInit<E>["tls"];
  #state: State = "newstyle.clientFlags";
  #clientFlags = 0;
  #pending: Pending = { option: 0, length: 0 };
  #skipLeft = 0;
  #afterSkip: HandshakeStep<E> | undefined;
  #structured = false;
  #chosen: { export: E; contexts: MetaContext[] } | undefined;

  constructor(init: HandshakeInit<E>) {
    this.#init = init;
    this.#tls = init.tls;
  }

  /** Where it stands, in libnbd's names. */
  get state(): string {
    return this.#state;
  }

  /** The first thing to be sent. */
  greeting(): Uint8Array {
    return encodeGreeting(SERVER_FLAGS);
  }

  /** The connection is in TLS from now on. */
  secured(): void {
    this.#tls = "active";
    this.#structured = false;
    this.#chosen = undefined;
  }

  /** The next step that what has come leads to; undefined: more must come. */
  next(inbox: Inbox): HandshakeStep<E> | undefined {
    for (;;) {
      const before = this.#state;
      const step = this.#advance(inbox);
      if (step || this.#state === before) return step;
    }
  }

  #advance(inbox: Inbox): HandshakeStep<E> | undefined {
    if (this.#state === "newstyle.clientFlags") return this.#takeFlags(inbox);
    if (this.#state === "newstyle.option") return this.#takeOption(inbox);
    if (this.#state === "newstyle.skip") return this.#skip(inbox);
    if (this.#state === "newstyle.payload") return this.#takePayload(inbox);
    return undefined;
  }

  #close(why: string): HandshakeStep<E> {
    this.#state = "closed";
    return { kind: "closed", why };
  }

  #takeFlags(inbox: Inbox): HandshakeStep<E> | undefined {
    const bytes = inbox.take(CLIENT_FLAGS_BYTES);
    if (!bytes) return undefined;
    this.#clientFlags = decodeClientFlags(bytes);
    const unknown = (this.#clientFlags & ~SERVER_FLAGS) >>> 0;
    if (unknown !== 0) return this.#close(`Unknown client flags 0x${unknown.toString(16)} received`);
    this.#state = "newstyle.option";
    return undefined;
  }

  #takeOption(inbox: Inbox): HandshakeStep<E> | undefined {
    const bytes = inbox.take(OPTION_HEADER_BYTES);
    if (!bytes) return undefined;
    try {
      this.#pending = decodeOptionHeader(bytes);
    } catch (error) {
      return this.#close(messageOf(error));
    }
    const { length } = this.#pending;
    if (length > limits.nbdMaxOptionBytes)
      return this.#close(`len (${length}) is larger than max len (${limits.nbdMaxOptionBytes})`);
    const refusal = this.#refusalOf(this.#pending);
    if (refusal?.kind === "closed") return refusal;
    if (!refusal) this.#state = "newstyle.payload";
    else this.#passOver(length, refusal);
    return undefined;
  }

  #passOver(length: number, step: HandshakeStep<E>): void {
    this.#skipLeft = length;
    this.#afterSkip = step;
    this.#state = "newstyle.skip";
  }

  #skip(inbox: Inbox): HandshakeStep<E> | undefined {
    this.#skipLeft -= inbox.skip(this.#skipLeft);
    if (this.#skipLeft > 0) return undefined;
    this.#state = "newstyle.option";
    return this.#afterSkip;
  }

  /** Why an option is not looked at, whatever its payload. */
  #refusalOf({ option: asked, length }: Pending): HandshakeStep<E> | undefined {
    const isFixed = (this.#clientFlags & handshakeFlag.fixedNewstyle) !== 0;
    if (this.#tls === "required" && asked !== option.startTls) return this.#refusedBeforeTls(asked);
    if (!isFixed && asked !== option.exportName)
      return this.#close(`Unsupported option ${asked} (${optionWord(asked)})`);
    if (asked === option.exportName)
      return length > limits.nbdMaxStringBytes ? this.#close("Bad length received") : undefined;
    if (!this.#knows(asked))
      return this.#error(optionReply.errUnsupported, `Unsupported option ${asked} (${optionWord(asked)})`);
    if (length > 0 && isEmpty(asked))
      return this.#error(optionReply.errInvalid, `option '${optionWord(asked)}' has unexpected length`);
    if (length > limits.nbdMaxOptionKeptBytes)
      return this.#error(optionReply.errTooBig, `option '${optionWord(asked)}' is too long`);
    return undefined;
  }

  #refusedBeforeTls(asked: number): HandshakeStep<E> | undefined {
    if (asked === option.abort) return undefined;
    const words = `Option 0x${asked.toString(16)} not permitted before TLS`;
    if (asked === option.exportName) return this.#close(words);
    return this.#error(optionReply.errTlsRequired, words);
  }

  #knows(asked: number): boolean {
    return asked >= option.exportName && asked <= option.setMetaContext && asked !== option.peekExport;
  }

  #takePayload(inbox: Inbox): HandshakeStep<E> | undefined {
    const payload = inbox.take(this.#pending.length);
    if (!payload) return undefined;
    this.#state = "newstyle.option";
    try {
      return this.#carryOut(payload);
    } catch (error) {
      return this.#error(optionReply.errInvalid, messageOf(error));
    }
  }

  #carryOut(payload: Uint8Array): HandshakeStep<E> {
    switch (this.#pending.option) {
      case option.exportName:
        return this.#exportName(payload);
      case option.abort:
        this.#state = "closed";
        return { kind: "closed", bytes: this.#encoded(optionReply.ack) };
      case option.list:
        return this.#replies(
          ...this.#init.list().map((one) => this.#encoded(optionReply.server, listed(one))),
          this.#encoded(optionReply.ack),
        );
      case option.startTls:
        return this.#startTls();
      case option.info:
      case option.go:
        return this.#infoOrGo(payload);
      case option.structuredReply:
        if (this.#structured)
          return this.#error(optionReply.errInvalid, "structured reply already negotiated");
        this.#structured = true;
        return this.#replies(this.#encoded(optionReply.ack));
      default:
        return this.#metaContexts(payload);
    }
  }

  #startTls(): HandshakeStep<E> {
    if (this.#tls === "active") return this.#error(optionReply.errInvalid, "TLS already enabled");
    if (this.#tls === "none") return this.#error(optionReply.errPolicy, "TLS not configured");
    return { kind: "tls", bytes: this.#encoded(optionReply.ack) };
  }

  #find(name: string): E | undefined {
    return this.#init.list().find((one) => one.name === name);
  }

  #exportName(payload: Uint8Array): HandshakeStep<E> {
    let found: E | undefined;
    try {
      found = this.#find(new Fields(payload).text(payload.byteLength));
    } catch {
      // A name that is no text is nobody's.
    }
    if (!found) return this.#close("export not found");
    const noZeroes = (this.#clientFlags & handshakeFlag.noZeroes) !== 0;
    return this.#begin(found, encodeExportNameReply(this.#infoOf(found), noZeroes));
  }

  /** An export's flags, with what was agreed on. */
  #infoOf(one: E): ExportInfo {
    const { size, flags } = one.info();
    return { size, flags: this.#structured ? flags | exportFlag.sendDf : flags };
  }

  #begin(one: E, bytes: Uint8Array): HandshakeStep<E> {
    this.#state = "closed";
    // Contexts that were chosen for another export are nobody's.
    const contexts = this.#chosen?.export === one ? this.#chosen.contexts : [];
    return { kind: "transmission", bytes, export: one, structured: this.#structured, contexts };
  }

  #infoOrGo(payload: Uint8Array): HandshakeStep<E> {
    const request = decodeInfoRequest(payload);
    const found = this.#find(request.name);
    if (!found) return this.#error(optionReply.errUnknown, `export '${shortened(request.name)}' not present`);
    const isInfo = this.#pending.option === option.info;
    const knowsSizes = request.wanted.includes(info.blockSize);
    const replies = this.#informations(found, request, isInfo || knowsSizes);
    // A client that would not keep to them must ask first.
    if (isInfo && !knowsSizes && found.blockSizes.minimum > 1)
      return this.#replies(
        ...replies,
        this.#encoded(
          optionReply.errBlockSizeRequired,
          encode("request NBD_INFO_BLOCK_SIZE to use this export"),
        ),
      );
    const bytes = joined([...replies, this.#encoded(optionReply.ack)]);
    return isInfo ? { kind: "reply", bytes } : this.#begin(found, bytes);
  }

  #informations(one: E, request: InfoRequest, knowsSizes: boolean): Uint8Array[] {
    const { minimum, preferred, maximum } = one.blockSizes;
    const pieces = [
      ...(request.wanted.includes(info.name) ? [{ kind: "name", text: one.name } as const] : []),
      ...(one.description === undefined ? [] : [{ kind: "description", text: one.description } as const]),
      { kind: "blockSize", minimum: knowsSizes ? minimum : 1, preferred, maximum } as const,
      { kind: "export", ...this.#infoOf(one) } as const,
    ];
    return pieces.map((piece) => this.#encoded(optionReply.info, encodeInformation(piece)));
  }

  #metaContexts(payload: Uint8Array): HandshakeStep<E> {
    const isSet = this.#pending.option === option.setMetaContext;
    if (isSet) this.#chosen = undefined;
    if (!this.#structured)
      return this.#error(
        optionReply.errInvalid,
        `request option '${optionWord(this.#pending.option)}' when structured reply is not negotiated`,
      );
    const { name, queries } = decodeMetaRequest(payload);
    const found = this.#find(name);
    if (!found) return this.#error(optionReply.errUnknown, `export '${shortened(name)}' not present`);
    const contexts = selectContexts(queries, found.contexts, !isSet)
      .slice(0, limits.nbdMaxMetaContexts)
      .map((context) => ({ id: isSet ? found.contexts.indexOf(context) : 0, name: context }));
    if (isSet) this.#chosen = { export: found, contexts };
    return this.#replies(
      ...contexts.map((context) => this.#encoded(optionReply.metaContext, encodeMetaContext(context))),
      this.#encoded(optionReply.ack),
    );
  }

  #encoded(type: number, payload: Uint8Array = NOTHING): Uint8Array {
    return encodeOptionReply(this.#pending.option, type, payload);
  }

  #error(type: number, text: string): HandshakeStep<E> {
    return { kind: "reply", bytes: this.#encoded(type, encode(text)) };
  }

  #replies(...replies: readonly Uint8Array[]): HandshakeStep<E> {
    return { kind: "reply", bytes: joined(replies) };
  }
}

/** Options that have no payload. */
function isEmpty(asked: number): boolean {
  return asked === option.list || asked === option.startTls || asked === option.structuredReply;
}

function listed(one: OfferedExport): Uint8Array {
  return encodeListed({ name: one.name, description: one.description ?? "" });
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** A name in a message to whoever sent it: long ones are cut. */
function shortened(name: string): string {
  return name.length <= 80 ? name : `${name.slice(0, 80)}...`;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
