/**
 * The verb `nbd`: an image for NBD's clients until the last one has gone, a signal comes, or with -t for good.
 * Source: behaviour and words of qemu-nbd 7.2; where it listens without -k and -b, and that plain TCP beyond this machine wants leave,
 * are ours.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf, messageOf } from "../../../base/errors.ts";
import type { SocketAddress, TlsCredentials } from "../../../base/host.ts";
import { deferred, onAbort } from "../../../base/signals.ts";
import { exportsOf } from "../../../export/exports.ts";
import { loadNativeCalls } from "../../../platform/node/native.ts";
import { checkReach, listenAddress } from "../../../server/nbd/address.ts";
import { tlsCredentialsOf } from "../../../server/nbd/credentials.ts";
import { NbdServer, type NbdServerOptions } from "../../../server/nbd/server.ts";
import { daemonize, tellReady } from "../../daemon/background.ts";
import { type Pidfile, takePidfile } from "../../daemon/pidfile.ts";
import { DEFAULT_WEB_ADDRESS, openNbdDoor, webAddress } from "../../daemon/web.ts";
import { programName, standIn, verbProgram } from "../../program.ts";
import { Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import { checkFlags, clientsOf } from "./check.ts";
import type { NbdFlags } from "./flags.ts";
import { listExports } from "./list.ts";
import { openExported } from "./open.ts";

/** The descriptor of a socket that whoever started the program listens on, as systemd hands it over. */
const ACTIVATION_FD = 3;

/** Serves, or lists; resolves with the exit status. */
export async function nbd(files: readonly string[], flags: NbdFlags): Promise<number> {
  if (flags.fork && !flags.list) {
    const args = process.argv.slice(2).filter((word) => word !== "--fork" && !word.startsWith("--run-as="));
    return daemonize(args[0] === "nbd" ? args.slice(1) : args, "nbd").catch((error: unknown) => {
      process.stderr.write(`${verbProgram("nbd")}: ${messageOf(error)}\n`);
      return 1;
    });
  }
  return new Run(flags, { io: "pool" }).carryOut(async (run) => {
    checkFlags(files, flags);
    if (flags.list) await listExports(run, flags, credentialsOf(run, flags, "client"));
    else await serve(run, files[0] ?? "", flags);
  });
}

function credentialsOf(
  run: Run,
  { tlsCreds }: NbdFlags,
  side: "client" | "server",
): TlsCredentials | undefined {
  if (tlsCreds === undefined) return undefined;
  try {
    return tlsCredentialsOf(run.engine, tlsCreds, side);
  } catch (error) {
    throw new Refusal(`Failed to get TLS creds: ${messageOf(error)}`);
  }
}

/** Whether a socket was handed over to this very process. */
function isActivated(): boolean {
  const { LISTEN_PID, LISTEN_FDS } = process.env;
  if (LISTEN_PID !== String(process.pid) || LISTEN_FDS === undefined) return false;
  delete process.env["LISTEN_PID"];
  delete process.env["LISTEN_FDS"];
  if (LISTEN_FDS !== "1")
    throw new Refusal(`${programName()} does not support socket activation with LISTEN_FDS > 1`);
  return true;
}

/** Where the server will be, once it is there; what is wrong with that is told before anything is opened. */
type Listens = (options: NbdServerOptions) => Promise<{ server: NbdServer; url?: string }>;

/** How to start a server that nobody but clients of the address reaches, and that tells where it is if only it knows. */
function listensAt(run: Run, flags: NbdFlags): Listens {
  const allowPlainTcp = flags.allowPlainTcp ?? false;
  if (flags.websocket !== undefined) {
    const text = flags.websocket === true ? DEFAULT_WEB_ADDRESS : flags.websocket;
    const asked = webAddress(text);
    const address = { ...asked, tlsCreds: asked.tlsCreds ?? flags.tlsCreds };
    return async (options) => {
      const door = await openNbdDoor(run.engine, address, { allowPlainTcp });
      const server = new NbdServer(options);
      server.open({ listener: door });
      return { server, url: door.url(flags.exportName) };
    };
  }
  const credentials = credentialsOf(run, flags, "server");
  const address = addressOf(flags);
  checkReach(address, { tls: credentials !== undefined, allowed: allowPlainTcp });
  return async (options) => ({ server: await NbdServer.start({ ...options, address, credentials }) });
}

function addressOf(flags: NbdFlags): SocketAddress {
  if (!isActivated()) {
    if (flags.socket !== undefined) return listenAddress({ type: "unix", path: flags.socket });
    return listenAddress({ type: "inet", host: flags.bind ?? "127.0.0.1", port: flags.port });
  }
  if (flags.socket !== undefined) throw new Refusal("Unix socket can't be set when using socket activation");
  if (flags.bind !== undefined) throw new Refusal("The interface can't be set when using socket activation");
  return { type: "fd", fd: ACTIVATION_FD };
}

/** Throws Refusal in qemu-nbd's words. */
function pidfileAt(path: string): Pidfile {
  try {
    return takePidfile(path, loadNativeCalls());
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (cause === undefined) throw error;
    throw new Refusal(`Could not create '${path}': ${strerror(errnoOf(cause))}`);
  }
}

async function serve(run: Run, file: string, flags: NbdFlags): Promise<void> {
  const { engine } = run;
  const listen = listensAt(run, flags);
  const opened = await openExported(run, file, flags);
  const over = deferred();
  const { server, url } = await listen({
    host: engine.graph.host,
    maxConnections: clientsOf(flags),
    onFault: (error) => run.note(`internal error: ${messageOf(error)}`),
    ...(flags.verbose ? { onMessage: run.note } : {}),
    onClients: (clients, gone) => {
      if (clients === 0 && gone?.served && !flags.persistent) over.resolve();
    },
  });
  const exports = exportsOf(engine);
  exports.servers.add(server);
  const { exportName, description, bitmap, allocationDepth } = flags;
  const { writable, writethrough } = opened;
  await exports.addNode(
    opened.node.blockNode,
    { id: "nbd", type: "nbd", writable, writethrough },
    (backend) =>
      server.serve(backend, { name: exportName, description, writable, bitmaps: bitmap, allocationDepth }),
  );
  const pidfile = flags.pidFile === undefined ? undefined : pidfileAt(flags.pidFile);
  if (url !== undefined) process.stdout.write(`${url}\n`);
  tellReady();
  const forget = onAbort(run.signal, () => over.resolve());
  if (!run.signal.aborted) await over.promise;
  forget();
  await exports.endAll();
  // The real one leaves its own, and who ends it counts on that.
  if (standIn() === undefined) pidfile?.remove();
  await opened.close();
}
