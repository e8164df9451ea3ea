/**
 * User-creatable objects: throttle groups, secrets, and iothreads, which are accepted and do nothing here.
 * Source: QAPI qom schema, QEMU 7.2.
 */
import { CommandError } from "../base/errors.ts";
import type { Host } from "../base/host.ts";
import type { BlockGraph } from "../block/graph.ts";
import type { ObjectOptions } from "../wire/qapi/index.ts";

interface MadeObject {
  readonly type: string;
  remove(): void;
}

/** The objects of one engine. */
export class ObjectRegistry {
  readonly #graph: BlockGraph;
  readonly #objects = new Map<string, MadeObject>();
  readonly #secrets = new Map<string, Uint8Array>();

  constructor(graph: BlockGraph) {
    this.#graph = graph;
  }

  /** object-add. Throws CommandError in QEMU's words. */
  async add(options: ObjectOptions): Promise<void> {
    const { id } = options;
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) throw new CommandError("Parameter 'id' expects an identifier");
    if (this.#objects.has(id)) {
      throw new CommandError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
    this.#objects.set(id, await this.#make(options));
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

  /** The bytes of a secret. */
  secret(id: string): Uint8Array {
    const bytes = this.#secrets.get(id);
    if (!bytes) throw new CommandError(`No secret with id '${id}'`);
    return bytes;
  }

  async #make(options: ObjectOptions): Promise<MadeObject> {
    const { id } = options;
    const type = options["qom-type"];
    if (type === "throttle-group") {
      this.#graph.throttleGroups.add(id, options.limits ?? {});
      return { type, remove: () => this.#graph.throttleGroups.remove(id) };
    }
    if (type === "secret") {
      this.#secrets.set(id, await secretBytes(this.#graph.host, options));
      return { type, remove: () => void this.#secrets.delete(id) };
    }
    return { type, remove: () => undefined };
  }
}

type SecretOptions = Extract<ObjectOptions, { "qom-type": "secret" }>;

async function secretBytes(host: Host, options: SecretOptions): Promise<Uint8Array> {
  if (options.keyid !== undefined || options.iv !== undefined) {
    throw new CommandError("Encrypted secrets ('keyid', 'iv') are not supported");
  }
  if (options.file !== undefined && options.data !== undefined) {
    throw new CommandError("'file' and 'data' are mutually exclusive");
  }
  if (options.file === undefined && options.data === undefined) {
    throw new CommandError("Either 'file' or 'data' must be provided");
  }
  const raw =
    options.file === undefined ? new TextEncoder().encode(options.data) : await readAll(host, options.file);
  if (options.format !== "base64") return raw;
  try {
    return Uint8Array.from(atob(new TextDecoder().decode(raw).trim()), (char) => char.charCodeAt(0));
  } catch {
    throw new CommandError("Invalid base64 data in secret");
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
