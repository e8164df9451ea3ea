/**
 * An NBD server: listens at one door or several, takes clients up to a number, and shows them the exports that it has at the time.
 *
 * Invariants: no two exports have one name; a client beyond the number waits, and is greeted when another one has gone; after stop()
 * nobody listens, no client is there, and no request is under way. Source: behaviour and words of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import type { Host, HostConnection, HostListener, SocketAddress, TlsCredentials } from "../../base/host.ts";
import { limits } from "../../base/limits.ts";
import { settleAll, Wakeup } from "../../base/signals.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import { NbdClient } from "./connection.ts";
import { type ExportHome, NbdExport, type NbdExportOptions } from "./export.ts";
import { ServerMemory } from "./memory.ts";

/** Where a server takes clients. */
export interface Door {
  readonly listener: HostListener;
  /** NBD's own TLS is required then. */
  readonly credentials?: TlsCredentials | undefined;
}

/** What a server is made of. */
export interface NbdServerOptions {
  readonly host: Host;
  /** Clients at a time; 0: any number. */
  readonly maxConnections?: number | undefined;
  /** Something is broken in here. */
  readonly onFault?: ((error: unknown) => void) | undefined;
  /** Why a client was dropped. */
  readonly onMessage?: ((text: string) => void) | undefined;
  /** How many clients there are by now; of one that has gone, whether it had chosen an export, or only asked or knocked. */
  readonly onClients?: ((clients: number, gone?: GoneClient) => void) | undefined;
}

/** A client that has gone. */
export interface GoneClient {
  /** It had chosen an export. */
  readonly served: boolean;
}

/** What one is made of that listens at once. */
interface NbdStartOptions extends NbdServerOptions {
  /** Where it listens. */
  readonly address: SocketAddress;
  /** TLS is required then. */
  readonly credentials?: TlsCredentials | undefined;
}

/** One server. */
export class NbdServer implements ExportHome {
  readonly #options: NbdServerOptions;
  readonly #doors: HostListener[] = [];
  readonly #most: number;
  readonly #memory = new ServerMemory();
  readonly #exports = new Set<NbdExport>();
  readonly #clients = new Set<NbdClient>();
  readonly #changes = new Wakeup();
  #stopped: Promise<void> | undefined;

  /** One that nobody reaches yet. */
  constructor(options: NbdServerOptions) {
    this.#options = options;
    const most = options.maxConnections ?? limits.nbdMaxConnections;
    this.#most = most === 0 ? Number.POSITIVE_INFINITY : most;
  }

  /** One that listens. Throws where the address can't be listened on, or the platform has no sockets. */
  static async start({ address, credentials, ...options }: NbdStartOptions): Promise<NbdServer> {
    const { sockets } = options.host;
    if (!sockets) throw new CommandError("This platform has no sockets", { code: "ENOTSUP" });
    const listener = await sockets.listen(address);
    const server = new NbdServer(options);
    server.open({ listener, credentials });
    return server;
  }

  /** Takes clients at one more door, which is the server's from now on. */
  open(door: Door): void {
    this.#doors.push(door.listener);
    void this.#accept(door);
  }

  /** Where it listens first: the port that the system chose, for port 0. Undefined: nowhere that has an address. */
  get address(): SocketAddress | undefined {
    return this.#doors[0]?.address;
  }

  /** Clients that are there. */
  get clients(): number {
    return this.#clients.size;
  }

  /** Bytes of requests' data that are in memory, or kept for it. */
  get memoryBytes(): number {
    return this.#memory.bytes;
  }

  get sharesClients(): boolean {
    return this.#most !== 1;
  }

  /** Shows a node, of which `backend` is the user. Throws CommandError: a name that is taken or too long, bitmaps that can't be shown. */
  serve(backend: BlockBackend, options: NbdExportOptions): NbdExport {
    if (this.#find(options.name))
      throw new CommandError(`NBD server already has export named '${options.name}'`, { code: "EEXIST" });
    const made = new NbdExport(backend, options, this);
    this.#exports.add(made);
    return made;
  }

  removed(one: NbdExport): void {
    this.#exports.delete(one);
  }

  /** Whether it has an export of that name. */
  #find(name: string): NbdExport | undefined {
    return [...this.#exports].find((one) => one.name === name);
  }

  /** Takes nobody new, and lets those who are there go once their requests are answered. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#changes.wake();
    await settleAll(this.#doors.map((door) => door.close()));
    await settleAll([...this.#clients].map((client) => client.end("gently")));
  }

  async #accept({ listener, credentials }: Door): Promise<void> {
    try {
      for await (const connection of listener.connections) {
        await this.#changes.until(() => this.#clients.size < this.#most || this.#stopped !== undefined);
        if (this.#stopped) await connection.close().catch(() => undefined);
        else this.#attend(connection, credentials);
      }
    } catch (error) {
      this.#options.onFault?.(error);
    }
  }

  #attend(connection: HostConnection, credentials: TlsCredentials | undefined): void {
    const { host, onFault, onMessage } = this.#options;
    const client = new NbdClient(connection, {
      clock: host.clock,
      memory: this.#memory,
      credentials,
      list: () => [...this.#exports],
      onFault,
      onMessage,
    });
    this.#clients.add(client);
    this.#options.onClients?.(this.#clients.size);
    void client.serve().finally(() => {
      this.#clients.delete(client);
      this.#changes.wake();
      this.#options.onClients?.(this.#clients.size, { served: client.served });
    });
  }
}
