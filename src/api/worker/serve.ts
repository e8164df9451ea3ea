/**
 * Serving an engine to whoever holds the other end of a port: QMP monitors, disks, new images, the engine's end.
 *
 * Invariants: what a client opened is closed when it goes, after its requests; unless told otherwise the engine is closed
 * with it. Nothing here knows a browser: the port may be one of Node's.
 */
import { CommandError } from "../../base/errors.ts";
import { Wakeup, onAbort } from "../../base/signals.ts";
import { aboveImplicitFilters } from "../../block/model/chain.ts";
import { BlockJob } from "../../job/core/block-job.ts";
import type { Engine } from "../../machine/engine.ts";
import { type AutoResumeOptions, autoCont, autoResume } from "../auto-resume.ts";
import { serveMonitor } from "../monitor.ts";
import { Node } from "../node.ts";
import { createImageIn, openNodeIn, removeImageIn } from "../open.ts";
import { type GuestDiskOptions, plugGuest } from "../guest.ts";
import { callOptions, optionsOf } from "../options.ts";
import type { DiskFacts, EngineCalls, GuestFacts, SharedSlots } from "./calls.ts";
import { serveGuest } from "./guest.ts";
import { type CallHandlers, type PortLike, PortServer } from "./port.ts";
import { portConnection } from "./port-connection.ts";
import { serveDisk } from "./serve-disk.ts";

/** Options of serveEngine(). */
export interface ServeEngineOptions {
  /** The engine stays open when the client goes. Default false. */
  keepEngine?: boolean;
  /** Ends the service, as if the client had gone. */
  signal?: AbortSignal;
  /** Told of what nobody waits for: broken invariants, failed flushes of handles that a client left open. */
  onFault?: (error: unknown) => void;
}

/** Throws CommandError for what are no options of serveEngine(). */
export const checkServeOptions = optionsOf<ServeEngineOptions>({
  ...callOptions,
  keepEngine: "bool",
  onFault: "Function",
});

/** One client's service. */
class Service {
  readonly #engine: Engine;
  #onFault: (error: unknown) => void;
  readonly #stop = new AbortController();
  readonly #disks = new Set<Node>();
  readonly #changed = new Wakeup();
  /** Monitors and disks that are served. */
  #serving = 0;

  constructor(engine: Engine, onFault: (error: unknown) => void) {
    this.#engine = engine;
    this.#onFault = onFault;
  }

  handlers(): CallHandlers<EngineCalls> {
    return {
      monitor: async ({ port }) => {
        const { signal } = this.#stop;
        const onFault = this.#onFault;
        this.#track(serveMonitor(portConnection(port), this.#engine, { signal, onFault }));
      },
      open: async ({ spec, port, shared }, { signal }) =>
        this.#serve(await openNodeIn(this.#engine, spec, { signal }), { port, shared }),
      disk: async ({ node, port, shared }) => this.#serve(await this.#handle(node), { port, shared }),
      guest: ({ node, options, port }) => this.#plug(node, options, port),
      createImage: ({ spec, overwrite }, { signal }) =>
        createImageIn(this.#engine, spec, { overwrite, signal }),
      removeImage: ({ file }) => removeImageIn(this.#engine, file),
      autoResume: ({ job, probeMs }, { signal }) => this.#watch(job, { probeMs, signal }),
      flush: async () => {
        await Promise.all([...this.#disks].map((disk) => disk.flush()));
      },
      close: async () => {
        const failures: unknown[] = [];
        this.#onFault = (error) => failures.push(error);
        await this.end();
        await this.#engine.close();
        if (failures.length > 0) throw failures[0];
      },
    };
  }

  /** On the node as guests see it: above the filters of the jobs that run. */
  #handle(name: string): Promise<Node> {
    return Node.attach(this.#engine, aboveImplicitFilters(this.#engine.graph.lookup(name)));
  }

  /** Waits until all that the client had open is closed. */
  async end(): Promise<void> {
    this.#stop.abort(new Error("the service ends"));
    await this.#changed.until(() => this.#serving === 0);
  }

  #serve(node: Node, ends: { port: PortLike; shared: SharedSlots | undefined }): DiskFacts {
    const { name, length, readOnly } = node;
    this.#disks.add(node);
    const over = serveDisk(node, ends, this.#stop.signal);
    this.#track(over.finally(() => this.#disks.delete(node)));
    return { name, length, readOnly };
  }

  /** Resolves when the job is over, or nobody wants it any more. */
  async #watch(id: string | undefined, options: AutoResumeOptions & { signal: AbortSignal }): Promise<void> {
    const { signal } = options;
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    if (id === undefined) {
      autoCont(this.#engine, options);
      return aborted;
    }
    const job = this.#engine.jobs.find(id);
    if (!(job instanceof BlockJob)) throw new CommandError(`Block job '${id}' not found`, { code: "ENOENT" });
    autoResume(job, options);
    const over = job.done.then(
      () => undefined,
      () => undefined,
    );
    return Promise.race([over, aborted]);
  }

  async #plug(name: string, options: GuestDiskOptions, port: PortLike): Promise<GuestFacts> {
    await using node = await this.#handle(name);
    const disk = await plugGuest(node, options);
    const { length, readOnly, session } = disk;
    this.#track(serveGuest(disk, port, this.#stop.signal));
    return { length, readOnly, session };
  }

  #track(service: Promise<void>): void {
    this.#serving += 1;
    const over = (): void => {
      this.#serving -= 1;
      this.#changed.wake();
    };
    void service.catch((error: unknown) => this.#onFault(error)).finally(over);
  }
}

/**
 * Serves `engine` to the client at the other end of `port` (see connectEngine()) until it goes or `signal` aborts. Then
 * its disks are closed, and the engine too unless `keepEngine`. Rejects only with the engine's failed flush at its end.
 */
export async function serveEngine(
  port: PortLike,
  engine: Engine,
  options: ServeEngineOptions = {},
): Promise<void> {
  checkServeOptions(options);
  const { signal, keepEngine = false, onFault = () => undefined } = options;
  const service = new Service(engine, onFault);
  const server = new PortServer<EngineCalls>(port, service.handlers());
  const forget = onAbort(signal, server.end);
  if (signal?.aborted) server.end();
  await server.ended;
  forget();
  await service.end();
  if (!keepEngine) await engine.close();
}
