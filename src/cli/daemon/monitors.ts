/**
 * The character devices of a command line and who is served on them. Clients are answered once every option was carried out, as
 * QEMU's main loop starts last.
 */
import { CommandError, messageOf } from "../../base/errors.ts";
import type { HostConnection, HostSockets, SocketAddress } from "../../base/host.ts";
import { stdioConnection } from "../../platform/node/stdio.ts";
import type { ChardevBackend, ChardevControl, ChardevRow } from "../../server/monitor/machine/chardev.ts";
import { isInBackground } from "./background.ts";
import { isLoopback } from "../../server/nbd/address.ts";
import type { ChardevOptions } from "../../wire/qapi/index.ts";
import { backendOf, filenameOf, openChardev, type OpenedChardev, type RingBuffer } from "./chardevs.ts";

/** Serves a connection until either side ends it. `interactive`: somebody types there. */
export type Service = (connection: HostConnection, interactive: boolean) => Promise<void>;

interface Device {
  readonly options: ChardevOptions;
  /** Somebody is served on it. */
  used: boolean;
  /** Clients that are served now. */
  clients: number;
  /** What chardev-add has opened. */
  readonly opened?: OpenedChardev;
}

/** All character devices. */
export class CharacterDevices implements ChardevControl {
  readonly #sockets: HostSockets | undefined;
  readonly #devices = new Map<string, Device>();
  readonly #sessions = new Set<Promise<void>>();
  readonly #listeners: { close(): Promise<void> }[] = [];
  readonly #waiters: (() => Promise<void>)[] = [];
  readonly #early: (() => void)[] = [];
  #isSetUp = false;
  /** Monitors of QMP may be on TCP, where this machine's programs reach them. */
  allowTcp = false;

  constructor(sockets: HostSockets | undefined) {
    this.#sockets = sockets;
  }

  /** Makes a device; `isServed`: somebody will be served on it, and opens it then. Throws CommandError where its id is taken. */
  async add(options: ChardevOptions, { isServed }: { isServed: boolean }): Promise<void> {
    if (this.#devices.has(options.id)) throw new CommandError(`Duplicate ID '${options.id}' for chardev`);
    if (options.backend === "stdio" && this.#hasStdio())
      throw new CommandError("cannot use stdio by multiple character devices");
    const backend = isServed && options.backend === "socket" ? undefined : backendOf(options);
    const opened = backend && (await openChardev(backend, this.#sockets));
    this.#devices.set(options.id, { options, used: false, clients: 0, ...(opened ? { opened } : {}) });
  }

  #hasStdio(): boolean {
    return [...this.#devices.values()].some(({ options }) => options.backend === "stdio");
  }

  /** The ids and kinds of all. */
  chardevs(): { id: string; kind: string }[] {
    return [...this.#devices.values()].map(({ options, opened }) => ({
      id: options.id,
      kind: opened?.kind ?? options.backend,
    }));
  }

  rows(): ChardevRow[] {
    return [...this.#devices.values()].map(({ options, used, clients, opened }) => ({
      "frontend-open": used,
      filename: opened?.filename ?? filenameOf(options, clients > 0),
      label: options.id,
    }));
  }

