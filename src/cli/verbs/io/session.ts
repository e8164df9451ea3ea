/**
 * A run of `io`: the disk that is open, the asynchronous requests under way, and the carrying out of command lines. A
 * command that fails does not end the run; the exit status tells of it. Source: behaviour of qemu-io 7.2.
 */
import { messageOf } from "../../../base/errors.ts";
import { Arguments } from "./arguments.ts";
import type { IoConsole } from "./console.ts";
import { type Disk, type DiskChoices, openDisk, rulesBelow } from "./disk.ts";
import { IoFailure } from "./failure.ts";

/** One command of the language. */
export interface IoCommand {
  readonly name: string;
  readonly alias?: string;
  /** The synopsis behind the name. */
  readonly synopsis: string;
  /** What it does, in a line. */
  readonly summary: string;
  /** More, for `help NAME`. */
  readonly details?: readonly string[];
  /** Fewest and most words behind the name. */
  readonly words: readonly [number, number];
  /** Works without an open disk. */
  readonly diskless?: boolean;
  /** Permissions that it takes on the disk (bits of Perm). */
  readonly perm?: number;
  /** Resolves with false if it failed and has said so; throws IoFailure. */
  run(session: Session, args: Arguments): Promise<boolean> | boolean;
}

/** One run. */
export class Session {
  readonly verb: IoConsole;
  readonly commands: readonly IoCommand[];
  readonly #pending = new Set<Promise<void>>();
  #disk: Disk | undefined;
  /** The run is to end. */
  done = false;
  /** A command failed. */
  failed = false;

  constructor(verb: IoConsole, commands: readonly IoCommand[]) {
    this.verb = verb;
    this.commands = commands;
    verb.signal.addEventListener("abort", () => this.#releaseHeld(), { once: true });
  }

  /** The open disk. Throws IoFailure without one. */
  get disk(): Disk {
    if (!this.#disk) throw new IoFailure("no file open, try 'help open'", "stderr");
    return this.#disk;
  }

  /** Opens a disk. Throws IoFailure. */
  async open(name: string | undefined, choices: DiskChoices): Promise<void> {
    if (this.#disk) throw new IoFailure("file open already, try 'help close'", "note");
    this.#disk = await openDisk(this.verb, name, choices);
  }

  /** Works on a disk that is somebody else's. */
  borrow(disk: Disk): void {
    this.#disk = disk;
  }

  /** Whether a request is left to itself. */
  get isBusy(): boolean {
    return this.#pending.size > 0;
  }

  /** Waits for the requests under way and closes the disk, if one is open. What a breakpoint holds back goes on. */
  async close(): Promise<void> {
    this.#releaseHeld();
    await this.settle();
    const disk = this.#disk;
    this.#disk = undefined;
    await disk?.close();
  }

  /** Leaves a request to itself; what comes of it is printed when it is over and does not count as a failure of the run. */
  launch(request: () => Promise<void>): void {
    const pending = request()
      .catch((error: unknown) => this.#report(error))
      .finally(() => this.#pending.delete(pending));
    this.#pending.add(pending);
  }

  /** Waits until no request is left to itself any more. */
  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  /** The command of a name or alias. */
  find(name: string): IoCommand | undefined {
    return this.commands.find((command) => command.name === name || command.alias === name);
  }

  /** Carries out one line; an empty one is nothing. */
  async execute(line: string): Promise<void> {
    const [name, ...words] = line.split(" ").filter((word) => word !== "");
    if (name === undefined) return;
    const command = this.find(name);
    if (!command) {
      process.stderr.write(`command "${name}" not found\n`);
      this.failed = true;
      return;
    }
    this.verb.signal.throwIfAborted();
    try {
      await this.#prepare(command, { name, words });
      if (!(await command.run(this, new Arguments(name, words)))) this.failed = true;
    } catch (error) {
      if (this.verb.signal.aborted) throw error;
      this.failed = true;
      this.#report(error);
      if (error instanceof IoFailure && error.usage) this.verb.print(synopsisOf(command));
    }
  }

  async #prepare(command: IoCommand, { name, words }: { name: string; words: string[] }): Promise<void> {
    if (!command.diskless && !this.#disk) throw new IoFailure("no file open, try 'help open'", "stderr");
    const [least, most] = command.words;
    if (words.length < least || words.length > most) {
      const expected =
        most === least
          ? `${least} arguments`
          : most === Infinity
            ? `at least ${least} arguments`
            : `between ${least} and ${most} arguments`;
      throw new IoFailure(`bad argument count ${words.length} to ${name}, expected ${expected}`, "stderr");
    }
    if (command.perm !== undefined) await this.#take(command.perm);
  }

  async #take(perm: number): Promise<void> {
    const { backend } = this.disk;
    const { root } = backend;
    if (!root || (root.perm & perm) === perm) return;
    try {
      await backend.graph.setPermissions(root, { perm: root.perm | perm, shared: root.shared });
    } catch (error) {
      throw new IoFailure(messageOf(error), "note");
    }
  }

  /** Lets go what a breakpoint holds back. */
  #releaseHeld(): void {
    if (this.#disk) rulesBelow(this.#disk.node)?.release();
  }

  #report(error: unknown): void {
    const text = messageOf(error);
    if (text === "") return;
    const channel = error instanceof IoFailure ? error.channel : "note";
    if (channel === "note") this.verb.note(text);
    else process[channel].write(`${text}\n`);
  }
}

/** A command's line in help, under the name it was asked for. */
export function synopsisOf(command: IoCommand, name = command.name): string {
  return `${name} ${command.synopsis}${command.synopsis === "" ? "" : " "}-- ${command.summary}\n`;
}
