/**
 * The objects `tls-creds-x509`, `tls-creds-psk` and `tls-creds-anon`: what lies in a folder under fixed names, read when the
 * object is made. Source: QAPI TlsCreds*Properties, QEMU 7.2 and its documentation of the files; words of QEMU 7.2.
 */
import { strerror } from "../base/errno.ts";
import { CommandError, errnoOf } from "../base/errors.ts";
import type { Host, TlsCredentials } from "../base/host.ts";
import { limits } from "../base/limits.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { type TlsEndpoint, tlsIdentitiesOf } from "../crypto/tls-credentials.ts";
import type { ObjectOptions } from "../wire/qapi/index.ts";
import type { MadeObject } from "./objects.ts";

type Of<T> = Extract<ObjectOptions, { "qom-type": T }>;
type TlsOptions = Of<"tls-creds-x509"> | Of<"tls-creds-psk"> | Of<"tls-creds-anon">;

/** The user of a client that names none. */
const DEFAULT_USER = "qemu";

/** A folder of credentials. */
class Folder {
  readonly #host: Host;
  readonly #dir: string;

  constructor(host: Host, dir: string | undefined) {
    if (dir === undefined) throw new CommandError("Missing 'dir' property value");
    this.#host = host;
    this.#dir = dir;
  }

  path(name: string): string {
    return this.#dir.endsWith("/") ? this.#dir + name : `${this.#dir}/${name}`;
  }

  async read(name: string): Promise<Uint8Array> {
    const path = this.path(name);
    try {
      const file = await this.#host.files.open(path, { write: false });
      try {
        const size = await file.size();
        if (size > limits.tlsMaxFileBytes) throw new CommandError(`'${path}' is too large for credentials`);
        const bytes = new Uint8Array(size);
        return bytes.subarray(0, await file.read(bytes, 0));
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof CommandError) throw error;
      throw new CommandError(`Unable to access credentials ${path}: ${strerror(errnoOf(error))}`, {
        code: errnoOf(error),
        cause: error,
      });
    }
  }

  /** Undefined: there is no such file. */
  async readIfThere(name: string): Promise<Uint8Array | undefined> {
    try {
      return await this.read(name);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }
}

async function certificates(graph: BlockGraph, options: Of<"tls-creds-x509">): Promise<TlsCredentials> {
  const { endpoint = "client", passwordid } = options;
  const folder = new Folder(graph.host, options.dir);
  const isServer = endpoint === "server";
  const authority = await folder.read("ca-cert.pem");
  const read = (name: string): Promise<Uint8Array | undefined> =>
    isServer ? folder.read(name) : folder.readIfThere(name);
  const certificate = await read(`${endpoint}-cert.pem`);
  const key = await read(`${endpoint}-key.pem`);
  const passphrase =
    passwordid === undefined ? undefined : new TextDecoder().decode(graph.secrets.lookupText(passwordid));
  return {
    kind: "x509",
    authority,
    ...(certificate && key ? { certificate, key } : {}),
    ...(passphrase === undefined ? {} : { passphrase }),
    verifyPeer: options["verify-peer"] ?? true,
  };
}

/** The keys of a file of lines `user:hexadecimal`. Throws CommandError, which does not repeat a line. */
function parseKeys(path: string, bytes: Uint8Array): Map<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>();
  for (const line of new TextDecoder().decode(bytes).split("\n")) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const [, user, hex] = /^([^:]+):((?:[0-9a-fA-F]{2})+)\s*$/.exec(line) ?? [];
    if (user === undefined || hex === undefined)
      throw new CommandError(`'${path}' holds a line that is no user with a key`);
    keys.set(
      user,
      Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)),
    );
  }
  return keys;
}

async function sharedKeys(graph: BlockGraph, options: Of<"tls-creds-psk">): Promise<TlsCredentials> {
  if (options.endpoint === "server" && options.username !== undefined)
    throw new CommandError("username should not be set when endpoint=server");
  const folder = new Folder(graph.host, options.dir);
  const path = folder.path("keys.psk");
  const keys = parseKeys(path, await folder.read("keys.psk"));
  if (options.endpoint === "server") return { kind: "psk", keys };
  const user = options.username ?? DEFAULT_USER;
  const key = keys.get(user);
  if (!key) throw new CommandError(`Username ${user} not found in PSK file ${path}`);
  return { kind: "psk", keys: new Map([[user, key]]) };
}

function credentialsOf(graph: BlockGraph, options: TlsOptions): Promise<TlsCredentials> {
  if (options["qom-type"] === "tls-creds-x509") return certificates(graph, options);
  if (options["qom-type"] === "tls-creds-psk") return sharedKeys(graph, options);
  return Promise.resolve({ kind: "anon" });
}

/** Makes one of the three. Throws CommandError. */
export async function makeTlsCredentials(graph: BlockGraph, options: TlsOptions): Promise<MadeObject> {
  const { id } = options;
  const endpoint: TlsEndpoint = options.endpoint ?? "client";
  const identities = tlsIdentitiesOf(graph);
  identities.set(id, { endpoint, credentials: await credentialsOf(graph, options) });
  return { type: options["qom-type"], remove: () => identities.delete(id) };
}