  async create(id: string, backend: ChardevBackend): Promise<void> {
    if (this.#devices.has(id)) throw new CommandError(`Chardev with id '${id}' already exists`);
    await this.#open(id, backend);
  }

  async #open(id: string, backend: ChardevBackend): Promise<void> {
    try {
      if (backend.type === "stdio" && this.#hasStdio())
        throw new CommandError("cannot use stdio by multiple character devices");
      const opened = await openChardev(backend, this.#sockets);
      this.#devices.set(id, { options: { backend: "null", id }, used: false, clients: 0, opened });
    } catch (error) {
      throw new CommandError(`Failed to add chardev '${id}': ${messageOf(error)}`, { cause: error });
    }
  }

  async change(id: string, backend: ChardevBackend): Promise<void> {
    const device = this.#devices.get(id);
    if (!device) throw new CommandError(`Chardev '${id}' does not exist`);
    if (device.used) throw new CommandError("Chardev user does not support chardev hotswap");
    await this.#open(id, backend);
    await device.opened?.close();
  }

  async destroy(id: string): Promise<void> {
    const device = this.#devices.get(id);
    if (!device) throw new CommandError(`Chardev '${id}' not found`);
    if (device.used) throw new CommandError(`Chardev '${id}' is busy`);
    this.#devices.delete(id);
    await device.opened?.close();
  }

  ring(id: string): RingBuffer {
    const device = this.#devices.get(id);
    if (!device) throw new CommandError(`Device '${id}' not found`);
    if (!device.opened?.ring) throw new CommandError(`${id} is not a ringbuf device`);
    return device.opened.ring;
  }

  /** Whether there is a device of that id. */
  has(id: string): boolean {
    return this.#devices.has(id);
  }

  /** Serves on the device of that id, which nobody else does. Throws CommandError. */
  async serve(id: string, service: Service, { isQmp = true }: { isQmp?: boolean } = {}): Promise<void> {
    const device = this.#devices.get(id);
    if (!device) throw new CommandError(`chardev "${id}" not found`);
    if (device.used) throw new CommandError(`Device '${id}' is in use`);
    device.used = true;
    if (device.options.backend === "stdio")
      this.#attend(stdioConnection(), { service, interactive: true, device });
    else if (device.options.backend === "socket") {
      this.#checkReach(device.options.address, isQmp);
      await this.#serveSocket(device, device.options, service);
    }
  }

  /** Throws CommandError for a socket that others reach, or on which a first line that is no JSON would count. */
  #checkReach(address: SocketAddress, isQmp: boolean): void {
    if (address.type === "inet" && !(isQmp && this.allowTcp && isLoopback(address.host)))
      throw new CommandError(
        "A QMP monitor on TCP is refused: it gives whoever connects the rights of this user; use a Unix socket, " +
          "or a loopback address and --allow-tcp-monitor",
      );
  }

  async #serveSocket(
    device: Device,
    options: Extract<ChardevOptions, { backend: "socket" }>,
    service: Service,
  ): Promise<void> {
    const sockets = this.#sockets;
    if (!sockets) throw new CommandError("this platform has no sockets");
    if (!options.server)
      return this.#attend(await sockets.connect(options.address), { service, interactive: false, device });
    const listener = await sockets.listen(options.address);
    this.#listeners.push(listener);
    let first!: () => void;
    const connected = new Promise<void>((resolve) => {
      first = resolve;
    });
    if (options.wait) this.#waiters.push(() => connected);
    void this.#accept(listener.connections, { service, onConnection: first, device });
  }

  async #accept(
    connections: AsyncIterable<HostConnection>,
    { service, onConnection, device }: { service: Service; onConnection: () => void; device: Device },
  ): Promise<void> {
    for await (const connection of connections) {
      onConnection();
      this.#attend(connection, { service, interactive: false, device });
    }
  }

  #attend(
    connection: HostConnection,
    how: { service: Service; interactive: boolean; device?: Device },
  ): void {
    const begin = (): void => {
      const session = how.service(connection, how.interactive);
      this.#sessions.add(session);
      if (how.device) how.device.clients += 1;
      void session.finally(() => {
        if (how.device) how.device.clients -= 1;
        this.#sessions.delete(session);
      });
    };
    if (this.#isSetUp) begin();
    else this.#early.push(begin);
  }

  /** Serves a connection that came another way. */
  attend(connection: HostConnection, service: Service): void {
    this.#attend(connection, { service, interactive: false });
  }

  /**
   * Says something to whoever started the program once every option was carried out: on standard output, but where a monitor speaks
   * there, or nobody hears.
   */
  tell(text: string): void {
    this.#early.push(() => {
      const isTaken = isInBackground() || this.#hasStdio();
      (isTaken ? process.stderr : process.stdout).write(text);
    });
  }

  /** All options were carried out: answers those who have connected. */
  setUp(): void {
    this.#isSetUp = true;
    for (const begin of this.#early.splice(0)) begin();
  }

  /** Waits for the first clients of `wait=on` sockets. */
  async untilConnected(): Promise<void> {
    for (const wait of this.#waiters) await wait();
  }

  /** Listens no more. */
  async stopListening(): Promise<void> {
    for (const listener of this.#listeners) await listener.close();
    for (const { opened } of this.#devices.values()) await opened?.close();
  }

  /** Waits for the sessions, which somebody has told to end. */
  async ended(): Promise<void> {
    await Promise.all(this.#sessions);
  }
}
