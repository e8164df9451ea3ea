/**
 * Serving an engine to whoever holds the other end of a port: disks, new images, the run state, the engine's end. QMP is
 * served by who brings the monitor (serve.ts), since a worker that only serves a guest's disks does without.
 *
 * Invariants: what a client opened is closed when it goes, after its requests; unless told otherwise the engine is closed
 * with it. Nothing here knows a browser: the port may be one of Node's.
 */
import { CommandError } from "../../base/errors.ts";
import { Wakeup, onAbort } from "../../base/signals.ts";
import { aboveImplicitFilters } from "../../block/model/chain.ts";
import type { Engine } from "../../machine/engine.ts";
import { type AutoResumeOptions, autoCont, autoResume } from "../auto-resume.ts";
import { Node } from "../node.ts";
import { createImageIn, openNodeIn, removeImageIn } from "../open.ts";
import { type GuestDiskOptions, plugGuest } from "../guest.ts";
import { callOptions, optionsOf } from "../options.ts";
import type { DiskFacts, EngineCalls, GuestFacts, ImageCalls, OpenedFacts, SharedSlots } from "./calls.ts";
import { serveGuest } from "./guest.ts";
import { type CallContext, type CallHandlers, type PortLike, PortServer } from "./port.ts";
import { Feed } from "./feed.ts";
import { openGuestDiskIn } from "../guest-disk/open.ts";
import { serveDisk } from "./serve-disk.ts";
import { serveGuestControl } from "./serve-guest-control.ts";

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
export const checkServeOptions = /* @__PURE__ */ optionsOf<ServeEngineOptions>({
  ...callOptions,
  keepEngine: "bool",
  onFault: "Function",
});

/** Serves QMP on a port until `signal` aborts. */
export type Monitor = (
  port: PortLike,
  context: { engine: Engine; signal: AbortSignal; onFault: (error: unknown) => void },
) => Promise<void>;

/** What more a worker answers than guests need; see imageHandlers. */
export type MoreHandlers = (engine: Engine) => CallHandlers<ImageCalls>;

/** One client's service. */
class Service {
  readonly #engine: Engine;
  #onFault: (error: unknown) => void;
  readonly #stop = new AbortController();
  readonly #disks = new Set<Node>();
  readonly #changed = new Wakeup();
  /** Monitors and disks that are served. */
  #serving = 0;
  readonly #monitor: Monitor | undefined;
  readonly #running = new Feed<boolean>();
  readonly #unwatch: () => void;

  constructor(engine: Engine, onFault: (error: unknown) => void, monitor: Monitor | undefined) {
    this.#engine = engine;
    this.#onFault = onFault;
    this.#monitor = monitor;
    this.#running.push(engine.machine.isRunning);
    this.#unwatch = engine.machine.watch((running) => this.#running.push(running));
  }

  handlers(): CallHandlers<EngineCalls> {
    return {
      monitor: async ({ port }) => {
        if (!this.#monitor) throw new CommandError("this worker serves no QMP: blockwright/worker does");
        const { signal } = this.#stop;
        this.#track(this.#monitor(port, { engine: this.#engine, signal, onFault: this.#onFault }));
      },
      openGuestDisk: (args, context) => this.#openGuestDisk(args, context),
      runState: ({ seen }, { signal }) => this.#running.after(seen, signal),
      stop: () => this.#engine.machine.stop(),
      cont: () => this.#engine.machine.cont(),
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
    this.#unwatch();
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
    const job = this.#engine.jobs.blockJob(id);
    autoResume(job, options);
    const over = job.ended.then(
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

  async #openGuestDisk(
    { options, guest, control }: EngineCalls["openGuestDisk"]["args"],
    { signal }: CallContext,
  ): Promise<OpenedFacts> {
    const opened = await openGuestDiskIn(this.#engine, options);
    const { disk, nodeName } = opened;
    if (signal.aborted) {
      await opened.close();
      throw signal.reason;
    }
    this.#track(serveGuest(disk, guest, this.#stop.signal));
    this.#track(serveGuestControl(opened, control, this.#stop.signal));
    const { length, readOnly, session } = disk;
    return { length, readOnly, session, node: nodeName };
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
 * Serves `engine` until the client goes or `signal` aborts; then its disks are closed, and the engine too unless `keepEngine`.
 * Rejects only with the engine's failed flush at its end.
 */
export async function serveCalls(
  port: PortLike,
  engine: Engine,
  { monitor, more, ...options }: ServeEngineOptions & { monitor?: Monitor; more?: MoreHandlers } = {},
): Promise<void> {
  checkServeOptions(options);
  const { signal, keepEngine = false, onFault = () => undefined } = options;
  const service = new Service(engine, onFault, monitor);
  // What is not there is answered so: a worker that serves guests' disks alone has no more.
  const handlers = { ...more?.(engine), ...service.handlers() } as CallHandlers<EngineCalls & ImageCalls>;
  const server = new PortServer(port, handlers);
  const forget = onAbort(signal, server.end);
  if (signal?.aborted) server.end();
  await server.ended;
  forget();
  await service.end();
  if (!keepEngine) await engine.close();
}
