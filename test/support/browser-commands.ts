// What tests in the browser have done outside of it, by vitest's commands: image servers with faults. Arguments and
// answers are plain data; contents are named by size and seed (content.ts).
import { contentOf } from "./content.ts";
import { type Fault, ImageServer, type SeenRequest } from "./image-server.ts";

const servers = new Map<string, ImageServer>();

function server(url: string): ImageServer {
  const found = servers.get(url);
  if (!found) throw new Error(`no server at ${url}`);
  return found;
}

/** What may be changed while a server runs. */
export interface ServerChange {
  fault?: Fault;
  faultsLeft?: number;
  /** null: none. */
  etag?: string | null;
  lastModified?: string;
  exposeHeaders?: boolean;
  bytes?: number;
  seed?: number;
  /** Files beside the image, in base64; null removes one. */
  files?: Record<string, string | null>;
  /** A byte of the image, or of a file, that is flipped. */
  flip?: { path?: string; at: number };
}

/** Runs a server; returns its URL. */
async function startServer(_context: unknown, bytes: number, seed: number): Promise<string> {
  const made = await ImageServer.start(contentOf(bytes, seed));
  servers.set(made.url, made);
  return made.url;
}

async function changeServer(_context: unknown, url: string, change: ServerChange): Promise<void> {
  const { bytes, seed, files, flip, ...rest } = change;
  const changed = server(url);
  Object.assign(changed, rest);
  if (bytes !== undefined) changed.content = contentOf(bytes, seed);
  for (const [path, file] of Object.entries(files ?? {})) {
    if (file === null) changed.files.delete(path);
    else
      changed.files.set(
        path,
        Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0)),
      );
  }
  if (flip) (flip.path === undefined ? changed.content : changed.files.get(flip.path)!)[flip.at]! ^= 1;
}

/** All connections are cut and none is taken, or that is over. */
async function cutServer(_context: unknown, url: string, cut: boolean): Promise<void> {
  await (cut ? server(url).stop() : server(url).listen());
}

async function seenByServer(_context: unknown, url: string): Promise<SeenRequest[]> {
  return server(url).seen.splice(0);
}

async function stopServer(_context: unknown, url: string): Promise<void> {
  await server(url).stop();
  servers.delete(url);
}

/** For vitest.config.ts. */
export const browserCommands = { startServer, changeServer, cutServer, seenByServer, stopServer };

type WithoutContext<F> = F extends (context: unknown, ...args: infer A) => infer R
  ? (...args: A) => R
  : never;

declare module "vitest/browser" {
  interface BrowserCommands {
    startServer: WithoutContext<typeof startServer>;
    changeServer: WithoutContext<typeof changeServer>;
    cutServer: WithoutContext<typeof cutServer>;
    seenByServer: WithoutContext<typeof seenByServer>;
    stopServer: WithoutContext<typeof stopServer>;
  }
}
