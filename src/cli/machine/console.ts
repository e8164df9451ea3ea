/**
 * Lines of qemu-io on a machine's drives. Reports go to the program's own output, as QEMU's do; what goes wrong beside them is
 * told by the monitor. A drive's asynchronous requests are its session's, which stays.
 */
import type { BlockBackend } from "../../block/graph/backend.ts";
import type { Board } from "../../machine/board/board.ts";
import type { Drive } from "../../machine/board/drive.ts";
import type { Engine } from "../../node.ts";
import { ioCommands } from "../verbs/io/commands.ts";
import { Session } from "../verbs/io/session.ts";
import { printable } from "../printable.ts";

/** Commands that only the program qemu-io has. */
const foreign = new Set(["open", "close", "quit", "abort", "sigraise"]);
const commands = ioCommands.filter(({ name }) => !foreign.has(name));

/** The sessions of a machine's backends. */
export class IoSessions {
  readonly #engine: Engine;
  readonly #signal: AbortSignal;
  readonly #drives: ReadonlySet<Drive>;
  readonly #sessions = new WeakMap<BlockBackend, Session>();
  #told = "";

  constructor({ engine, drives }: Board, signal: AbortSignal) {
    this.#engine = engine;
    this.#drives = drives;
    this.#signal = signal;
  }

  /** Carries out a line; resolves with what the monitor is told. */
  async run(backend: BlockBackend, line: string): Promise<string> {
    const session = this.#sessionOf(backend);
    const { node } = backend;
    const { account } = [...this.#drives].find((drive) => drive.backend === backend) ?? {};
    if (node) session.borrow({ backend, node, account, close: () => Promise.resolve() });
    this.#told = "";
    await session.execute(line);
    return this.#told;
  }

  #sessionOf(backend: BlockBackend): Session {
    const known = this.#sessions.get(backend);
    if (known) return known;
    const made = new Session(
      {
        engine: this.#engine,
        signal: this.#signal,
        print: (text) => void process.stdout.write(printable(text)),
        note: (text) => {
          this.#told += `${text}\n`;
        },
      },
      commands,
    );
    this.#sessions.set(backend, made);
    return made;
  }
}
