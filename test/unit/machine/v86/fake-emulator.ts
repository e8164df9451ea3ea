// What toV86Disk() needs of v86's V86, with its habits: stop() takes effect later, run() takes a stop back that has not yet.
import type { V86Emulator } from "../../../../src/machine/v86/emulator.ts";

type Event = "emulator-started" | "emulator-stopped";

export class FakeEmulator implements V86Emulator {
  running = true;
  #stopping = false;
  readonly #listeners: [Event, () => void][] = [];

  run(): Promise<void> {
    this.#stopping = false;
    if (!this.running) {
      this.running = true;
      this.#send("emulator-started");
    }
    return Promise.resolve();
  }

  stop(): Promise<void> {
    if (!this.running) return Promise.resolve();
    this.#stopping = true;
    return new Promise(() => undefined);
  }

  /** The next time slice. */
  tick(): void {
    if (!this.#stopping) return;
    this.running = false;
    this.#stopping = false;
    this.#send("emulator-stopped");
  }

  /** Whether it would go on after this time slice. */
  get goesOn(): boolean {
    return this.running && !this.#stopping;
  }

  add_listener(event: Event, listener: () => void): void {
    this.#listeners.push([event, listener]);
  }

  remove_listener(event: Event, listener: () => void): void {
    const at = this.#listeners.findIndex(([name, fn]) => name === event && fn === listener);
    if (at >= 0) this.#listeners.splice(at, 1);
  }

  get listeners(): number {
    return this.#listeners.length;
  }

  #send(event: Event): void {
    for (const [name, fn] of [...this.#listeners]) if (name === event) fn();
  }
}

/** A drive as v86 has it, for tests of what is told to the guest. */
export class FakeDrive {
  status_reg = 0x50;
  error_reg = 0;
  current_command = -1;
  is_atapi = false;
  buffer: unknown;
  readonly irqs: string[] = [];
  cancelled = 0;
  readonly channel = {
    dma_status: 0,
    irq: 14,
    cpu: { device_lower_irq: (irq: number) => void this.irqs.push(`lower ${irq}`) },
  };

  push_irq(): void {
    this.channel.dma_status |= 4;
    this.irqs.push("raise");
  }

  cancel_io_operations(): void {
    this.cancelled += 1;
  }

  /** Puts the drive into an emulator, with a disk. */
  plug(emulator: FakeEmulator, disk: object): this {
    this.buffer = disk;
    Object.assign(emulator, {
      v86: { cpu: { devices: { ide: { primary: { master: this }, secondary: undefined } } } },
    });
    return this;
  }
}
