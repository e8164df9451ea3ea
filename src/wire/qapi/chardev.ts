/**
 * The argument of --chardev: `socket,id=mon,path=P,server=on,wait=off`, `socket,host=H,port=N,…`, `stdio,id=…`,
 * `null,id=…`. It is older than key=value options: a bare flag means `on`, one with `no` before it means `off`.
 * Source: behaviour of qemu-storage-daemon 7.2's command line.
 */
import type { SocketAddress } from "../../base/host.ts";
import { QapiError } from "./errors.ts";
import { integerFromOption, sizeFromOption } from "./option-number.ts";
import { splitAtCommas, type OptionPair } from "./keyval.ts";

/** A character device that a monitor may use. */
export type ChardevOptions =
  | {
      readonly backend: "socket";
      readonly id: string;
      readonly address: SocketAddress;
      /** Listens instead of connecting. */
      readonly server: boolean;
      /** A server waits for its first client before anything else starts. */
      readonly wait: boolean;
    }
  | { readonly backend: "stdio" | "null"; readonly id: string }
  | { readonly backend: "file"; readonly id: string; readonly path: string; readonly append: boolean }
  | { readonly backend: "ringbuf" | "memory"; readonly id: string; readonly size: number | undefined };

const TEXT_KEYS = ["backend", "id", "path", "host", "port", "fd", "size"];
const FLAG_KEYS = ["server", "wait", "signal", "mux", "ipv4", "ipv6", "nodelay", "append"];
const notIdentifier = `Parameter 'id' expects an identifier
Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.`;
const IDENTIFIER = /^[A-Za-z][A-Za-z0-9._-]*$/;

function pairOf(part: string, index: number): OptionPair {
  const at = part.indexOf("=");
  if (at >= 0) return { key: part.slice(0, at), value: part.slice(at + 1) };
  if (index === 0) return { key: "backend", value: part };
  const isOff = part.startsWith("no") && FLAG_KEYS.includes(part.slice(2));
  return isOff ? { key: part.slice(2), value: "off" } : { key: part, value: "on" };
}

function pairsOf(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const { key, value } of splitAtCommas(text).map(pairOf)) {
    if (!TEXT_KEYS.includes(key) && !FLAG_KEYS.includes(key)) {
      throw new QapiError(`Invalid parameter '${key}'`);
    }
    if (key === "id" && !IDENTIFIER.test(value)) throw new QapiError(notIdentifier);
    values.set(key, value);
  }
  for (const key of FLAG_KEYS) flag(values, key, false);
  return values;
}

function flag(values: Map<string, string>, key: string, otherwise: boolean): boolean {
  const value = values.get(key);
  if (value === undefined) return otherwise;
  if (["on", "yes", "true", "y"].includes(value)) return true;
  if (["off", "no", "false", "n"].includes(value)) return false;
  throw new QapiError(`Parameter '${key}' expects 'on' or 'off'`);
}

function addressOf(values: Map<string, string>): SocketAddress {
  const path = values.get("path");
  const host = values.get("host");
  const port = values.get("port");
  const fd = values.get("fd");
  if ([path, host, fd].filter((value) => value !== undefined).length !== 1) {
    throw new QapiError("None or one of 'path', 'fd' or 'host' option required.");
  }
  if (path !== undefined) return { type: "unix", path };
  if (fd !== undefined) return { type: "fd", fd: descriptor(fd) };
  if (port === undefined) throw new QapiError("chardev: socket: no port given");
  const number = integerFromOption(port, true);
  if (number === undefined || number > 65_535n) throw new QapiError("Parameter 'port' expects a port number");
  return { type: "inet", host: host ?? "", port: Number(number) };
}

function sizeOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const size = sizeFromOption(text);
  if (size === undefined)
    throw new QapiError(`Parameter 'size' expects a non-negative number below 2^64
Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-
and exabytes, respectively.`);
  return Number(size);
}

function descriptor(text: string): number {
  const number = integerFromOption(text, true);
  if (number !== undefined && number <= 0x7fff_ffffn) return Number(number);
  throw new QapiError(`File descriptor named '${text}' has not been found`);
}

/** Reads the argument of --chardev. Throws QapiError. */
export function parseChardev(text: string): ChardevOptions {
  const values = pairsOf(text);
  const id = values.get("id");
  const backend = values.get("backend");
  const server = flag(values, "server", false);
  const wait = flag(values, "wait", true);
  if (id === undefined) throw new QapiError("chardev: no id specified");
  if (backend === undefined) throw new QapiError(`chardev: "${id}" missing backend`);
  switch (backend) {
    case "socket":
      if (!server && values.has("wait"))
        throw new QapiError("'wait' option is incompatible with socket in client connect mode");
      return { backend, id, address: addressOf(values), server, wait };
    case "stdio":
    case "null":
      return { backend, id };
    case "file": {
      const path = values.get("path");
      if (path === undefined) throw new QapiError("chardev: file: no filename given");
      return { backend, id, path, append: flag(values, "append", false) };
    }
    case "ringbuf":
    case "memory":
      return { backend, id, size: sizeOf(values.get("size")) };
    default:
      throw new QapiError(`'${backend}' is not a valid char driver name`);
  }
}
