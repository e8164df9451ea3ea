/**
 * What every verb after qemu-img's pattern shares: an engine with the user's gate, messages and exit status, progress, a
 * clean end at SIGINT and SIGTERM, and undoing what a failed verb has made.
 *
 * Exit status: what the body answers; 1 (or `failure`) for what it throws; 130 after SIGINT, 143 after SIGTERM. A second
 * signal ends the program at once. Messages go to stderr after `blockwright: `, as qemu-img's after its own name.
 */
import { firstFailure, messageOf } from "../base/errors.ts";
import { fileGate } from "../block/model/gate.ts";
import { type Engine, createEngine, nodeHost } from "../node.ts";
import { keepAlive } from "../platform/node/clock.ts";
import type { ImageFlags } from "./options/flags.ts";
import { addObjects } from "./options/objects.ts";
import { PercentLine, percentText } from "./progress.ts";
import { isWatched } from "./terminal.ts";

/** Options that most verbs have. */
export interface VerbFlags extends ImageFlags {
  quiet?: boolean;
  progress?: boolean;
}

/** A refusal with its own lines and exit status. */
export class Refusal extends Error {
  readonly lines: readonly string[];
  readonly status: number | undefined;

  constructor(lines: string | readonly string[], status?: number) {
    super(typeof lines === "string" ? lines : lines.join("\n"));
    this.lines = typeof lines === "string" ? [lines] : lines;
    this.status = status;
  }
}

/** Throws unless `output` is one of the ways to print. */
export function checkOutput(output: string, status?: number): void {
  if (output !== "human" && output !== "json")
    throw new Refusal("--output must be used with human or json as argument.", status);
}

/** The message of anything thrown; who else may hold a lock is named as qemu-img does, `file` where the error names none. */
export function lockHint(error: unknown, file: string): string {
  const message = messageOf(error);
  if (!/Failed to get (?:shared )?".*" lock$/.test(message)) return message;
  return `${message}\n${hintOf(error) ?? `Is another process using the image [${file}]?`}`;
}

function hintOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause)
    if (at.message.startsWith("Is another process using")) return at.message;
  return undefined;
}

/** What QEMU prints of an image that turns out to be corrupt, once. */
function corruptionText({ msg, fatal }: { msg?: unknown; fatal?: unknown }): string {
  const [what, events] = fatal
    ? ["Marking image as corrupt", "corruption"]
    : ["Image is corrupt", "non-fatal corruption"];
  return `qcow2: ${what}: ${String(msg)}; further ${events} events will be suppressed`;
}

/** How a verb ends that throws. */
export interface VerbEnds {
  /** Exit status of a failure; default 1. */
  failure?: number;
}

/** How long a drawn line of progress stands before the next, ms. */
const DRAW_MS = 100;

/** One run of a verb. */
export class Verb {
  readonly engine: Engine;
  readonly #abort = new AbortController();
  readonly #quiet: boolean;
  /** The user asked for progress. */
  readonly #asked: PercentLine | undefined;
  /** Somebody may like to see it. */
  readonly #watched: boolean;
  readonly #objects: readonly string[] | undefined;
  readonly #undo: (() => Promise<void>)[] = [];
  #signal: "SIGINT" | "SIGTERM" | undefined;
  #drawnMs = -Infinity;
  #percent = 0;
  #drawn = false;

  constructor(flags: VerbFlags) {
    this.#objects = flags.object;
    this.#quiet = flags.quiet ?? false;
    this.#asked = !this.#quiet && flags.progress ? new PercentLine() : undefined;
    this.#watched = !this.#quiet && isWatched();
    this.engine = createEngine({ gate: fileGate(flags.gate, nodeHost()), io: "in-turn" });
    this.engine.graph.events.subscribe(({ event, data }) => {
      if (event === "BLOCK_IMAGE_CORRUPTED") process.stderr.write(`${corruptionText(data)}\n`);
    });
  }

  /** Aborts at SIGINT and SIGTERM. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Writes to stdout. */
  print(text: string): void {
    process.stdout.write(text);
  }

