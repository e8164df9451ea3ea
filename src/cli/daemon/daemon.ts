/**
 * `blockwright daemon`: the storage daemon with qemu-storage-daemon's command line. Options are carried out in the order
 * in which they are given; an error ends the program with status 1 before anything is served.
 */
import { setMaxListeners } from "node:events";
import { printableMessage } from "../printable.ts";
import { parseArgs } from "node:util";
import { CommandError, messageOf } from "../../base/errors.ts";
import type { Host, HttpListening } from "../../base/host.ts";
import { gatePolicies } from "../../block/model/gate.ts";
import type { NodeSpec } from "../../block/model/contract.ts";
import type { Engine } from "../../node.ts";
import { keepAlive } from "../../platform/node/clock.ts";
import { loadNativeCalls } from "../../platform/node/native.ts";
import { addHttpExport, httpExportOf } from "./http-export.ts";
import { addExport, exportHandlers } from "../../server/nbd/commands.ts";
import { listenAddress } from "../../server/nbd/address.ts";
import { nbdControlOf } from "../../server/nbd/control.ts";
import { chardevHandlers } from "../../server/monitor/machine/chardev.ts";
import { qomHandlers } from "../../server/monitor/machine/qom.ts";
import { daemonSchema } from "../../wire/qapi/machine/table.ts";
import { type EngineCommandsOptions, engineCommands } from "../../server/monitor/commands/index.ts";
import { helpHead, standIn, standInVersion, verbProgram } from "../program.ts";
import { qemuVersion, version } from "../../version.ts";
import {
  compatLevels,
  parseChardev,
  parseOption,
  schemaAt,
  schemaWith,
  type CompatLevel,
} from "../../wire/qapi/index.ts";
import { daemonize, tellReady } from "./background.ts";
import { closeInTime } from "./close.ts";
import { CharacterDevices } from "./monitors.ts";
import { type QmpServer, serveQmp, tellFault } from "./qmp.ts";
import { defaultGate, type GateChoice, programEngine, readGate } from "../options/engine.ts";
import { options, withDefaults } from "./options.ts";
import { type Pidfile, takePidfile } from "./pidfile.ts";
import { DEFAULT_WEB_ADDRESS, openNbdDoor, startWeb, webAddress } from "./web.ts";

/** Who stands in for QEMU's program has no word of our own in its help. */
const compatUsage = `  --compat 7.2|10.1|blockwright
                         whose QMP is spoken: QEMU 7.2's (default), or that with what is our own beside it:
                         dirty bitmaps survive a crash, too
`;

const usage = (own: string): string => `
  --blockdev [driver=]<driver>[,node-name=<N>][,…] | <JSON>
                         add a block node
  --object [qom-type=]throttle-group|iothread|secret|tls-creds-x509|tls-creds-psk,id=<ID>[,…] | <JSON>
                         add an object
  --chardev socket,id=<ID>,path=<P>,server=on,wait=off | stdio,id=<ID>
                         a character device for a monitor
  --monitor [chardev=]<ID>[,mode=control][,pretty=on|off]
                         a QMP monitor on a character device
  --nbd-server addr.type=unix,addr.path=<P> | addr.type=inet,addr.host=<H>,addr.port=<N>
               [,tls-creds=<ID>][,max-connections=<N>]
                         serve exports by NBD
  --export type=http,id=<ID>,node-name=<N>,addr.port=<PORT>[,addr.host=<H>][,name=<NAME>][,origin=<ORIGIN>]
                         serve a node for reading by HTTP; nobody writes to it meanwhile
  --export [type=]nbd,id=<ID>,node-name=<N>[,name=<NAME>][,writable=on|off][,…]
                         let NBD's clients use a node
  --nbd-websocket [[<H>:]<PORT>][,token-secret=<ID>][,origin=<ORIGIN>][,tls-creds=<ID>]
                         let pages' clients use the exports, by WebSocket; its address is printed
  --dashboard [[<H>:]<PORT>][,token-secret=<ID>][,origin=<ORIGIN>][,tls-creds=<ID>]
                         serve a page that shows nodes, exports and jobs and steers them; its address is printed
  --metrics [[<H>:]<PORT>][,token-secret=<ID>][,tls-creds=<ID>]
                         serve measurements alone, in OpenMetrics' format
  --allow-plain-tcp      let NBD and web servers listen on addresses that others reach without TLS
  --allow-tcp-monitor    let monitors be on TCP, on loopback addresses
  --gate deny|same-dir|local|all[,http[s]://HOST…]
                         which files an image may name to be opened (default: local)
${own}  --strict-error-policy  refuse on-error=stop|enospc unless the device stops too (QEMU's rule of 2012)
  --pidfile <FILE>       write the process id there
  --daemonize            go to the background once everything is set up
  --version, --help
`;

function usageHead(): string {
  const alias = standIn();
  if (alias) return helpHead(alias);
  return `Usage: ${verbProgram("daemon")} [options]\nRuns block jobs over QMP, with the command line of qemu-storage-daemon.\n`;
}

