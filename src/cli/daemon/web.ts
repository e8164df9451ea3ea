/**
 * `--dashboard` and `--metrics` of the daemon: a web server for one engine, and what it says of where it is.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BlockError, CommandError } from "../../base/errors.ts";
import type { HostConnection, HttpListening, TlsCredentials } from "../../base/host.ts";
import type { Engine } from "../../node.ts";
import { plotLibrary } from "../../platform/node/plot-library.ts";
import { engineCommands, type EngineCommandsOptions } from "../../server/monitor/commands/index.ts";
import type { CommandRegistry } from "../../server/monitor/index.ts";
import { checkReach } from "../../server/nbd/address.ts";
import { tlsCredentialsOf } from "../../server/nbd/credentials.ts";
import { bracketed, makeToken } from "../../server/web/access.ts";
import { dashboardHandlers } from "../../server/web/commands.ts";
import { metricsOf } from "../../server/web/metrics.ts";
import { openSocketDoor, type SocketDoor } from "../../server/web/socket-door.ts";
import { startWebServer, type WebFile } from "../../server/web/server.ts";
import { version } from "../../version.ts";
import { dashboardSchema } from "../../wire/qapi/dashboard.ts";
import { parseKeyval, schema } from "../../wire/qapi/index.ts";

/** Where a server of these listens. */
export interface WebAddress {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** A secret of the engine that is the token; absent: a new one each time. */
  readonly tokenSecret: string | undefined;
  /** Origins whose pages may connect, beside its own; `*`: all. */
  readonly origins: readonly string[];
  /** The object of the engine whose credentials it shows, and speaks TLS by. */
  readonly tlsCreds: string | undefined;
}

/** What an option without a value means. */
export const DEFAULT_WEB_ADDRESS = "127.0.0.1:0";

const OPTIONS = ["addr", "token-secret", "origin", "tls-creds"];
const MAX_PORT = 65_535;

/** Reads `[HOST:]PORT[,token-secret=ID][,origin=ORIGIN][,tls-creds=ID]`. Throws CommandError. */
export function webAddress(text: string): WebAddress {
  const options = parseKeyval(text, "addr");
  const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name));
  if (unknown !== undefined) throw new CommandError(`Parameter '${unknown}' is unexpected`);
  const [, host = "127.0.0.1", port] = /^(?:(.+):)?(\d{1,5})$/.exec(wordOf(options["addr"]) ?? "") ?? [];
  if (port === undefined || Number(port) > MAX_PORT)
    throw new CommandError(`'${text}' is no address to listen on: [HOST:]PORT`);
  const origin = wordOf(options["origin"]);
  return {
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port: Number(port),
    tokenSecret: wordOf(options["token-secret"]),
    origins: origin === undefined ? [] : [origin],
    tlsCreds: wordOf(options["tls-creds"]),
  };
}

function wordOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** What a server shows by TLS; undefined: it speaks none. Throws CommandError, for shared keys too: browsers have none. */
function credentialsFor(engine: Engine, { tlsCreds }: WebAddress): TlsCredentials | undefined {
  if (tlsCreds === undefined) return undefined;
  const credentials = tlsCredentialsOf(engine, tlsCreds, "server");
  if (credentials.kind === "x509") return credentials;
  throw new CommandError(`'${tlsCreds}' holds no certificate, which web servers need`, { code: "EINVAL" });
}

/** What is asked of a server of one: it may listen there, and its token. Throws CommandError. */
async function admitted(engine: Engine, address: WebAddress, allowPlainTcp: boolean) {
  const { host, port, origins } = address;
  const credentials = credentialsFor(engine, address);
  checkReach({ type: "inet", host, port }, { tls: credentials !== undefined, allowed: allowPlainTcp });
  const token = await tokenFor(engine, address);
  const anyName = allowPlainTcp || credentials !== undefined;
  return { host: engine.graph.host, address: { host, port }, token, anyName, origins, credentials };
}

/** Opens a door for NBD's clients by WebSocket. Throws CommandError, BlockError. */
export async function openNbdDoor(
  engine: Engine,
  address: WebAddress,
  { allowPlainTcp }: { allowPlainTcp: boolean },
): Promise<SocketDoor> {
  return openSocketDoor(await admitted(engine, address, allowPlainTcp));
}

/** The token of an address, which is a secret's or a new one. Throws CommandError: no such secret, or one that fits in no URL. */
async function tokenFor(engine: Engine, { tokenSecret }: WebAddress): Promise<string> {
  const { host, secrets } = engine.graph;
  if (tokenSecret === undefined) {
    const crypto = await host.crypto?.();
    if (!crypto) throw new CommandError("This platform has no random numbers", { code: "ENOTSUP" });
    return makeToken((bytes) => crypto.randomBytes(bytes));
  }
  const token = new TextDecoder().decode(secrets.lookup(tokenSecret)).replace(/\n$/, "");
  if (!/^[\w.~-]{16,}$/.test(token))
    throw new CommandError(`The secret '${tokenSecret}' is no token: 16 or more of A-Z a-z 0-9 . _ ~ -`);
  return token;
}

/** What is served, and to whom. */
export interface WebInit {
  readonly engine: Engine;
  readonly allowPlainTcp: boolean;
  /** With the page and its QMP; else the metrics alone. */
  readonly dashboard: boolean;
  readonly commands: EngineCommandsOptions;
  /** Serves a client of QMP. */
  readonly attend: (connection: HostConnection, registry: CommandRegistry<Engine>) => void;
}

/** Begins to serve; `url` is where, token included. Throws CommandError, BlockError. */
export async function startWeb(address: WebAddress, init: WebInit): Promise<HttpListening & { url: string }> {
  const { engine, allowPlainTcp, dashboard, attend } = init;
  const access = await admitted(engine, address, allowPlainTcp);
  const registry = dashboardRegistry(init);
  const accept = (connection: HostConnection): void => attend(connection, registry);
  const server = await startWebServer({
    ...access,
    metrics: () => metricsOf(engine, version),
    ...(dashboard ? { files: pageFiles(), sockets: new Map([["/qmp", { isText: true, accept }]]) } : {}),
  });
  const path = dashboard ? "" : "metrics";
  const scheme = access.credentials ? "https" : "http";
  const url = `${scheme}://${bracketed(address.host)}:${server.port}/${path}?token=${access.token}`;
  return { ...server, url };
}

function dashboardRegistry({ commands }: WebInit): CommandRegistry<Engine> {
  const more = { ...commands.more, ...dashboardHandlers };
  return engineCommands({ ...commands, base: dashboardSchema(commands.base ?? schema), more });
}

const TYPES = {
  "index.html": "text/html; charset=utf-8",
  "page.js": "text/javascript; charset=utf-8",
  "page.css": "text/css; charset=utf-8",
} as const;

/** The page, which is a part of the package. */
function pageFiles(): Map<string, WebFile> {
  const folder = fileURLToPath(new URL("../dashboard/", import.meta.url));
  if (!existsSync(`${folder}index.html`))
    throw new BlockError({
      code: "ENOENT",
      op: "dashboard",
      message: `the dashboard's page is not in '${folder}'`,
    });
  const script = new TextEncoder().encode(plotLibrary() ?? "");
  const plot: WebFile = { type: TYPES["page.js"], bytes: script, isOpen: true };
  const files = Object.entries(TYPES).map(([name, type]): [string, WebFile] => [
    name === "index.html" ? "/" : `/${name}`,
    { type, bytes: readFileSync(`${folder}${name}`), isOpen: name !== "index.html" },
  ]);
  return new Map([...files, ["/uplot.js", plot]]);
}
