/**
 * An HTTP server of Node, as the Host has it. What a client asks is answered by the caller; bodies follow as fast as the client reads.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { HostHttpServer, HttpHandler, HttpIncoming } from "../../base/host.ts";
import { nodeError } from "./errors.ts";
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

/** Listens. Errors: EADDRINUSE, EACCES … */
export const nodeHttpServer: HostHttpServer = {
  async listen({ host, port }, handler, { onClients, onSocket } = {}) {
    let clients = 0;
    const server = http().createServer(
      { headersTimeout: HEAD_MS, requestTimeout: HEAD_MS },
      (request, response) => {
        // A disk that can't be read, or a client that has gone: the connection ends, and nobody takes a part for the whole.
        answer(handler, request, response).catch(() => response.destroy());
      },
    );
    server.on("connection", (socket) => {
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
      close: () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          server.closeAllConnections();
          sockets?.end();
        }),
    };
  },
};
