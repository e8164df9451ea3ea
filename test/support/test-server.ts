// An image server for tests that run in Node and in a browser: here in Node it is in this process, in a browser it is run by
// vitest's commands (browser-commands.ts). Both speak in plain data.
import type { ServerChange, browserCommands } from "./browser-commands.ts";
import type { SeenRequest } from "./image-server.ts";

/** A running server. */
export interface TestServer {
  readonly url: string;
  change(change: ServerChange): Promise<void>;
  /** Cuts all connections and takes none, or takes them again. */
  cut(cut: boolean): Promise<void>;
  /** The requests since the last look. */
  seen(): Promise<SeenRequest[]>;
  stop(): Promise<void>;
}

/** Whether this runs in a browser. */
export const inBrowser = typeof document !== "undefined";

/** Starts a server with contentOf(bytes, seed). */
export async function startTestServer(bytes: number, seed = 1): Promise<TestServer> {
  // The names are put together, so that bundlers do not look for the module of the other side.
  const commands = inBrowser
    ? ((await import("vitest/browser")).commands as unknown as Commands)
    : bound(
        (await import(/* @vite-ignore */ ["./browser", "commands.ts"].join("-"))) as {
          browserCommands: Unbound;
        },
      );
  const url = await commands.startServer(bytes, seed);
  return {
    url,
    change: (change) => commands.changeServer(url, change),
    cut: (cut) => commands.cutServer(url, cut),
    seen: () => commands.seenByServer(url),
    stop: () => commands.stopServer(url),
  };
}

type Unbound = typeof browserCommands;
type Commands = {
  [K in keyof Unbound]: Unbound[K] extends (context: never, ...args: infer A) => infer R
    ? (...args: A) => R
    : never;
};

/** The commands without vitest's context, which none of them uses. */
function bound(module: { browserCommands: Unbound }): Commands {
  const entries = Object.entries(module.browserCommands) as [string, (...args: unknown[]) => unknown][];
  return Object.fromEntries(
    entries.map(([name, call]) => [name, (...args: unknown[]) => call(undefined, ...args)]),
  ) as unknown as Commands;
}
