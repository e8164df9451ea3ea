/**
 * What a target's image grows in until it is whole, and how it gets the target's name: a file beside it, or a store's draft.
 *
 * Invariant: nothing has the target's name before all is durable; what has it is an inode, or an object, that nobody who may still
 * write knows.
 */
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errnoOf } from "../../base/errors.ts";
import type { ObjectPlace } from "../../base/objects.ts";
import { settleAll } from "../../base/signals.ts";
import type { Parts, DriverType, NodeSpec, StoredChunks } from "../../block/model/contract.ts";
import { plainFormat } from "../../drivers/format/defaults.ts";
import { FleetError } from "../../fleet/jobs.ts";
import type { Engine } from "../../machine/engine.ts";
import type { OpenSpec } from "../../node.ts";
import { ObjectDirectory } from "../../platform/node/object-directory.ts";
import { type Opener, storageOf } from "./names.ts";

/** Parts of a draft that are made at once. */
const MADE_AT_ONCE = 8;

/** How an image is made in storage. */
export type Make = (file: NodeSpec) => Promise<void>;

/** Where a target grows. */
export interface Medium {
  /** Where the fence is kept. */
  readonly objects: ObjectPlace;
  /** Something has the target's name. */
  exists(): Promise<boolean>;
  /**
   * Makes what is to be filled, in so many parts; answers by what any worker finds it. `announce` is told of that before, where what a killed
   * worker leaves would not be found otherwise.
   */
  begin(make: Make, parts: Parts, announce: (token: string) => Promise<void>): Promise<string>;
  /** The storage of a part of it, of the whole length. */
  storage(token: string, part: number): Promise<NodeSpec>;
  /** Gives it the target's name; once more is no error. `isQuiet`: nobody else can write into it any more. */
  publish(token: string, isQuiet: boolean): Promise<void>;
  discard(token: string): Promise<void>;
}

/** A file that grows beside its name, a raw image of which workers write parts. */
export class FileMedium implements Medium {
  readonly objects: ObjectPlace;
  readonly #opener: Opener;
  readonly #target: string;
  readonly #folder: string;

