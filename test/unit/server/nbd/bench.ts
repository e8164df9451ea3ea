// An NBD server over memory nodes and sockets in memory.
import { CommandError } from "../../../../src/base/errors.ts";
import { BlockExports } from "../../../../src/export/exports.ts";
import type { NbdExportOptions } from "../../../../src/server/nbd/export.ts";
import { NbdServer, type NbdServerOptions } from "../../../../src/server/nbd/server.ts";
import { Pipes } from "../../../support/pipes.ts";
import { TestGraph } from "../../support/graph.ts";
import { TestClient } from "./client.ts";

/** A graph, its exports and a server. */
export class NbdBench extends TestGraph {
  readonly pipes = new Pipes();
  readonly exports = new BlockExports(this.graph);
  readonly faults: unknown[] = [];
  readonly messages: string[] = [];
  readonly events: string[] = [];
  server!: NbdServer;

  /** Starts the server. */
  static async start(options: Partial<NbdServerOptions> = {}): Promise<NbdBench> {
    const bench = new NbdBench();
    bench.graph.events.subscribe(({ event, data }) => bench.events.push(`${event} ${JSON.stringify(data)}`));
    bench.server = await NbdServer.start({
      host: Object.assign(bench.host, { sockets: bench.pipes }),
      address: { type: "unix", path: "s" },
      onFault: (error) => bench.faults.push(error),
      onMessage: (text) => bench.messages.push(text),
      ...options,
    });
    bench.exports.servers.add(bench.server);
    return bench;
  }

  /** Exports a node under its name. */
  async export(
    node: string,
    options: Partial<NbdExportOptions> & { writethrough?: boolean } = {},
  ): Promise<void> {
    const { writable = true, writethrough } = options;
    await this.exports.add({ id: node, type: "nbd", "node-name": node, writable, writethrough }, (backend) =>
      this.server.serve(backend, { name: node, writable, ...options }),
    );
  }

  /** A client that has just connected. */
  dial(): TestClient {
    return new TestClient(this.pipes.dial());
  }

  /** A client that has chosen an export: of simple replies, or of structured ones with these contexts. */
  async client(name: string, contexts?: readonly string[]): Promise<TestClient> {
    const client = this.dial();
    await client.greet();
    await client.go(name, contexts);
    return client;
  }

  /** Throws what broke in the server. */
  check(): void {
    if (this.faults.length > 0) throw this.faults[0];
  }
}

/** The words of a refusal. */
export async function wordsOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof CommandError) return error.message;
    throw error;
  }
  return "nothing was refused";
}
