/**
 * One run of a verb: an engine with the user's gate and objects, messages, a clean end at SIGINT, SIGTERM and SIGHUP, and undoing what
 * a failed verb has made. How it gets on is shown by a view: a verb's percentage, or a job that is followed.
 *
 * Exit status: what the body answers; 1 (or `failure`) for what it throws; 134 for a broken invariant; 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP. A second
 * signal ends the program at once. Messages go to stderr after the program's name, as qemu-img's after its own.
 */
import { AssertionError } from "../base/assert.ts";
import { BROKEN_STATUS, brokenText } from "./broken.ts";
import { printable, printableMessage } from "./printable.ts";
import { firstFailure } from "../base/errors.ts";
import { MiB } from "../base/limits.ts";
import { overlayFormat } from "../drivers/format/defaults.ts";
import type { Engine, QmpEvent } from "../node.ts";
import { keepAlive } from "../platform/node/clock.ts";
import { endAtOnce } from "../platform/node/exit.ts";
import { addObjects, programEngine } from "./options/engine.ts";
import type { VerbFlags } from "./options/flags.ts";
import { VerbProgress } from "./percent.ts";
import { programName } from "./program.ts";
import { Refusal, told } from "./refusal.ts";

type Ending = "SIGINT" | "SIGTERM" | "SIGHUP";

const statusOf: Readonly<Record<Ending, number>> = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/** How a run came out. */
export interface Outcome {
  status: number;
  /** What was thrown first, if anything was. */
  failure?: unknown;
  /** The signal that ended it. */
  signal?: Ending;
}

/** Of verbs that go on by themselves: with the 64 MiB of the library V8 collects garbage once more for every start. */
const ARENA_BYTES = 24 * MiB;

/** What is shown of a run beside its messages. */
export interface View {
  /** The run begins. */
  begin?(run: Run): void;
  /** Other text is about to be written to stderr. */
  clear(): void;
  /** SIGUSR1: somebody wants to know how far it is. */
  poke(): void;
  /** An event of the engine. */
  event?(event: QmpEvent): void;
  /** Everything is closed, but nothing undone yet; all is done if `whole`. */
  end(whole: boolean): void;
  /** The last that happens. */
  outcome?(outcome: Outcome): void;
}

/** How a run is set up and ends. */
export interface RunOptions {
  /** Default: the run's own progress. */
  view?: View;
  /** Where files are read and written; see NodeHostOptions. Default: in turn, as befits a program that only copies. */
  io?: "pool" | "in-turn";
}

/** What QEMU prints of an image that turns out to be corrupt, once. */
function corruptionText(format: string, { msg, fatal }: { msg?: unknown; fatal?: unknown }): string {
  const [what, events] = fatal
    ? ["Marking image as corrupt", "corruption"]
    : ["Image is corrupt", "non-fatal corruption"];
  return `${format}: ${what}: ${String(msg)}; further ${events} events will be suppressed`;
}

/** One run of a verb. */
export class Run {
  readonly engine: Engine;
  /** How far the verb is, where it says so. */
  readonly progress: VerbProgress;
  readonly #view: View;
  readonly #abort = new AbortController();
  readonly #quiet: boolean;
  readonly #objects: readonly string[] | undefined;
  readonly #undo: (() => Promise<void>)[] = [];
  #signal: Ending | undefined;

  constructor(flags: VerbFlags, { view, io = "in-turn" }: RunOptions = {}) {
    this.#objects = flags.object;
    this.#quiet = flags.quiet ?? false;
    this.progress = new VerbProgress(flags);
    this.#view = view ?? this.progress;
    const arena = io === "in-turn" ? { arenaBytes: ARENA_BYTES } : {};
    this.engine = programEngine({ io, ...arena }, flags.gate);
  }

  /** Aborts at SIGINT, SIGTERM and SIGHUP. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Writes to stdout. */
  print(text: string): void {
    process.stdout.write(printable(text));
  }

