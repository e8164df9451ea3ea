/**
 * An HTTP server of Node, as the Host has it. What a client asks is answered by the caller; bodies follow as fast as the client reads.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { HostHttpServer, HttpHandler, HttpIncoming, TlsCredentials } from "../../base/host.ts";
import { nodeError } from "./errors.ts";
import { serverOptions } from "./tls.ts";
import { webSocketUpgrades } from "./web-sockets.ts";

/** Loaded when it is first needed. */
const http = () => process.getBuiltinModule("node:http");

/** How long a client may take for a request's head, ms. */
const HEAD_MS = 10_000;

function incomingOf(request: IncomingMessage): HttpIncoming {
  const header = (name: string): string | undefined => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
  return { method: request.method ?? "", target: request.url ?? "", header };
}

async function answer(
  handler: HttpHandler,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  // Nobody sends a body that matters here.
  request.resume();
  const reply = await handler(incomingOf(request));
  response.writeHead(reply.status, reply.headers);
  if (request.method === "HEAD" || !reply.body) return void response.end();
  for await (const piece of reply.body(gone.signal)) {
    if (gone.signal.aborted) return;
    if (!response.write(piece)) await drained(response);
  }
  response.end();
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

/** With TLS where there are credentials. */
function makeServer(
  credentials: TlsCredentials | undefined,
  answered: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const limits = { headersTimeout: HEAD_MS, requestTimeout: HEAD_MS };
  if (!credentials) return http().createServer(limits, answered);
  const { createServer } = process.getBuiltinModule("node:https");
  return createServer({ ...limits, ...serverOptions(credentials), handshakeTimeout: HEAD_MS }, answered);
}

/** Listens. Errors: EADDRINUSE, EACCES … */
export const nodeHttpServer: HostHttpServer = {
  async listen({ host, port }, handler, { onClients, onSocket, credentials } = {}) {
    let clients = 0;
    const server = makeServer(credentials, (request, response) => {
      // A disk that can't be read, or a client that has gone: the connection ends, and nobody takes a part for the whole.
      answer(handler, request, response).catch(() => response.destroy());
    });
    server.on(credentials ? "secureConnection" : "connection", (socket: Socket) => {
      clients += 1;
      onClients?.(clients);
      socket.once("close", () => {
        clients -= 1;
        onClients?.(clients);
      });
    });
    const sockets = onSocket && (await webSocketUpgrades((request) => onSocket(incomingOf(request))));
    if (sockets) server.on("upgrade", (request, socket, head) => sockets.upgrade(request, socket, head));
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => reject(nodeError(error, "listen")));
      server.listen(port, host, resolve);
    });
    const bound = server.address();
    return {
      port: typeof bound === "object" && bound ? bound.port : port,
      close: (how) =>
        new Promise((resolve) => {
          server.close(() => resolve());
          server.closeAllConnections();
          if (how?.sockets === "keep") resolve();
          else sockets?.end();
        }),
    };
  },
};
