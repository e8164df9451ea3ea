/**
 * Following a job of another process to its end: its progress is asked for, what happens to it is told by events. What has
 * become of it is the exit status: 0 completed (or cancelled once it was ready), 1 failed or cancelled.
 *
 * Invariant: the events are listened to before the first question, so that no end is missed.
 */
import type { QmpClient } from "../../../node.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { printable } from "../../printable.ts";
import { programName } from "../../program.ts";
import { progressLine, RateMeter } from "../../progress.ts";
import { Refusal } from "../../refusal.ts";
import { type JobRow, jobRows } from "./table.ts";

const INTERVAL_MS = 250;

interface Outcome {
  readonly result: "completed" | "cancelled" | "failed";
  readonly error?: string;
}

/** Shows a job until it has ended; resolves with the exit status. Throws Refusal for a job that there is not. */
export async function watchJob(
  client: QmpClient,
  id: string,
  { isJson }: { isJson: boolean },
): Promise<number> {
  const view = isJson ? jsonLines() : drawnLine();
  const ended = new Ending(client, id, (text) => view.note(text));
  let last: JobRow | undefined;
  for (;;) {
    const row = (await jobRows(client)).find((one) => one.id === id);
    if (!row && !last) throw new Refusal(`Job '${id}' not found`);
    if (row) view.show(row);
    last = row ?? last;
    const outcome = ended.outcome ?? (row ? concluded(row) : undefined);
    if (outcome) return end(view, last!, outcome);
    if (!row) return end(view, last!, { result: "completed" });
    await Promise.race([sleep(INTERVAL_MS), ended.happened()]);
  }
}

/** A job that waits to be dismissed says itself how it went. */
function concluded({ status, error }: JobRow): Outcome | undefined {
  if (status !== "concluded") return undefined;
  return error === undefined ? { result: "completed" } : { result: "failed", error };
}

function end(view: View, row: JobRow, outcome: Outcome): number {
  view.end(row, outcome);
  return outcome.result === "completed" ? 0 : 1;
}

/** What the events say of a job's end. */
class Ending {
  outcome: Outcome | undefined;
  #wake: (() => void) | undefined;

  constructor(client: QmpClient, id: string, note: (text: string) => void) {
    client.on("BLOCK_JOB_COMPLETED", ({ data: { device, error } }) => {
      if (device === id)
        this.#is(error === undefined ? { result: "completed" } : { result: "failed", error });
    });
    client.on("BLOCK_JOB_CANCELLED", ({ data: { device } }) => {
      if (device === id) this.#is({ result: "cancelled" });
    });
    client.on("BLOCK_JOB_ERROR", ({ data: { device, operation, action } }) => {
      if (device === id) note(`a ${operation} failed: ${action}`);
    });
    client.on("JOB_STATUS_CHANGE", (event) => {
      if (event.data.id === id) this.#wake?.();
    });
  }

  #is(outcome: Outcome): void {
    this.outcome = outcome;
    this.#wake?.();
  }

  /** Resolves when the next event has come. */
  happened(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

interface View {
  show(row: JobRow): void;
  note(text: string): void;
  end(row: JobRow, outcome: Outcome): void;
}

/** A line whenever something has changed. */
function jsonLines(): View {
  let before = "";
  const print = (value: object): void => {
    const line = printable(JSON.stringify(value));
    if (line !== before) process.stdout.write(`${line}\n`);
    before = line;
  };
  return {
    show: print,
    note: () => undefined,
    end: ({ id, type, offset, length }, outcome) => print({ id, type, offset, length, ...outcome }),
  };
}

/** One line that is drawn again and again on a terminal; elsewhere what has changed of the status. */
function drawnLine(): View {
  const meter = new RateMeter();
  const { isTTY, columns } = process.stderr;
  let status = "";
  const draw = (row: JobRow): void => {
    meter.sample(row.offset);
    const line = progressLine(row, meter);
    if (isTTY) process.stderr.write(`\r\u001B[K${line.slice(0, columns - 1)}`);
    else if (row.status !== status) process.stderr.write(`${line}  ${row.status}\n`);
    status = row.status;
  };
  const clear = (): void => void (isTTY && process.stderr.write("\r\u001B[K"));
  return {
    show: draw,
    note: (text) => {
      clear();
      process.stderr.write(`${programName()}: ${printable(text)}\n`);
    },
    end: ({ id, type }, { result, error }) => {
      clear();
      process.stdout.write(printable(`${type} ${id}: ${result}${error === undefined ? "" : `: ${error}`}\n`));
    },
  };
}
