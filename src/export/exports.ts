/**
 * The exports of one engine by id: nodes that programs outside may use, by whatever protocol a server speaks. Their permissions,
 * the rules of their removal and BLOCK_EXPORT_DELETED are here; how they are served is their type's.
 *
 * Invariants: an id belongs to one export until BLOCK_EXPORT_DELETED told of its end; the node is held as long; an export that is
 * being removed takes no new users. Source: QAPI block-export schema; behaviour and words of QEMU 7.2.
 */
import { CommandError, withCause } from "../base/errors.ts";
import { settleAll } from "../base/signals.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { BlockNode } from "../block/model/node.ts";
import { Perm } from "../block/model/permissions.ts";

/** What an export is, whatever its type. */
export interface ExportOptions {
  readonly id: string;
  readonly type: string;
  readonly "node-name": string;
  readonly writable?: boolean | undefined;
  /** Each write is durable before it is answered. */
  readonly writethrough?: boolean | undefined;
  /** Nobody else may write to the node meanwhile. */
  readonly exclusive?: boolean | undefined;
}

/** What serves an export. */
export interface ExportService {
  /** How many use it now: a safe removal is refused while there are any. */
  readonly users: number;
  /** Ends it: nobody new is taken, those there are lose it. Resolves when no request of theirs is under way any more. */
  end(): Promise<void>;
}

/** Serves a node, which is held by `backend`, by a protocol. Throws CommandError. */
export type ServeExport = (backend: BlockBackend) => ExportService | Promise<ExportService>;

/** How an export is removed: `safe` refuses while somebody uses it. */
export type RemoveMode = "safe" | "hard";

/** One export. */
export interface BlockExport {
  readonly id: string;
  readonly type: string;
  readonly backend: BlockBackend;
  readonly service: ExportService;
  /** It is being removed. */
  readonly shuttingDown: boolean;
}

interface Entry extends BlockExport {
  shuttingDown: boolean;
  ended: Promise<void> | undefined;
}

/** All exports of an engine. */
export class BlockExports {
  readonly #graph: BlockGraph;
  /** Ids of exports that are being made are taken, too. */
  readonly #entries = new Map<string, Entry | undefined>();
  /** What serves exports, and is stopped before all of them end: its clients go when their requests are answered. */
  readonly servers = new Set<{ stop(): Promise<void> }>();

  constructor(graph: BlockGraph) {
    this.#graph = graph;
  }

  /** All exports, the newest first. */
  get all(): BlockExport[] {
    return [...this.#entries.values()].filter((entry) => entry !== undefined).toReversed();
  }

  /** The export of that id. Throws CommandError (ENOENT). */
  find(id: string): BlockExport {
    return this.#entry(id);
  }

  /** Throws CommandError unless an export could have that id. */
  checkId(id: string): void {
    if (!/^[A-Za-z][A-Za-z0-9\-._]*$/.test(id)) throw new CommandError("Invalid block export id");
    if (this.#entries.has(id))
      throw new CommandError(`Block export id '${id}' is already in use`, { code: "EEXIST" });
  }

  /**
   * Adds an export that `serve` makes. Throws CommandError in QEMU's words: the id, the node, one that is read-only, permissions that
   * others don't allow (EPERM).
   */
  async add(options: ExportOptions, serve: ServeExport): Promise<BlockExport> {
    this.checkId(options.id);
    const node = this.#graph.nodeOrDevice({ node: options["node-name"] });
    return this.addNode(node, options, serve);
  }

  /** The same of a node that is at hand. */
  async addNode(
    node: BlockNode,
    options: Omit<ExportOptions, "node-name">,
    serve: ServeExport,
  ): Promise<BlockExport> {
    const { id, type, writable = false, exclusive = false } = options;
    this.checkId(id);
    if (writable && node.readOnly) throw new CommandError("Cannot export read-only node as writable");
    this.#entries.set(id, undefined);
    const backend = new BlockBackend(this.#graph);
    backend.writeCache = !(options.writethrough ?? false);
    try {
      await backend.attach(node, {
        perm: Perm.consistentRead | (writable ? Perm.write : 0),
        shared: Perm.all & ~Perm.resize & ~(exclusive ? Perm.write : 0),
      });
      const service = await serve(backend);
      const entry: Entry = { id, type, backend, service, shuttingDown: false, ended: undefined };
      this.#entries.set(id, entry);
      return entry;
    } catch (error) {
      this.#entries.delete(id);
      await backend.close().catch((later: unknown) => withCause(error, later));
      throw error;
    }
  }

  /**
   * block-export-del: begins the removal, which is over when BLOCK_EXPORT_DELETED was sent; where nobody uses the export, before it
   * resolves. CommandError: no such export (ENOENT), one that is being removed, or in use (EBUSY; `safe`).
   */
  async remove(id: string, mode: RemoveMode = "safe"): Promise<void> {
    const entry = this.#entry(id);
    if (entry.shuttingDown)
      throw new CommandError(`Export '${id}' is already shutting down`, { code: "EBUSY" });
    if (mode === "safe" && entry.service.users > 0)
      throw new CommandError(`export '${id}' still in use`, {
        code: "EBUSY",
        details: { hint: "Use mode='hard' to force client disconnect" },
      });
    const idle = entry.service.users === 0;
    const ended = this.#end(entry);
    if (idle) return ended;
    // Who waits for the end hears of a failure; here there is nobody left to tell.
    void ended.catch(() => undefined);
  }

  /** Removes one whatever its state, and waits for its end. */
  async end(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry) await this.#end(entry);
  }

  /** Stops all servers and removes all exports. */
  async endAll(): Promise<void> {
    const servers = [...this.servers];
    this.servers.clear();
    await settleAll(servers.map((server) => server.stop()));
    await settleAll([...this.#entries.values()].map((entry) => entry && this.#end(entry)));
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (!entry) throw new CommandError(`Export '${id}' is not found`, { code: "ENOENT" });
    return entry;
  }

  #end(entry: Entry): Promise<void> {
    entry.shuttingDown = true;
    entry.ended ??= this.#endOnce(entry);
    return entry.ended;
  }

  async #endOnce(entry: Entry): Promise<void> {
    try {
      await entry.service.end();
      await entry.backend.close();
    } finally {
      this.#entries.delete(entry.id);
      this.#graph.events.emit("BLOCK_EXPORT_DELETED", { id: entry.id });
    }
  }
}

/** Who has exports: an engine. */
interface ExportOwner {
  readonly graph: BlockGraph;
  /** What is to end before its nodes. */
  readonly ending: Set<() => Promise<void>>;
}

const byOwner = new WeakMap<ExportOwner, BlockExports>();

/** The exports of an engine; made when first asked for, so that programs without any carry none of it. */
export function exportsOf(owner: ExportOwner): BlockExports {
  let exports = byOwner.get(owner);
  if (!exports) {
    const made = new BlockExports(owner.graph);
    owner.ending.add(() => made.endAll());
    byOwner.set(owner, (exports = made));
  }
  return exports;
}
