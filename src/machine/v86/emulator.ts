/**
 * An emulator of v86 and the machine that its disks belong to: STOP stops the one, RESUME lets it run, and its own stop()
 * and run() are the machine's `stop` and `cont`.
 *
 * Invariant: the emulator goes on only when no request of its disks waits. The guest's clock jumps ahead at that moment,
 * and a driver that finds its request unanswered then would reset the drive.
 * Source: v86's public interface, as documented in its v86.d.ts.
 */
import { blockError } from "../../base/errors.ts";
import type { GuestMachine } from "../guest-disk.ts";

/** What is used of v86's `V86`. */
export interface V86Emulator {
  run(): unknown;
  stop(): unknown;
  add_listener(event: "emulator-started" | "emulator-stopped", listener: () => void): void;
  remove_listener(event: "emulator-started" | "emulator-stopped", listener: () => void): void;
}

/** A disk as far as it keeps the emulator from running. */
interface Holder {
  /** Requests wait. */
  readonly busy: boolean;
}

const links = new WeakMap<V86Emulator, EmulatorLink>();

/** One emulator with its machine. */
export class EmulatorLink {
  readonly #emulator: V86Emulator;
  readonly #machine: GuestMachine;
  readonly #disks = new Set<Holder>();
  readonly #unwatch: () => void;
  /** The emulator was stopped from here. */
  #held = false;

  private constructor(emulator: V86Emulator, machine: GuestMachine) {
    this.#emulator = emulator;
    this.#machine = machine;
    this.#unwatch = machine.watch((running) => (running ? this.release() : this.hold()));
    emulator.add_listener("emulator-started", this.#started);
    emulator.add_listener("emulator-stopped", this.#stopped);
    if (!machine.isRunning) this.hold();
  }

  /** Ties a disk to an emulator. All disks of one must be of one machine. */
  static join(emulator: V86Emulator, machine: GuestMachine, disk: Holder): EmulatorLink {
    const link = links.get(emulator) ?? new EmulatorLink(emulator, machine);
    if (link.#machine !== machine)
      throw blockError("EINVAL", "v86", "the disks of one emulator must be of one engine");
    links.set(emulator, link);
    link.#disks.add(disk);
    return link;
  }

  /** Unties it; with the last disk the emulator is left to itself. */
  leave(disk: Holder): void {
    this.#disks.delete(disk);
    if (this.#disks.size > 0) return this.release();
    this.#unwatch();
    this.#emulator.remove_listener("emulator-started", this.#started);
    this.#emulator.remove_listener("emulator-stopped", this.#stopped);
    links.delete(this.#emulator);
  }

  /** Stops the emulator until release(). */
  hold(): void {
    this.#held = true;
    // Its promise is of no use: it never settles when run() follows at once.
    settle(this.#emulator.stop());
  }

  /** Lets a held emulator run, if the machine does and no disk waits. */
  release(): void {
    if (!this.#held || !this.#machine.isRunning) return;
    for (const disk of this.#disks) if (disk.busy) return;
    this.#held = false;
    settle(this.#emulator.run());
  }

  readonly #started = (): void => {
    if (this.#machine.isRunning) return;
    // Somebody called run(): the emulator waits for the answers, as after any cont.
    this.hold();
    settle(this.#machine.cont());
  };

  readonly #stopped = (): void => {
    if (!this.#held && this.#machine.isRunning) settle(this.#machine.stop());
  };
}

/** For results that nobody waits for: v86 rejects while it has not loaded yet. */
function settle(result: unknown): void {
  void Promise.resolve(result).catch(() => undefined);
}
