/**
 * The options of NBD's client, read and checked. Source: QAPI BlockdevOptionsNbd, QEMU 7.2; `tls` is ours.
 */
import { CommandError } from "../../../base/errors.ts";
import type { SocketAddress, TlsCredentials, WebSocketAddress } from "../../../base/host.ts";
import type { NodeSpec, OpenContext } from "../../../block/model/contract.ts";
import { booleanOption, optionError, sizeOption, stringOption } from "../../../block/model/options.ts";
import { tlsIdentitiesOf } from "../../../crypto/tls-credentials.ts";
import { BASE_ALLOCATION } from "../../../wire/nbd/contexts.ts";

/** What the driver works with. */
export interface NbdOptions {
  readonly address: SocketAddress | WebSocketAddress;
  readonly exportName: string;
  /** The one metadata context to ask for. */
  readonly context: string;
  /** Whether it was asked for by name, and must be there. */
  readonly isContextNamed: boolean;
  readonly tls: { readonly credentials: TlsCredentials; readonly hostname: string | undefined } | undefined;
  /** How long requests wait for a link that was lost. */
  readonly reconnectDelayMs: number;
  /** How long opening tries again. */
  readonly openTimeoutMs: number;
}

const MS_PER_SECOND = 1000;

/** Reads them. Throws CommandError, BlockError. */
export function nbdOptions(spec: NodeSpec, { graph }: OpenContext): NbdOptions {
  const address = addressOf(spec["server"]);
  if (address.type === "websocket") return overWebSocket(address, spec, graph);
  return { ...plainOptions(spec), address, tls: tlsOf(spec, graph, address) };
}

/** TLS is the WebSocket's own there. */
function overWebSocket(address: WebSocketAddress, spec: NodeSpec, graph: OpenContext["graph"]): NbdOptions {
  const id = stringOption(spec, "tls-creds");
  const isSecure = /^wss:/i.test(address.url);
  if (spec["tls"] === "on" || booleanOption(spec, "tls") || stringOption(spec, "tls-hostname") !== undefined)
    throw new CommandError("TLS of a WebSocket is its URL's: wss:");
  if (id === undefined) return { ...plainOptions(spec), address, tls: undefined };
  if (!isSecure) throw new CommandError("TLS credentials are for 'wss:' URLs");
  const credentials = tlsIdentitiesOf(graph).lookup(id, "client");
  return { ...plainOptions(spec), address: { ...address, credentials }, tls: undefined };
}

function plainOptions(spec: NodeSpec): Omit<NbdOptions, "address" | "tls"> {
  const context = stringOption(spec, "x-dirty-bitmap");
  return {
    exportName: stringOption(spec, "export") ?? "",
    context: context ?? BASE_ALLOCATION,
    isContextNamed: context !== undefined,
    reconnectDelayMs: (sizeOption(spec, "reconnect-delay") ?? 0) * MS_PER_SECOND,
    openTimeoutMs: (sizeOption(spec, "open-timeout") ?? 0) * MS_PER_SECOND,
  };
}

function addressOf(server: unknown): SocketAddress | WebSocketAddress {
  if (typeof server !== "object" || server === null) throw optionError("NBD server address missing");
  const spec = server as NodeSpec;
  const text = (name: string): string => {
    const value = stringOption(spec, name);
    if (value === undefined) throw optionError(`Parameter 'server.${name}' is missing`);
    return value;
  };
  const type = text("type");
  if (type === "websocket") return { type, url: text("url") };
  if (type === "unix") {
    if (booleanOption(spec, "abstract")) throw new CommandError("Abstract sockets are not supported");
    return { type, path: text("path") };
  }
  if (type === "inet") return { type, host: text("host"), port: portOf(text("host"), text("port")) };
  if (type === "fd") throw new CommandError("only QEMU supports file descriptor passing");
  throw new CommandError(`Sockets of type '${type}' are not supported`);
}

function portOf(host: string, port: string): number {
  if (/^\d+$/.test(port)) return Number(port) % 2 ** 16;
  throw new CommandError(
    `address resolution failed for ${host}:${port}: Servname not supported for ai_socktype`,
  );
}

function tlsOf(spec: NodeSpec, graph: OpenContext["graph"], address: SocketAddress): NbdOptions["tls"] {
  const id = stringOption(spec, "tls-creds");
  const ownName = address.type === "inet" ? address.host : undefined;
  const hostname = stringOption(spec, "tls-hostname") ?? ownName;
  if (id !== undefined) return { credentials: tlsIdentitiesOf(graph).lookup(id, "client"), hostname };
  // Names say it in a word.
  if (spec["tls"] !== "on" && !booleanOption(spec, "tls")) return undefined;
  // By the authorities of the platform: certificates of nobody's own make.
  return { credentials: { kind: "x509", verifyPeer: true }, hostname };
}
