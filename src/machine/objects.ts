/**
 * User-creatable objects: throttle groups, secrets, and iothreads, which are accepted and do nothing here.
 * Source: QAPI qom schema, QEMU 7.2.
 */
import { strerror } from "../base/errno.ts";
import { BlockError, CommandError, messageOf } from "../base/errors.ts";
import type { Host } from "../base/host.ts";
import type { BlockGraph } from "../block/graph.ts";
import { cryptoOf } from "../crypto/luks.ts";
import { decryptSecret } from "../crypto/secret-data.ts";
import type { Secrets } from "../crypto/secrets.ts";
import type { ObjectOptions } from "../wire/qapi/index.ts";

interface MadeObject {
  readonly type: string;
  remove(): void;
}

/** The objects of one engine. */
export class ObjectRegistry {
  readonly #graph: BlockGraph;
  readonly #objects = new Map<string, MadeObject>();

  constructor(graph: BlockGraph) {
    this.#graph = graph;
  }

  /** object-add. Throws CommandError in QEMU's words. */
  async add(options: ObjectOptions): Promise<void> {
    this.#checkId(options.id);
    this.#objects.set(options.id, await this.#make(options));
  }

  /** A secret out of the caller's own bytes, or text as UTF-8. Throws CommandError for a bad id or one that is taken. */
  addSecret(id: string, value: string | Uint8Array): void {
    this.#checkId(id);
    this.#objects.set(id, this.#keepSecret(id, typeof value === "string" ? encode(value) : value));
  }

  #checkId(id: string): void {
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) throw new CommandError("Parameter 'id' expects an identifier");
    if (this.#objects.has(id)) {
      throw new CommandError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
  }

  /** object-del. */
  remove(id: string): void {
    const object = this.#objects.get(id);
    if (!object) throw new CommandError(`object '${id}' not found`);
    object.remove();
    this.#objects.delete(id);
  }

  /** The ids and types, for qom-list of /objects. */
  list(): { name: string; type: string }[] {
    return [...this.#objects].map(([name, { type }]) => ({ name, type: `child<${type}>` }));
  }

  #keepSecret(id: string, bytes: Uint8Array): MadeObject {
    const { secrets } = this.#graph;
    secrets.set(id, bytes);
    return { type: "secret", remove: () => secrets.delete(id) };
  }

  async #make(options: ObjectOptions): Promise<MadeObject> {
    const { id } = options;
    const type = options["qom-type"];
    if (type === "throttle-group") {
      this.#graph.throttleGroups.add(id, options.limits ?? {});
      return { type, remove: () => this.#graph.throttleGroups.remove(id) };
    }
    if (type === "secret") {
      const { host, secrets } = this.#graph;
      return this.#keepSecret(id, await secretBytes(host, secrets, options));
    }
    return { type, remove: () => undefined };
  }
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
