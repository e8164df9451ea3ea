/**
 * `nbd -L`: what another server has to offer, printed as qemu-nbd prints it.
 */
import { messageOf } from "../../../base/errors.ts";
import type { HostConnection, TlsCredentials } from "../../../base/host.ts";
import { limits } from "../../../base/limits.ts";
import { listenAddress } from "../../../server/nbd/address.ts";
import { Inbox } from "../../../wire/nbd/bytes.ts";
import {
  exportFlag,
  GREETING_BYTES,
  isErrorReply,
  option,
  OPTION_REPLY_HEADER_BYTES,
  optionReply,
} from "../../../wire/nbd/constants.ts";
import {
  decodeGreeting,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeOption,
} from "../../../wire/nbd/handshake.ts";
import {
  decodeInformation,
  decodeListed,
  decodeMetaContext,
  encodeInfoRequest,
  encodeMetaRequest,
  type ListedExport,
} from "../../../wire/nbd/options.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import type { NbdFlags } from "./flags.ts";

/** A handshake that asks, and chooses nothing. */
class Asker {
  #connection: HostConnection;
  #incoming: AsyncIterator<Uint8Array>;
  readonly #inbox = new Inbox();

  constructor(connection: HostConnection) {
    this.#connection = connection;
    this.#incoming = connection.incoming[Symbol.asyncIterator]();
  }

  async #bytes(count: number): Promise<Uint8Array> {
    for (;;) {
      const part = this.#inbox.take(count);
      if (part) return part;
      const next = await this.#incoming.next();
      if (next.done) throw new Refusal("Unexpected end-of-file before all data were read");
      this.#inbox.push(next.value);
    }
  }

  async greet(): Promise<void> {
    const { flags } = decodeGreeting(await this.#bytes(GREETING_BYTES));
    await this.#connection.write(encodeClientFlags(flags & 3));
  }

  /** The payloads of what an option is answered by; undefined: it is refused. */
  async ask(asked: number, payload?: Uint8Array): Promise<Uint8Array[] | undefined> {
    await this.#connection.write(encodeOption(asked, payload));
    const answers: Uint8Array[] = [];
    for (;;) {
      const { type, length } = decodeOptionReplyHeader(await this.#bytes(OPTION_REPLY_HEADER_BYTES));
      if (length > limits.nbdMaxOptionBytes) throw new Refusal("option reply is too long");
      const answer = await this.#bytes(length);
      if (type === optionReply.ack) return answers;
      if (isErrorReply(type)) return undefined;
      answers.push(answer);
    }
  }

  async startTls(credentials: TlsCredentials, hostname: string | undefined): Promise<void> {
    if (!(await this.ask(option.startTls)) || !this.#connection.startTls)
      throw new Refusal("Server does not support STARTTLS");
    await this.#incoming.return?.();
    this.#inbox.clear();
    const named = hostname === undefined ? {} : { hostname };
    this.#connection = await this.#connection.startTls({ role: "client", credentials, ...named });
    this.#incoming = this.#connection.incoming[Symbol.asyncIterator]();
  }

  async close(): Promise<void> {
    await this.ask(option.abort).catch(() => undefined);
    await this.#connection.close();
  }
}

/** Flags by qemu-nbd's words, in its order. */
const words: readonly (readonly [number, string])[] = [
  [exportFlag.readOnly, "readonly"],
  [exportFlag.sendFlush, "flush"],
  [exportFlag.sendFua, "fua"],
  [exportFlag.rotational, "rotational"],
  [exportFlag.sendTrim, "trim"],
  [exportFlag.sendWriteZeroes, "zeroes"],
  [exportFlag.sendDf, "df"],
  [exportFlag.canMultiConn, "multi"],
  [exportFlag.sendResize, "resize"],
  [exportFlag.sendCache, "cache"],
  [exportFlag.sendFastZero, "fast-zero"],
];

/** Prints the exports of the server that the flags name. Throws Refusal. */
export async function listExports(
  run: Run,
  flags: NbdFlags,
  credentials: TlsCredentials | undefined,
): Promise<void> {
  const { sockets } = run.engine.graph.host;
  const host = flags.bind ?? "localhost";
  const address =
    flags.socket === undefined
      ? listenAddress({ type: "inet", host, port: flags.port })
      : listenAddress({ type: "unix", path: flags.socket });
  const asker = new Asker(await sockets!.connect(address, { signal: run.signal }));
  try {
    await asker.greet();
    if (credentials) await asker.startTls(credentials, flags.tlsHostname ?? host);
    const structured = (await asker.ask(option.structuredReply)) !== undefined;
    const listed = await asker.ask(option.list);
    if (!listed) throw new Refusal("the server does not list its exports");
    run.print(`exports available: ${listed.length}\n`);
    for (const payload of listed) run.print(await described(asker, decodeListed(payload), structured));
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(messageOf(error));
  } finally {
    await asker.close();
  }
}

async function described(
  asker: Asker,
  { name, description }: ListedExport,
  structured: boolean,
): Promise<string> {
  const lines = [` export: '${name}'`];
  if (description !== "") lines.push(`  description: ${description}`);
  const told = (await asker.ask(option.info, encodeInfoRequest({ name, wanted: [3] }))) ?? [];
  const pieces = told.map(decodeInformation);
  for (const piece of pieces)
    if (piece.kind === "export") {
      const given = words.filter(([bit]) => (piece.flags & bit) !== 0).map(([, word]) => word);
      lines.push(`  size:  ${piece.size}`);
      lines.push(`  flags: 0x${piece.flags.toString(16)} ( ${given.join(" ")} )`);
    }
  for (const piece of pieces)
    if (piece.kind === "blockSize")
      lines.push(
        `  min block: ${piece.minimum}`,
        `  opt block: ${piece.preferred}`,
        `  max block: ${piece.maximum}`,
      );
  const contexts = structured
    ? await asker.ask(option.listMetaContext, encodeMetaRequest({ name, queries: [] }))
    : undefined;
  if (contexts && contexts.length > 0) {
    lines.push(`  available meta contexts: ${contexts.length}`);
    lines.push(...contexts.map((payload) => `   ${decodeMetaContext(payload).name}`));
  }
  return `${lines.join("\n")}\n`;
}