  /** Writes a line to stdout unless the user asked for quiet. */
  say(line: string): void {
    if (!this.#quiet) process.stdout.write(`${line}\n`);
  }

  /** Writes a message to stderr. */
  readonly note = (text: string): void => {
    if (this.#drawn) process.stderr.write("\n");
    this.#drawn = false;
    process.stderr.write(`blockwright: ${text}\n`);
  };

  /** Writes a warning to stderr. */
  readonly warn = (text: string): void => this.note(`warning: ${text}`);

  /** From here on the progress that is to be shown ends with a line feed, even if it never began. */
  reserveProgress(): void {
    this.#asked?.reserve();
  }

  /** From here on progress is shown, if it is to be. */
  beginProgress(): void {
    this.#asked?.begin();
  }

  /** Shows how far the verb is: as qemu-img does on stdout where the user asked for it, else on the terminal's stderr. */
  readonly progress = (done: number, total: number): void => {
    this.#percent = total > 0 ? (100 * done) / total : 100;
    if (this.#asked) this.#asked.show(this.#percent);
    else if (this.#watched && performance.now() - this.#drawnMs >= DRAW_MS) this.#draw();
  };

  /** Leaves the progress as it stands; everything is done if `whole`. */
  endProgress(whole: boolean): void {
    if (whole) this.#percent = 100;
    this.#asked?.end(whole);
    if (!this.#drawn) return;
    if (whole) this.#draw();
    process.stderr.write("\n");
    this.#drawn = false;
  }

  #draw(): void {
    this.#drawnMs = performance.now();
    process.stderr.write(percentText(this.#percent));
    this.#drawn = true;
  }

  /** Runs when the verb fails or is cancelled, after everything is closed; the latest first. */
  onFailure(undo: () => Promise<void>): void {
    this.#undo.unshift(undo);
  }

  /** Carries out `body`; resolves with the exit status. */
  async run(body: (verb: Verb) => Promise<number>, ends: VerbEnds = {}): Promise<number> {
    const alive = keepAlive();
    const end = (signal: "SIGINT" | "SIGTERM") => (): void => {
      if (this.#signal) process.exit(signal === "SIGINT" ? 130 : 143);
      this.#signal = signal;
      this.#abort.abort(new Error("cancelled"));
    };
    const handlers: [NodeJS.Signals, () => void][] = [
      ["SIGINT", end("SIGINT")],
      ["SIGTERM", end("SIGTERM")],
      ["SIGUSR1", () => this.#draw()],
    ];
    for (const [name, handler] of handlers) process.on(name, handler);
    // Whoever read the output has gone: the verb ends as by a signal, and with it what it made.
    process.stdout.on("error", () => this.#abort.abort(new Error("nobody reads stdout any more")));
    try {
      return await this.#attempt(body, ends);
    } finally {
      for (const [name, handler] of handlers) process.off(name, handler);
      alive();
    }
  }

  async #attempt(body: (verb: Verb) => Promise<number>, ends: VerbEnds): Promise<number> {
    let status = 0;
    let failures: unknown[] = [];
    const steps = [
      async () => {
        await addObjects(this.engine, this.#objects);
        status = await body(this);
      },
      () => this.engine.close(),
    ];
    for (const step of steps)
      await step().catch((error: unknown) => (failures = [...failures, firstFailure(error)]));
    this.endProgress(failures.length === 0 && status === 0);
    if (failures.length === 0) return status;
    for (const undo of this.#undo) await undo();
    return this.#fail(failures[0], ends.failure ?? 1);
  }

  #fail(failure: unknown, status: number): number {
    if (this.#signal) {
      this.note(`cancelled by ${this.#signal}`);
      return this.#signal === "SIGINT" ? 130 : 143;
    }
    if (!(failure instanceof Refusal)) {
      this.note(messageOf(failure));
      return status;
    }
    for (const line of failure.lines) this.note(line);
    return failure.status ?? status;
  }
}
