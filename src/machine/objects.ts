/**
 * User-creatable objects by id. What kinds there are is the entry's choice (object-kinds.ts has all); secrets out of the
 * caller's own bytes need none. Source: QAPI qom schema, QEMU 7.2.
 */
import { CommandError } from "../base/errors.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { ObjectOptions } from "../wire/qapi/index.ts";

/** An object that exists. */
export interface MadeObject {
  readonly type: string;
  remove(): void;
}

/** Makes an object for a graph. Throws CommandError in QEMU's words. */
export type ObjectMaker = (graph: BlockGraph, options: ObjectOptions) => Promise<MadeObject>;

/** A secret that images can name from now on. */
export function keepSecret({ secrets }: BlockGraph, id: string, bytes: Uint8Array): MadeObject {
  secrets.set(id, bytes);
  return { type: "secret", remove: () => secrets.delete(id) };
}

/** The objects of one engine. */
export class ObjectRegistry {
  readonly #graph: BlockGraph;
  readonly #make: ObjectMaker | undefined;
  readonly #objects = new Map<string, MadeObject>();
  readonly #options = new Map<string, ObjectOptions>();

  constructor(graph: BlockGraph, make?: ObjectMaker) {
    this.#graph = graph;
    this.#make = make;
  }

  /** object-add. Throws CommandError in QEMU's words, and for every kind in an engine without kinds (`./v86`). */
  async add(options: ObjectOptions): Promise<void> {
    this.#checkId(options.id);
    const type = options["qom-type"];
    if (!this.#make) throw new CommandError(`Parameter 'qom-type' does not accept value '${type}'`);
    this.#objects.set(options.id, await this.#make(this.#graph, options));
    // What is secret is kept by those whom it was given to, and by nobody else.
    const { data: _secret, ...told } = { data: undefined, ...options };
    this.#options.set(options.id, told);
  }

  /** A secret out of the caller's own bytes, or text as UTF-8. Throws CommandError for a bad id or one that is taken. */
  addSecret(id: string, value: string | Uint8Array): void {
    this.#checkId(id);
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
    this.#objects.set(id, keepSecret(this.#graph, id, bytes));
  }

  #checkId(id: string): void {
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) throw new CommandError("Parameter 'id' expects an identifier");
    if (this.#objects.has(id)) {
      throw new CommandError(`attempt to add duplicate property '${id}' to object (type 'container')`, {
        code: "EEXIST",
      });
    }
  }

  /** object-del. */
  remove(id: string): void {
    const object = this.#objects.get(id);
    if (!object) throw new CommandError(`object '${id}' not found`, { code: "ENOENT" });
    object.remove();
    this.#objects.delete(id);
    this.#options.delete(id);
  }

  /** What object-add was given, by id: without secret text, and without secrets of the caller's own. */
  get described(): ReadonlyMap<string, ObjectOptions> {
    return this.#options;
  }

  /** The ids and types, for qom-list of /objects. */
  list(): { name: string; type: string }[] {
    return [...this.#objects].map(([name, { type }]) => ({ name, type: `child<${type}>` }));
  }
}
