// Talks to the guest of monitor.asm over the emulator's first serial port. Runs in Node and in browsers.

/** What is used of v86's `V86`. */
export interface SerialEmulator {
  add_listener(event: "serial0-output-byte", listener: (byte: number) => void): void;
  serial_send_bytes(port: number, bytes: Uint8Array): void;
}

/** How a command ended. */
export interface GuestAnswer {
  /** The BIOS's status; 0: well. */
  status: number;
  /** Checksum of the guest's buffer: what was read, or written. */
  checksum: number;
}

const STEP = 0x9e3779b1;
const SECTOR = 512;

/** What the guest writes for a seed. */
export function guestPattern(seed: number, bytes: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(bytes);
  const view = new DataView(data.buffer);
  let value = seed >>> 0;
  for (let at = 0; at < bytes; at += 4) {
    view.setUint32(at, value, true);
    value = (value + STEP) >>> 0;
  }
  return data;
}

/** The guest's checksum of `data`. */
export function guestChecksum(data: Uint8Array): number {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let sum = 0;
  for (let at = 0; at < data.byteLength; at += 4)
    sum = (((sum << 1) | (sum >>> 31)) + view.getUint32(at, true)) >>> 0;
  return sum;
}

/** The guest, once its emulator is made. Commands are obeyed one after the other. */
export class MonitorGuest {
  readonly booted: Promise<void>;
  /** Dots so far. */
  ticks = 0;
  /** Commands that the guest has answered with an error. */
  errors = 0;
  readonly #emulator: SerialEmulator;
  readonly #waiting: ((answer: GuestAnswer) => void)[] = [];
  readonly #watchers = new Set<() => void>();
  #answer: number[] | undefined;
  #boot!: () => void;

  constructor(emulator: SerialEmulator) {
    this.#emulator = emulator;
    this.booted = new Promise((resolve) => {
      this.#boot = resolve;
    });
    emulator.add_listener("serial0-output-byte", (byte) => this.#take(byte));
  }

  /** Reads `count` sectors. */
  read(lba: number, count = 1): Promise<GuestAnswer> {
    return this.#command("R", { lba, count, seed: 0 });
  }

  /** Writes guestPattern(seed) to `count` sectors. */
  write(lba: number, seed: number, count = 1): Promise<GuestAnswer> {
    return this.#command("W", { lba, count, seed });
  }

  /** Waits for so many ticks from now on. */
  async tick(count: number): Promise<void> {
    const end = this.ticks + count;
    while (this.ticks < end) {
      await new Promise<void>((resolve) => {
        this.#watchers.add(resolve);
      });
    }
  }

  #command(
    op: "R" | "W",
    { lba, count, seed }: { lba: number; count: number; seed: number },
  ): Promise<GuestAnswer> {
    const command = new Uint8Array(10);
    command[0] = op.charCodeAt(0);
    command[1] = count;
    const view = new DataView(command.buffer);
    view.setUint32(2, lba, true);
    view.setUint32(6, seed, true);
    this.#emulator.serial_send_bytes(0, command);
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #take(byte: number): void {
    if (this.#answer) {
      if (this.#answer.push(byte) === 5) this.#answered(Uint8Array.from(this.#answer));
      return;
    }
    const letter = String.fromCharCode(byte);
    if (letter === "r" || letter === "w") this.#answer = [];
    else if (letter === "B") this.#boot();
    else if (letter === ".") this.#ticked();
  }

  #ticked(): void {
    this.ticks += 1;
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const resolve of watchers) resolve();
  }

  #answered(bytes: Uint8Array): void {
    this.#answer = undefined;
    const status = bytes[0]!;
    if (status !== 0) this.errors += 1;
    this.#waiting.shift()?.({ status, checksum: new DataView(bytes.buffer).getUint32(1, true) });
  }
}

/** Checks that an answer says well and has the checksum of `data`. */
export function isAnswer(answer: GuestAnswer, data: Uint8Array): boolean {
  return (
    answer.status === 0 && answer.checksum === guestChecksum(data.subarray(0, alignedTo(data.byteLength)))
  );
}

function alignedTo(bytes: number): number {
  return bytes - (bytes % SECTOR);
}