  /** Writes a line to stdout unless the user asked for quiet. */
  say(line: string): void {
    if (!this.#quiet) process.stdout.write(`${printable(line)}\n`);
  }

  /** Writes a line to stderr. */
  readonly tell = (text: string): void => {
    this.#view.clear();
    process.stderr.write(`${printableMessage(text)}\n`);
  };

  /** Writes a message to stderr, after the program's name. */
  readonly note = (text: string): void => this.tell(`${programName()}: ${text}`);

  /** Writes a warning to stderr. */
  readonly warn = (text: string): void => this.note(`warning: ${text}`);

  /** Runs when the verb fails or is cancelled, after everything is closed; the latest first. */
  onFailure(undo: () => Promise<void>): void {
    this.#undo.unshift(undo);
  }

  /** Carries out `body`, which answers an exit status (nothing is 0); resolves with that of the run. */
  async carryOut(
    body: (run: Run) => Promise<number | void>,
    { failure = 1 }: { failure?: number } = {},
  ): Promise<number> {
    const alive = keepAlive();
    const unsubscribe = this.engine.graph.events.subscribe((event) => this.#onEvent(event));
    const removeHandlers = this.#handleSignals();
    try {
      this.#view.begin?.(this);
      const outcome = await this.#attempt(body, failure);
      this.#view.outcome?.(outcome);
      return outcome.status;
    } finally {
      unsubscribe();
      removeHandlers();
      alive();
    }
  }

  /** The format of a node; while one is opened, it is one that keeps metadata worth checking. */
  #formatOf(name: unknown): string {
    const node = typeof name === "string" ? this.engine.graph.findNode(name) : undefined;
    return node?.type.name ?? overlayFormat;
  }

  #onEvent(event: QmpEvent): void {
    if (event.event === "BLOCK_IMAGE_CORRUPTED")
      this.tell(corruptionText(this.#formatOf(event.data["node-name"]), event.data));
    this.#view.event?.(event);
  }

  /** Signals end the run, and so does the loss of whoever reads stdout. */
  #handleSignals(): () => void {
    const end = (signal: Ending) => (): void => {
      if (this.#signal) {
        this.note(`ended by a second ${signal}: what has not answered was not waited for`);
        endAtOnce(statusOf[signal]);
      }
      this.#signal = signal;
      this.#abort.abort(new Error("cancelled"));
    };
    const handlers: [NodeJS.Signals, () => void][] = [
      ["SIGINT", end("SIGINT")],
      ["SIGTERM", end("SIGTERM")],
      ["SIGHUP", end("SIGHUP")],
      ["SIGUSR1", () => this.#view.poke()],
    ];
    for (const [name, handler] of handlers) process.on(name, handler);
    const deaf = (): void => this.#abort.abort(new Error("nobody reads stdout any more"));
    process.stdout.on("error", deaf);
    return () => {
      for (const [name, handler] of handlers) process.off(name, handler);
      process.stdout.off("error", deaf);
    };
  }

  async #attempt(body: (run: Run) => Promise<number | void>, failure: number): Promise<Outcome> {
    let status = 0;
    const failures: unknown[] = [];
    const steps = [
      async () => {
        await addObjects(this.engine, this.#objects);
        status = (await body(this)) ?? 0;
      },
      () => this.engine.close(),
    ];
    for (const step of steps) await step().catch((error: unknown) => failures.push(firstFailure(error)));
    this.#view.end(failures.length === 0 && status === 0);
    if (failures.length === 0) return { status };
    for (const undo of this.#undo) await undo();
    return this.#failed(failures[0], failure);
  }

  #failed(failure: unknown, status: number): Outcome {
    if (this.#signal) {
      this.note(`cancelled by ${this.#signal}`);
      return { status: statusOf[this.#signal], failure, signal: this.#signal };
    }
    if (failure instanceof AssertionError) {
      this.note(brokenText(failure));
      return { status: BROKEN_STATUS, failure };
    }
    const lines = failure instanceof Refusal ? failure.lines : [told(failure)];
    for (const line of lines) this.note(line);
    return { status: (failure instanceof Refusal ? failure.status : undefined) ?? status, failure };
  }
}
