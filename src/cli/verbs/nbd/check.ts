/** Which flags of `nbd` do not go together, or are none of the program's. Source: behaviour and words of qemu-nbd 7.2. */
import { limits } from "../../../base/limits.ts";
import { programName } from "../../program.ts";
import { Refusal } from "../../refusal.ts";
import type { NbdFlags } from "./flags.ts";

/** The largest number of clients that qemu-nbd takes. */
const MOST_SHARED = 2 ** 31 - 1;

/** Throws Refusal. */
export function checkFlags(files: readonly string[], flags: NbdFlags): void {
  if (flags.connect !== undefined || flags.disconnect)
    throw new Refusal(
      "The kernel's NBD client is not driven from here: use nbd-client on the server's address",
    );
  if (flags.selinuxLabel !== undefined) throw new Refusal("--selinux-label is not supported");
  checkOnce(flags);
  checkTls(flags);
  if (flags.list) checkList(files, flags);
  else checkServer(files, flags);
}

function checkOnce({ cache = [], nocache, aio = [], discard = [] }: NbdFlags): void {
  const once = (times: number, what: string): void => {
    if (times > 1) throw new Refusal(`${what} can only be specified once`);
  };
  once(cache.length + (nocache ? 1 : 0), "-n and --cache");
  once(aio.length, "--aio");
  once(discard.length, "--discard");
}

function checkTls({ tlsCreds, tlsAuthz, tlsHostname, list }: NbdFlags): void {
  if (tlsCreds === undefined) {
    const lone = tlsAuthz === undefined ? (tlsHostname === undefined ? undefined : "hostname") : "authz";
    if (lone !== undefined) throw new Refusal(`--tls-${lone} is not permitted without --tls-creds`);
    return;
  }
  if (tlsAuthz !== undefined)
    throw new Refusal(
      list ? "TLS authorization is incompatible with export list" : "--tls-authz is not supported",
    );
  if (tlsHostname !== undefined && !list)
    throw new Refusal("TLS hostname is only supported with export list");
}

function checkList(files: readonly string[], flags: NbdFlags): void {
  if (files.length > 0) throw new Refusal("List mode is incompatible with a file name");
  const { exportName, description, bitmap, format, loadSnapshot, allocationDepth } = flags;
  const { aio, discard, cache, nocache, offset } = flags;
  const isOfDevice =
    [description, bitmap, format, loadSnapshot, aio, discard, cache].some((flag) => flag !== undefined) ||
    exportName ||
    Number(offset ?? 0) !== 0;
  if (isOfDevice || allocationDepth || nocache)
    throw new Refusal("List mode is incompatible with per-device settings");
  if (flags.fork) throw new Refusal("List mode is incompatible with forking");
}

function checkServer(files: readonly string[], flags: NbdFlags): void {
  const more = `Try \`${programName()} --help' for more information.`;
  if (files.length !== 1) throw new Refusal(`Invalid number of arguments\n${more}`);
  if (!(clientsOf(flags) <= MOST_SHARED)) throw new Refusal(`Invalid shared device number '${flags.shared}'`);
  checkLength("export name", flags.exportName);
  checkLength("export description", flags.description ?? "");
  if (flags.socket !== undefined && !flags.socket.startsWith("/"))
    throw new Refusal("socket path must be absolute");
  if (flags.websocket !== undefined && (flags.socket !== undefined || flags.bind !== undefined))
    throw new Refusal("--websocket has its own address: it is not given with -k or -b");
  if (flags.imageOpts && flags.format !== undefined)
    throw new Refusal("--image-opts and -f are mutually exclusive");
}

/** How many clients are served at a time, as strtol() reads it; NaN: that is no number. */
export function clientsOf({ shared }: NbdFlags): number {
  const digits = /^\s*\+?(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.exec(shared)?.[1];
  return digits === undefined ? NaN : /^0\d/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
}

function checkLength(what: string, text: string): void {
  if (new TextEncoder().encode(text).byteLength > limits.nbdMaxStringBytes)
    throw new Refusal(`${what} '${text}' too long`);
}
