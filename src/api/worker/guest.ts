/**
 * A guest's disk across a port: the device with its policies and its deadline on one side, what an emulator's adapter needs
 * on the other. The machine's run state is told by STOP and RESUME, and changed by `stop` and `cont`: QMP's, or calls of the engine's port.
 *
 * Invariant: the adapter orders its requests itself (a guest's drive has one at a time), so each is begun as it comes.
 */
import type { Errno } from "../../base/errno.ts";
import { abortable, onAbort } from "../../base/signals.ts";
import type { GuestDisk, GuestMachine } from "../../machine/guest-disk.ts";
import { blockError } from "../../base/errors.ts";
import type { GuestFailure } from "../../machine/machine.ts";
import { type GuestCalls, type GuestFacts, checkBytes } from "./calls.ts";
import { Feed, follow } from "./feed.ts";
import { type PortCaller, type PortLike, PortServer } from "./port.ts";

/** Serves a guest's disk until the other end closes or `signal` aborts, then unplugs it. */
export async function serveGuest(disk: GuestDisk, port: PortLike, signal: AbortSignal): Promise<void> {
  let closing: Promise<void> | undefined;
  const failures = new Feed<GuestFailure>();
  const unwatch = disk.watchFailures?.((failure) => failures.push(failure));
  const close = (): Promise<void> => (closing ??= disk.close());
  const server = new PortServer<GuestCalls>(port, {
    read: async ({ offset, bytes }, context) => {
      checkBytes(bytes);
      const data = await disk.read(offset, bytes, { signal: context.signal });
      context.transfer.push(data.buffer);
      return data;
    },
    write: ({ offset, data }) => disk.write(offset, data),
    flush: () => disk.flush(),
    failures: ({ seen }, context) => failures.after(seen, context.signal),
    publish: async ({ code, action }) => disk.publish?.(code, action),
    close,
  });
  const forget = onAbort(signal, server.end);
  if (signal.aborted) server.end();
  await server.ended;
  forget();
  unwatch?.();
  await close();
}

/** How a client learns of the engine's run state, and changes it. */
export interface RunControl {
  /** Calls back with each STOP (false) and RESUME (true) from now on. */
  follow(each: (running: boolean) => void): void;
  /** Whether it runs now. */
  running(): Promise<boolean>;
  stop(): Promise<unknown>;
  cont(): Promise<unknown>;
}

/** The run state of an engine in a worker. */
export class RemoteMachine implements GuestMachine {
  readonly #control: RunControl;
  readonly #watchers = new Set<(running: boolean) => void>();
  #isRunning = true;
  #lost: Error | undefined;

  private constructor(control: RunControl) {
    this.#control = control;
    control.follow((running) => this.#set(running));
  }

  /** Learns the state and follows it from then on, until the engine has `ended`: a guest without its disk stands still. */
  static async follow(control: RunControl, ended: Promise<Error>): Promise<RemoteMachine> {
    const machine = new RemoteMachine(control);
    void ended.then((reason) => machine.#lose(reason));
    machine.#isRunning = await control.running();
    return machine;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  get lost(): Error | undefined {
    return this.#lost;
  }

  async stop(): Promise<void> {
    if (!this.#lost) await this.#control.stop();
  }

  async cont(): Promise<void> {
    if (this.#lost) throw this.#lost;
    await this.#control.cont();
  }

  watch(listener: (running: boolean) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  #lose(reason: Error): void {
    this.#lost = reason;
    this.#set(false);
  }

  #set(running: boolean): void {
    this.#isRunning = running;
    for (const listener of this.#watchers) listener(running);
  }
}

/** The disk, seen from the emulator's side. */
export class RemoteGuestDisk implements GuestDisk {
  readonly length: number;
  readonly readOnly: boolean;
  readonly session: number;
  readonly machine: GuestMachine;
  readonly #caller: PortCaller<GuestCalls>;
  readonly #watchers = new Set<(failure: GuestFailure) => void>();
  #lastFailure: GuestFailure | undefined;

  constructor(caller: PortCaller<GuestCalls>, machine: GuestMachine, facts: GuestFacts) {
    this.#caller = caller;
    this.machine = machine;
    this.length = facts.length;
    this.readOnly = facts.readOnly;
    this.session = facts.session;
    void follow<GuestFailure>(
      (seen) => caller.call("failures", { seen }),
      (failure) => {
        this.#lastFailure = failure;
        for (const watcher of this.#watchers) watcher(failure);
      },
    );
  }

  get lastFailure(): GuestFailure | undefined {
    return this.#lastFailure;
  }

  watchFailures(listener: (failure: GuestFailure) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  read(
    offset: number,
    bytes: number,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Uint8Array> {
    const { signal } = options;
    return abortable(this.#caller.call("read", { offset, bytes }, { signal }), signal);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    const own = data.slice();
    await this.#caller.call("write", { offset, data: own }, { transfer: [own.buffer] });
  }

  flush(): Promise<void> {
    return this.#caller.call("flush", {});
  }

  publish(code: Errno, action: "report" | "stop"): void {
    // A worker that has gone publishes nothing any more.
    this.#caller.call("publish", { code, action }).catch(() => undefined);
  }

  async close(): Promise<void> {
    try {
      if (!this.#caller.failure) await this.#caller.call("close", {});
    } finally {
      this.#caller.end(blockError("ENOMEDIUM", "remote", "the guest's disk is closed"));
    }
  }
}