interface Token {
  name: string;
  value: string;
}

/** What the whole run is told. */
interface DaemonInit {
  readonly gate: GateChoice;
  readonly strict: boolean;
  readonly plainTcp: boolean;
  readonly tcpMonitor: boolean;
  readonly compat: CompatLevel;
}

/** What one run of the daemon works with. */
class Daemon {
  readonly #engine: Engine;
  readonly #host: Host;
  readonly #devices: CharacterDevices;
  readonly #served: QmpServer;
  readonly #commands: EngineCommandsOptions;
  readonly #webServers: HttpListening[] = [];
  readonly #stop = new AbortController();
  #closed: Promise<void> | undefined;
  #status = 0;
  #quit!: () => void;
  /** Resolves when the daemon is asked to end. */
  readonly quitRequested: Promise<void>;

  constructor({ gate, strict, plainTcp, tcpMonitor, compat }: DaemonInit) {
    // Each client waits for it.
    setMaxListeners(0, this.#stop.signal);
    this.quitRequested = new Promise((resolve) => {
      this.#quit = resolve;
    });
    this.#engine = programEngine({ strictErrorPolicy: strict }, gate, compat);
    this.#engine.graph.onTrouble = (words) =>
      void process.stderr.write(`${verbProgram("daemon")}: ${printableMessage(words)}\n`);
    this.#host = this.#engine.graph.host;
    this.#devices = new CharacterDevices(this.#host.sockets);
    this.#commands = {
      version: qemuVersion,
      compat,
      base: daemonSchema,
      more: {
        ...exportHandlers,
        ...chardevHandlers(this.#devices),
        ...qomHandlers({ chardevs: () => this.#devices.chardevs() }),
      },
      beforeQuit: () => this.#closeEngine(),
      onQuit: () => this.#quit(),
    };
    const registry = engineCommands(this.#commands);
    const nbd = nbdControlOf(this.#engine);
    nbd.allowPlainTcp = plainTcp;
    this.#devices.allowTcp = tcpMonitor;
    nbd.onFault = (error) => tellFault("daemon", error);
    this.#served = { verb: "daemon", registry, engine: this.#engine, signal: this.#stop.signal };
  }

  quit(): void {
    this.#quit();
  }

  /** Carries one option out. Throws with a message for the user. */
  async apply({ name, value }: Token): Promise<void> {
    if (name === "blockdev") await this.#addNode(value);
    else if (name === "object")
      await this.#engine.objects.add(parseOption("ObjectOptions", value, { impliedKey: "qom-type" }));
    else if (name === "chardev") await this.#devices.add(parseChardev(value), { isServed: true });
    else if (name === "monitor") await this.#addMonitor(value);
    else if (name === "nbd-server") await this.#startNbd(value);
    else if (name === "dashboard" || name === "metrics") await this.#startWeb(name, value);
    else if (name === "nbd-websocket") await this.#openDoor(value);
    else await this.#addExport(value);
  }

  async #addNode(value: string): Promise<void> {
    const { graph } = this.#engine;
    const table = schemaWith(graph.drivers, schemaAt(this.#commands.compat ?? "7.2", daemonSchema));
    await graph.add(parseOption("BlockdevOptions", value, { impliedKey: "driver", table }) as NodeSpec);
  }

  async #addExport(value: string): Promise<void> {
    const http = value.startsWith("{") ? undefined : httpExportOf(value);
    if (!http)
      await addExport(this.#engine, parseOption("BlockExportOptions", value, { impliedKey: "type" }));
    else await addHttpExport(this.#engine, http, { allowPlainTcp: nbdControlOf(this.#engine).allowPlainTcp });
  }

  async #startNbd(value: string): Promise<void> {
    const server = parseOption("NbdServerOptions", value);
    await nbdControlOf(this.#engine).start(listenAddress(server.addr), server);
  }

  async #openDoor(value: string): Promise<void> {
    const nbd = nbdControlOf(this.#engine);
    const door = await openNbdDoor(this.#engine, webAddress(value), nbd);
    nbd.open({ listener: door });
    this.#devices.tell(`nbd-websocket: ${door.url("")}\n`);
  }

  async #startWeb(name: "dashboard" | "metrics", value: string): Promise<void> {
    const server = await startWeb(webAddress(value), {
      engine: this.#engine,
      allowPlainTcp: nbdControlOf(this.#engine).allowPlainTcp,
      dashboard: name === "dashboard",
      commands: this.#commands,
      attend: (connection, registry) =>
        this.#devices.attend(connection, (one, interactive) =>
          serveQmp(one, { ...this.#served, registry }, { indent: 0, interactive }),
        ),
    });
    this.#webServers.push(server);
    this.#devices.tell(`${name}: ${server.url}\n`);
  }

  async #addMonitor(value: string): Promise<void> {
    const monitor = parseOption("MonitorOptions", value, { impliedKey: "chardev" });
    if (monitor.mode === "readline") throw new CommandError("Only QMP is supported");
    const indent = monitor.pretty ? 4 : 0;
    await this.#devices.serve(monitor.chardev, (connection, interactive) =>
      serveQmp(connection, this.#served, { indent, interactive }),
    );
  }

  /** All options were carried out: answers those who have connected. */
  setUp(): void {
    this.#devices.setUp();
  }

  /** Waits for the first clients of `wait=on` sockets. */
  untilConnected(): Promise<void> {
    return this.#devices.untilConnected();
  }

  /** Cancels jobs, closes images, then ends the monitors. Returns the exit status. */
  async close(): Promise<number> {
    await this.#closeEngine();
    await this.#devices.stopListening();
    this.#stop.abort();
    await this.#devices.ended();
    await Promise.all(this.#webServers.map((server) => server.close()));
    return this.#status;
  }

  /** Once; a failure is told, and is the daemon's status. */
  async #closeEngine(): Promise<void> {
    this.#closed ??= closeInTime(this.#engine).catch((error: unknown) => {
      this.#status = fail(messageOf(error));
    });
    await this.#closed;
  }
}

/** Runs the daemon with the arguments after `daemon`; resolves with the exit status. */
export async function daemon(words: string[]): Promise<number> {
  const args = withDefaults(words, DEFAULT_WEB_ADDRESS);
  const { tokens } = parseArgs({ args, options, tokens: true, strict: false });
  const wrong = tokens.map(misuse).find((text) => text !== undefined);
  if (wrong !== undefined) return fail(wrong);
  const parsed = parseArgs({ args, options, tokens: true });
  const { values } = parsed;
  if (values.help) return print(`${usageHead()}${usage(standIn() ? "" : compatUsage)}`);
  if (values.version)
    return print(
      `${standIn() ? standInVersion() : `blockwright daemon version ${version} (behaves as qemu-storage-daemon 7.2)`}\n`,
    );
  const gate = values.gate === undefined ? defaultGate : readGate(values.gate);
  if (gate === undefined) return fail(`--gate ${values.gate}: one of ${gatePolicies.join(", ")} is expected`);
  const compat = compatLevels.find((level) => level === (values.compat ?? "7.2"));
  if (compat === undefined)
    return fail(`--compat ${values.compat}: one of ${compatLevels.join(", ")} is expected`);
  if (values.daemonize)
    return daemonize(
      args.filter((arg) => arg !== "--daemonize"),
      "daemon",
    ).catch((error: unknown) => fail(messageOf(error)));
  const given: Token[] = [];
  for (const token of parsed.tokens) {
    if (token.kind !== "option" || token.value === undefined) continue;
    if (token.name in options && !["pidfile", "gate", "compat"].includes(token.name))
      given.push({ name: token.name, value: token.value });
  }
  return run(given, {
    gate,
    strict: values["strict-error-policy"] ?? false,
    plainTcp: values["allow-plain-tcp"] ?? false,
    tcpMonitor: values["allow-tcp-monitor"] ?? false,
    compat,
    pidfile: values.pidfile,
  });
}

type ParsedToken = ReturnType<
  typeof parseArgs<{ args: string[]; tokens: true; strict: false }>
>["tokens"][number];

/** What is wrong with a word of the command line, in the words of getopt and of QEMU's daemon. */
function misuse(token: ParsedToken): string | undefined {
  if (token.kind === "positional") return `${token.value}: Unexpected argument`;
  if (token.kind !== "option") return undefined;
  const { name, rawName, value } = token;
  if (!Object.hasOwn(options, name)) return `unrecognized option '${rawName}'`;
  const takesValue = options[name as keyof typeof options].type === "string";
  if (takesValue && value === undefined) return `option '${rawName}' requires an argument`;
  return !takesValue && value !== undefined ? `option '${rawName}' doesn't allow an argument` : undefined;
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

function fail(message: string): number {
  process.stderr.write(`${verbProgram("daemon")}: ${printableMessage(message)}\n`);
  return 1;
}

async function run(
  tokens: readonly Token[],
  init: DaemonInit & { pidfile: string | undefined },
): Promise<number> {
  const instance = new Daemon(init);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => instance.quit());
  for (const token of tokens) {
    try {
      await instance.apply(token);
    } catch (error) {
      await instance.close();
      return fail(`--${token.name} ${token.value}: ${messageOf(error)}`);
    }
  }
  let pidfile: Pidfile | undefined;
  try {
    if (init.pidfile !== undefined) pidfile = takePidfile(init.pidfile, loadNativeCalls());
  } catch (error) {
    await instance.close();
    return fail(messageOf(error));
  }
  const alive = keepAlive();
  instance.setUp();
  await instance.untilConnected();
  tellReady();
  await instance.quitRequested;
  const status = await instance.close();
  pidfile?.remove();
  alive();
  return status;
}
