/**
 * The NBD server that a monitor starts and stops, one of an engine, and the exports that are added to it.
 * Source: QAPI block-export schema; behaviour and words of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import type { SocketAddress } from "../../base/host.ts";
import { settleAll } from "../../base/signals.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import { exportsOf, type RemoveMode } from "../../export/exports.ts";
import type { Engine } from "../../machine/engine.ts";
import type { ArgsOf, TypeOf } from "../../wire/qapi/index.ts";
import { checkReach } from "./address.ts";
import { tlsCredentialsOf } from "./credentials.ts";
import type { NbdExport } from "./export.ts";
import { type Door, NbdServer } from "./server.ts";

/** What is asked of a server. */
interface StartOptions {
  readonly "tls-creds"?: string | undefined;
  readonly "tls-authz"?: string | undefined;
  readonly "max-connections"?: number | undefined;
}

type ExportArgs = Extract<TypeOf<"BlockExportOptions">, { type: "nbd" }>;

/** The server of one engine's monitors. */
export class NbdControl {
  /** Addresses that others reach may be listened on without TLS. */
  allowPlainTcp = false;
  /** Hears of what is broken in here. */
  onFault: ((error: unknown) => void) | undefined;
  readonly #engine: Engine;
  readonly #exports = new Set<string>();
  #server: NbdServer | undefined;
  #starting = false;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** nbd-server-start. Throws CommandError. */
  async start(address: SocketAddress, options: StartOptions): Promise<void> {
    if (this.#server || this.#starting)
      throw new CommandError("NBD server already running", { code: "EBUSY" });
    const { graph } = this.#engine;
    const id = options["tls-creds"];
    const credentials = id === undefined ? undefined : tlsCredentialsOf(this.#engine, id, "server");
    if (options["tls-authz"] !== undefined)
      throw new CommandError("Parameter 'tls-authz' is not supported", { code: "ENOTSUP" });
    checkReach(address, { tls: credentials !== undefined, allowed: this.allowPlainTcp });
    this.#starting = true;
    try {
      this.#server = await NbdServer.start({
        host: graph.host,
        address,
        credentials,
        maxConnections: options["max-connections"],
        onFault: this.onFault,
      });
      exportsOf(this.#engine).servers.add(this.#server);
    } finally {
      this.#starting = false;
    }
  }

  /** Lets clients come in by a door that is no socket's (a WebSocket's); the server starts with it where none is there. */
  open(door: Door): void {
    if (!this.#server) {
      this.#server = new NbdServer({ host: this.#engine.graph.host, onFault: this.onFault });
      exportsOf(this.#engine).servers.add(this.#server);
    }
    this.#server.open(door);
  }

  #running(): NbdServer {
    if (!this.#server) throw new CommandError("NBD server not running", { code: "ENOTCONN" });
    return this.#server;
  }

  /** nbd-server-stop: the exports go first, whoever uses them. Throws CommandError. */
  async stop(): Promise<void> {
    const server = this.#running();
    const exports = exportsOf(this.#engine);
    await settleAll([...this.#exports].map((id) => exports.end(id)));
    this.#exports.clear();
    this.#server = undefined;
    exports.servers.delete(server);
    await server.stop();
  }

  /** block-export-add of an NBD export. Throws CommandError. */
  async add(args: ExportArgs): Promise<void> {
    await exportsOf(this.#engine).add(args, (backend) => this.#serve(backend, args));
    this.#exports.add(args.id);
  }

  #serve(backend: BlockBackend, args: ExportArgs): NbdExport {
    return this.#running().serve(backend, {
      name: args.name ?? args["node-name"],
      description: args.description,
      writable: args.writable,
      bitmaps: args.bitmaps,
      allocationDepth: args["allocation-depth"],
    });
  }

  /** nbd-server-add: the name is the id, too, and what is read-only is shown so. Throws CommandError. */
  async addDevice(args: ArgsOf<"nbd-server-add">): Promise<void> {
    const { graph } = this.#engine;
    const node = graph.lookup(args.device);
    this.#running();
    const name = args.name ?? args.device;
    await this.add({
      type: "nbd",
      id: name,
      "node-name": node.name,
      name,
      ...(args.description === undefined ? {} : { description: args.description }),
      writable: (args.writable ?? false) && !node.readOnly,
      ...(args.bitmap === undefined ? {} : { bitmaps: [args.bitmap] }),
    });
  }

  /** nbd-server-remove. Throws CommandError. */
  async remove(name: string, mode: RemoveMode | undefined): Promise<void> {
    const exports = exportsOf(this.#engine);
    if (exports.find(name).type !== "nbd")
      throw new CommandError(`Block export '${name}' is not an NBD export`);
    await exports.remove(name, mode);
  }
}

const byEngine = new WeakMap<Engine, NbdControl>();

/** The one of an engine; made when first asked for. */
export function nbdControlOf(engine: Engine): NbdControl {
  let control = byEngine.get(engine);
  if (!control) byEngine.set(engine, (control = new NbdControl(engine)));
  return control;
}
