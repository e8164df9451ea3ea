/**
 * The kinds of user-creatable objects: throttle groups, secrets, TLS credentials, and iothreads, which are accepted and do nothing here. A
 * file of its own, so that bundles whose engine has no object-add leave it out.
 * Source: QAPI qom schema, QEMU 7.2.
 */
import { strerror } from "../base/errno.ts";
import { BlockError, CommandError, messageOf } from "../base/errors.ts";
import type { Host } from "../base/host.ts";
import type { ThrottleLimits } from "../block/throttle/config.ts";
import { throttleGroupsOf } from "../block/throttle/throttle.ts";
import { cryptoOf } from "../crypto/luks.ts";
import { decryptSecret } from "../crypto/secret-data.ts";
import type { Secrets } from "../crypto/secrets.ts";
import type { ObjectOptions } from "../wire/qapi/index.ts";
import { keepSecret, type ObjectMaker } from "./objects.ts";
import { makeTlsCredentials } from "./tls-objects.ts";

/** Makes an object of any kind. Throws CommandError in QEMU's words. */
export const makeObject: ObjectMaker = async (graph, options) => {
  const { id } = options;
  const type = options["qom-type"];
  if (type === "throttle-group") {
    const groups = throttleGroupsOf(graph);
    groups.add(id, { ...flatLimits(options), ...options.limits });
    return { type, remove: () => groups.remove(id) };
  }
  if (type === "secret") return keepSecret(graph, id, await secretBytes(graph.host, graph.secrets, options));
  if (type === "iothread") return { type, remove: () => undefined };
  return makeTlsCredentials(graph, options);
};

/** Limits as properties of their own: `x-bps-total`. Throws CommandError. */
function flatLimits(options: object): ThrottleLimits {
  const given = Object.entries(options).filter(([name]) => name.startsWith("x-"));
  if (given.some(([, value]) => (value as number) < 0))
    throw new CommandError("Property values cannot be negative");
  return Object.fromEntries(given.map(([name, value]) => [name.slice(2), value as number])) as ThrottleLimits;
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

type SecretOptions = Extract<ObjectOptions, { "qom-type": "secret" }>;

async function secretBytes(host: Host, secrets: Secrets, options: SecretOptions): Promise<Uint8Array> {
  const given = await givenBytes(host, options);
  const raw = options.format === "base64" ? fromBase64(given) : given;
  if (options.keyid === undefined) return raw;
  if (options.iv === undefined) throw new CommandError("IV is required to decrypt secret");
  const iv = fromBase64(encode(options.iv));
  return decryptSecret(await cryptoOf(host), { data: raw, iv, key: secrets.lookup(options.keyid) });
}

async function givenBytes(host: Host, { file, data }: SecretOptions): Promise<Uint8Array> {
  if (file !== undefined && data !== undefined) {
    throw new CommandError("'file' and 'data' are mutually exclusive");
  }
  if (data !== undefined) return encode(data);
  if (file === undefined) throw new CommandError("Either 'file' or 'data' must be provided");
  try {
    return await readAll(host, file);
  } catch (cause) {
    if (cause instanceof CommandError) throw cause;
    const why = cause instanceof BlockError ? strerror(cause.code) : messageOf(cause);
    throw new CommandError(`Unable to read ${file}: Failed to open file “${file}”: ${why}`, { cause });
  }
}

/** Bytes of base64 text; the error does not repeat it. */
function fromBase64(text: Uint8Array): Uint8Array {
  try {
    return Uint8Array.from(atob(new TextDecoder().decode(text).trim()), (char) => char.charCodeAt(0));
  } catch {
    throw new CommandError("Base64 data contains invalid characters");
  }
}

const MAX_SECRET_BYTES = 2048;

async function readAll(host: Host, path: string): Promise<Uint8Array> {
  const file = await host.files.open(path, { write: false });
  try {
    const size = await file.size();
    if (size > MAX_SECRET_BYTES)
      throw new CommandError(`Secret file '${path}' is larger than ${MAX_SECRET_BYTES} bytes`);
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}
