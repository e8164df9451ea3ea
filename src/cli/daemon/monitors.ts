/**
 * The character devices of a command line and who is served on them. Clients are answered once every option was carried out, as
 * QEMU's main loop starts last.
 */
import { CommandError } from "../../base/errors.ts";
import type { HostConnection, HostSockets } from "../../base/host.ts";
import { stdioConnection } from "../../platform/node/stdio.ts";
import type { ChardevOptions } from "../../wire/qapi/index.ts";

/** Serves a connection until either side ends it. `interactive`: somebody types there. */
export type Service = (connection: HostConnection, interactive: boolean) => Promise<void>;

/** All character devices. */
export class CharacterDevices {
  readonly #sockets: HostSockets | undefined;
  readonly #devices = new Map<string, { options: ChardevOptions; used: boolean }>();
  readonly #sessions = new Set<Promise<void>>();
  readonly #listeners: { close(): Promise<void> }[] = [];
  readonly #waiters: (() => Promise<void>)[] = [];
  readonly #early: (() => void)[] = [];
  #isSetUp = false;

  constructor(sockets: HostSockets | undefined) {
    this.#sockets = sockets;
  }

  /** Makes a device. Throws CommandError where its id is taken. */
  add(options: ChardevOptions): void {
    if (this.#devices.has(options.id))
      throw new CommandError(`Chardev with id '${options.id}' already exists`);
    this.#devices.set(options.id, { options, used: false });
  }

  /** Whether there is a device of that id. */
  has(id: string): boolean {
    return this.#devices.has(id);
  }

  /** Serves on the device of that id, which nobody else does. Throws CommandError. */
  async serve(id: string, service: Service): Promise<void> {
    const device = this.#devices.get(id);
    if (!device) throw new CommandError(`chardev "${id}" not found`);
    if (device.used) throw new CommandError(`Device '${id}' is in use`);
    device.used = true;
    if (device.options.backend === "stdio") this.#attend(stdioConnection(), { service, interactive: true });
    else if (device.options.backend === "socket") await this.#serveSocket(device.options, service);
  }

  async #serveSocket(
    device: Extract<ChardevOptions, { backend: "socket" }>,
    service: Service,
  ): Promise<void> {
    const sockets = this.#sockets;
    if (!sockets) throw new CommandError("this platform has no sockets");
    if (device.address.type === "inet") {
      throw new CommandError(
        "A QMP monitor on TCP is refused: it gives whoever connects the rights of this user; use a Unix socket",
      );
    }
    if (!device.server)
      return this.#attend(await sockets.connect(device.address), { service, interactive: false });
    const listener = await sockets.listen(device.address);
    this.#listeners.push(listener);
    let first!: () => void;
    const connected = new Promise<void>((resolve) => {
      first = resolve;
    });
    if (device.wait) this.#waiters.push(() => connected);
    void this.#accept(listener.connections, { service, onConnection: first });
  }

  async #accept(
    connections: AsyncIterable<HostConnection>,
    { service, onConnection }: { service: Service; onConnection: () => void },
  ): Promise<void> {
    for await (const connection of connections) {
      onConnection();
      this.#attend(connection, { service, interactive: false });
    }
  }

  #attend(connection: HostConnection, how: { service: Service; interactive: boolean }): void {
    const begin = (): void => {
      const session = how.service(connection, how.interactive);
      this.#sessions.add(session);
      void session.finally(() => this.#sessions.delete(session));
    };
    if (this.#isSetUp) begin();
    else this.#early.push(begin);
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
  }

  /** Waits for the sessions, which somebody has told to end. */
  async ended(): Promise<void> {
    await Promise.all(this.#sessions);
  }
}
