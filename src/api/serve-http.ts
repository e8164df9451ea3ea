/**
 * A disk for clients of HTTP: browsers that boot from it, `curl` that resumes. It is read only, and nobody writes to it meanwhile, so
 * that its entity tag stays true.
 */
import { readAddress } from "../base/address.ts";
import { asyncDispose } from "../base/lease.ts";
import { BlockError } from "../base/errors.ts";
import type { HttpOutgoing } from "../base/host.ts";
import { MiB } from "../base/limits.ts";
import type { BlockBackend } from "../block/graph/backend.ts";
import { exportsOf } from "../export/exports.ts";
import { answerOf, type ServedDisk } from "../server/http/answer.ts";
import { checkReach } from "../server/nbd/address.ts";
import { bracketed, namesOf } from "../server/web/access.ts";
import type { CallOptions, Node } from "./node.ts";
import { callOptions, checkArgument, checkNodes, optionsOf } from "./options.ts";

const PIECE_BYTES = MiB;

/** Options of serveHttp(). */
export interface ServeHttpOptions extends CallOptions {
  /** Where it listens, `HOST:PORT`: a loopback address but with `allowPlainTcp`. Port 0: any that is free. */
  address: string;
  /** The export's id; default: a new one. */
  id?: string;
  /** The path is `/NAME`; default `disk`. */
  name?: string;
  /** The entity tag's text: the same for the same content, so that overlays over it are known again. Default: a new one each time. */
  etag?: string;
  /** The origin whose pages may read it, or `*`. Default: none but pages of the server itself. */
  origin?: string;
  /** Lets it listen where others than this machine's programs reach it. Default false. */
  allowPlainTcp?: boolean;
}

/** A disk that is served. */
export interface HttpService extends AsyncDisposable {
  readonly url: string;
  /** Connections there are now. */
  readonly clients: number;
  /** Ends all connections and lets the disk go. May be called again. */
  close(): Promise<void>;
}

const checkOptions = optionsOf<ServeHttpOptions>({
  ...callOptions,
  address: "str",
  id: "str",
  name: "str",
  etag: "str",
  origin: "str",
  allowPlainTcp: "bool",
});

let services = 0;

/**
 * Serves a disk until the answer is closed. Throws BlockError: EINVAL for what is no address or tag, EADDRINUSE …, ENOTSUP where the
 * platform has no server; CommandError: EPERM for an address that others reach, and for a disk that somebody writes to.
 */
export async function serveHttp(node: Node, options: ServeHttpOptions): Promise<HttpService> {
  checkOptions(options);
  checkNodes({ node });
  checkArgument("address", options.address, "str");
  options.signal?.throwIfAborted();
  const { graph } = node.engine;
  const address = readAddress(options.address);
  if (address?.type !== "inet") throw refusal(`'${options.address}' is no address to listen on: HOST:PORT`);
  const { host, port } = address;
  const { allowPlainTcp = false, name = "disk", origin } = options;
  checkReach(address, { tls: false, allowed: allowPlainTcp });
  const { httpServer } = graph.host;
  if (!httpServer)
    throw new BlockError({ code: "ENOTSUP", op: "serve-http", message: "there are no HTTP servers here" });
  const text = options.etag ?? `${graph.host.clock.wallMicroseconds()}-${graph.host.random.below(2 ** 32)}`;
  if (!/^[\x21\x23-\x7e]+$/.test(text)) throw refusal(`'${text}' is no entity tag`);
  let clients = 0;
  let close = (): Promise<void> => Promise.resolve();
  services += 1;
  const id = options.id ?? `http-${services}`;
  await node.release();
  let url = "";
  await exportsOf(node.engine).addNode(
    node.blockNode,
    { id, type: "http", exclusive: true },
    async (backend) => {
      const names = new Set<string>();
      const hosts = allowPlainTcp ? undefined : names;
      const disk: ServedDisk = { name, size: node.length, etag: `"${text}"`, origin, hosts };
      const listening = await httpServer.listen(
        { host, port },
        async (request) => withBody(answerOf(request, disk), backend),
        { onClients: (now) => (clients = now) },
      );
      for (const one of namesOf(host, listening.port)) names.add(one);
      url = `http://${bracketed(host)}:${listening.port}/${encodeURIComponent(name)}`;
      close = () => listening.close();
      return {
        get users() {
          return clients;
        },
        end: () => close(),
      };
    },
  );
  const exports = exportsOf(node.engine);
  let closed: Promise<void> | undefined;
  const end = (): Promise<void> => (closed ??= exports.end(id));
  return {
    url,
    get clients() {
      return clients;
    },
    close: end,
    [asyncDispose]: end,
  };
}

function withBody(answer: ReturnType<typeof answerOf>, backend: BlockBackend): HttpOutgoing {
  const { status, headers, range, text } = answer;
  if (text !== undefined) {
    const bytes = new TextEncoder().encode(text);
    return { status, headers, body: () => once(bytes) };
  }
  return range ? { status, headers, body: (gone) => pieces(backend, range, gone) } : { status, headers };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* pieces(
  backend: BlockBackend,
  { offset, end }: { offset: number; end: number },
  gone: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let at = offset; at < end && !gone.aborted; at += PIECE_BYTES) {
    const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - at));
    await backend.pread(at, buffer);
    yield buffer;
  }
}

function refusal(message: string): BlockError {
  return new BlockError({ code: "EINVAL", op: "serve-http", message });
}
