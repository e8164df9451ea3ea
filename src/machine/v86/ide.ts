/**
 * The drive inside v86 that a disk is behind, where the build lets it be found: v86's interface for disks knows no errors,
 * so a failed request is told to the guest by setting the drive's registers, as the drive would.
 *
 * It also corrects what v86 does for PIO writes, which it completes before the disk has them: the drive stays busy until
 * then. So what the guest takes for written is written, and a failed write can be told.
 *
 * Invariants: nothing is touched unless every field that is used has the type expected, and only while the drive still
 * works on the command in question. Source: ATA/ATAPI-6 (registers, PIO and DMA protocols); behaviour of v86 0.5.424 … 0.5.462.
 */

const Status = { error: 0x01, seekComplete: 0x10, ready: 0x40, busy: 0x80 } as const;
const idle = Status.ready | Status.seekComplete;
const ErrorBit = { aborted: 0x04, uncorrectable: 0x40 } as const;
/** Bits of the bus master's status register. */
const Bmdma = { active: 0x01, interrupt: 0x04 } as const;
/** WRITE SECTORS, its EXT form, WRITE MULTIPLE EXT, WRITE MULTIPLE. */
const pioWrites = new Set([0x30, 0x34, 0x39, 0xc5]);

/** Fields of v86's drive (IDEInterface). */
interface Drive {
  readonly buffer: unknown;
  readonly is_atapi: boolean | undefined;
  status_reg: number;
  error_reg: number;
  current_command: number;
  readonly channel: Channel;
  push_irq(): void;
  cancel_io_operations(): void;
}

/** Fields of v86's IDEChannel. */
interface Channel {
  dma_status: number;
  readonly irq: number;
  readonly cpu: { device_lower_irq(irq: number): void };
}

/** A command that the drive works on. */
export interface IdeCommand {
  /** Tells the guest that the request failed. False: the guest has given it up meanwhile, or will reset the drive. */
  fail(): boolean;
  /** A PIO write is done, so that the drive is no longer busy. Does nothing for other commands. */
  finish(): void;
}

/** The drive of a disk in an emulator. */
export class IdePort {
  readonly #drive: Drive;

  private constructor(drive: Drive) {
    this.#drive = drive;
  }

  /** Finds the drive that uses `disk`; undefined where the build shows none. */
  static find(emulator: unknown, disk: object): IdePort | undefined {
    const ide = path(emulator, "v86", "cpu", "devices", "ide");
    for (const channel of ["primary", "secondary"])
      for (const place of ["master", "slave"]) {
        const drive = path(ide, channel, place);
        if (isDrive(drive) && drive.buffer === disk && !drive.is_atapi) return new IdePort(drive);
      }
    return undefined;
  }

  /** The command that asks for a read. To be called within get(). */
  read(): IdeCommand {
    return this.#command(ErrorBit.uncorrectable);
  }

  /** The command that asks for a write; of a PIO write it makes the drive busy. To be called within set(). */
  write(): IdeCommand {
    const drive = this.#drive;
    if (!pioWrites.has(drive.current_command)) return this.#command(ErrorBit.aborted);
    const { channel } = drive;
    channel.cpu.device_lower_irq(channel.irq);
    channel.dma_status &= ~Bmdma.interrupt;
    drive.status_reg = Status.busy | idle;
    const command = this.#command(ErrorBit.aborted);
    const busy = drive.status_reg;
    return {
      fail: () => command.fail(),
      finish: () => {
        if (drive.status_reg !== busy) return;
        drive.status_reg = idle;
        drive.push_irq();
      },
    };
  }

  #command(errorBit: number): IdeCommand {
    const drive = this.#drive;
    const { current_command: command, status_reg: status } = drive;
    return {
      fail: () => {
        if (drive.current_command !== command || drive.status_reg !== status) return false;
        drive.cancel_io_operations();
        drive.error_reg = errorBit;
        drive.status_reg = Status.ready | Status.error;
        drive.channel.dma_status &= ~Bmdma.active;
        drive.current_command = -1;
        drive.push_irq();
        return true;
      },
      finish: () => undefined,
    };
  }
}

/** The member that a path of names leads to. */
function path(from: unknown, ...names: readonly string[]): unknown {
  let at = from;
  for (const name of names) {
    if (typeof at !== "object" || at === null) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return at;
}

function isDrive(value: unknown): value is Drive {
  const numbers = [
    ["status_reg"],
    ["error_reg"],
    ["current_command"],
    ["channel", "dma_status"],
    ["channel", "irq"],
  ];
  const functions = [["push_irq"], ["cancel_io_operations"], ["channel", "cpu", "device_lower_irq"]];
  return (
    numbers.every((names) => typeof path(value, ...names) === "number") &&
    functions.every((names) => typeof path(value, ...names) === "function")
  );
}