  constructor(opener: Opener, target: string) {
    this.#opener = opener;
    this.#target = target;
    this.#folder = join(dirname(target), `.${basename(target)}.fleet`);
    this.objects = new ObjectDirectory(this.#folder);
  }

  exists(): Promise<boolean> {
    return Promise.resolve(statSync(this.#target, { throwIfNoEntry: false }) !== undefined);
  }

  async begin(make: Make): Promise<string> {
    const token = randomBytes(8).toString("hex");
    await make(this.#storage(token));
    // What an unshared copy has said of this target counts for no other.
    rmSync(join(this.#folder, "done.json"), { force: true });
    return token;
  }

  storage(token: string): Promise<NodeSpec> {
    return Promise.resolve(this.#storage(token));
  }

  /** Each worker writes parts of its own, so that none locks the others out. */
  #storage(token: string): NodeSpec {
    return { driver: "file", filename: this.#part(token), locking: "off" };
  }

  async publish(token: string, isQuiet: boolean): Promise<void> {
    const part = this.#part(token);
    if (!statSync(part, { throwIfNoEntry: false })) {
      if (await this.exists()) return;
      throw new FleetError(`'${part}' is gone`);
    }
    const whole = isQuiet ? part : await this.#moved(part);
    renameSync(whole, this.#target);
    const folder = dirname(this.#target);
    sync(folder);
    const beside = `.${basename(this.#target)}.part-`;
    for (const name of readdirSync(folder))
      if (name.startsWith(beside)) rmSync(join(folder, name), { force: true });
  }

  /** The same in a file that nobody else has open: one who is stopped, or elsewhere, may write into the former one later. */
  async #moved(part: string): Promise<string> {
    const { library, engine } = this.#opener;
    const moved = `${part}.whole`;
    const raw = (filename: string): OpenSpec => ({
      driver: plainFormat,
      file: { driver: "file", filename, locking: "off" },
    });
    await using source = await library.openNode(raw(part), { engine, readOnly: true });
    const file = { driver: "file", filename: moved } as const;
    const made = { driver: plainFormat, size: source.length, file } as const;
    await library.createImage(made, { engine, overwrite: true });
    const target = await library.openNode(raw(moved), { engine });
    try {
      await library.convert(source, target, { targetIsZero: true });
      await target.flush();
    } finally {
      await target.close();
    }
    return moved;
  }

  discard(token: string): Promise<void> {
    rmSync(this.#part(token), { force: true });
    return Promise.resolve();
  }

  #part(token: string): string {
    return join(dirname(this.#target), `.${basename(this.#target)}.part-${token}`);
  }
}

function sync(folder: string): void {
  const fd = openSync(folder, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

type Stored = Required<NonNullable<DriverType["store"]>>;

/** A draft in an object store. Its writers are kept apart by the store, so that any of them may be followed by the next at once. */
export class StoreMedium implements Medium {
  readonly objects: ObjectPlace;
  readonly #graph: Engine["graph"];
  readonly #file: NodeSpec;
  readonly #store: Stored;

  private constructor(init: { graph: Engine["graph"]; file: NodeSpec; store: Stored; objects: ObjectPlace }) {
    this.#graph = init.graph;
    this.#file = init.file;
    this.#store = init.store;
    this.objects = init.objects;
  }

  /** Throws FleetError for what is no store that keeps other objects beside an image. */
  static async open({ engine }: Opener, name: string): Promise<StoreMedium> {
    const { graph } = engine;
    const file = storageOf(engine, name);
    const { store } = graph.driver(file.driver);
    const url = file["url"];
    if (!store?.objects || !store.chunks || typeof url !== "string")
      throw new FleetError(
        `the target '${name}' is no file and nothing in a store that keeps a fence beside it`,
      );
    const objects = await store.objects(graph, { ...file, url: `${url}.fleet` });
    if (objects.isExclusive === false)
      throw new FleetError(`the target '${name}': a fence needs a store with conditional writes`);
    return new StoreMedium({ graph, file, store: store as Stored, objects });
  }

  exists(): Promise<boolean> {
    return this.#store.exists(this.#graph, this.#file);
  }

  /** What the target will be made of. */
  chunks(): Promise<StoredChunks> {
    return this.#store.chunks(this.#file);
  }

  /** All parts are made now: later each is only changed, over what is there. */
  async begin(make: Make, parts: Parts, announce: (token: string) => Promise<void>): Promise<string> {
    const draft = await this.#store.draft(this.#graph, this.#file, parts.count > 1 ? parts : undefined);
    if (draft.token === undefined) throw new FleetError("this store has no drafts to go on with");
    await announce(draft.token);
    const files = [...(draft.parts ?? [draft.file])];
    const makeSome = async (): Promise<void> => {
      for (let file = files.pop(); file; file = files.pop()) await make(file);
    };
    try {
      await settleAll(Array.from({ length: MADE_AT_ONCE }, makeSome));
    } catch (error) {
      await draft.discard().catch(() => undefined);
      throw error;
    }
    return draft.token;
  }

  async storage(token: string, part: number): Promise<NodeSpec> {
    const { parts, file } = await this.#store.draft(this.#graph, this.#file, token);
    return parts?.[part] ?? file;
  }

  async publish(token: string): Promise<void> {
    const draft = await this.#store.draft(this.#graph, this.#file, token);
    try {
      await draft.publish();
    } catch (error) {
      // Only what has its place is removed: whoever did it ended before he could say so.
      if (errnoOf(error) !== "ENOENT" || !(await this.exists())) throw error;
    }
  }

  async discard(token: string): Promise<void> {
    await (await this.#store.draft(this.#graph, this.#file, token)).discard();
  }
}
