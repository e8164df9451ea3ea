/**
 * The journal of a run with no server: a line of JSON for each thing that happened, appended. A line that was not written whole is passed
 * over; what was done and not written is found done at its target.
 */
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { FleetError } from "../../fleet/jobs.ts";
import type { Journal, JournalEntry } from "../../fleet/queue.ts";
import { makeFolders } from "../../platform/node/folders.ts";
import { livenessOf, type Owner, thisOwner } from "../../platform/node/owner.ts";

/** A journal in a folder, which one run has at a time. */
export class FolderJournal implements Journal, Disposable {
  readonly known = new Map<string, JournalEntry>();
  readonly #lock: string;
  readonly #fd: number;

  /** Opens it, and makes the folder. Throws FleetError where another run has it. */
  constructor(folder: string) {
    makeFolders(folder);
    this.#lock = join(folder, "lock");
    this.#take();
    const path = join(folder, "journal.jsonl");
    for (const line of existsSync(path) ? readFileSync(path, "utf8").split("\n") : []) this.#read(line);
    // Begun anew with what counts, so that it does not grow from run to run.
    const draft = `${path}.draft`;
    writeFileSync(draft, [...this.known.values()].map((entry) => `${JSON.stringify(entry)}\n`).join(""));
    renameSync(draft, path);
    this.#fd = openSync(path, "a");
  }

  #take(): void {
    let other: Owner | undefined;
    try {
      other = JSON.parse(readFileSync(this.#lock, "utf8")) as Owner;
    } catch {
      // There is none, or it was not written whole.
    }
    if (other && ["alive", "stopped"].includes(livenessOf(other)))
      throw new FleetError(`another run has this journal: process ${other.pid}`);
    writeFileSync(this.#lock, JSON.stringify(thisOwner()));
  }

  #read(line: string): void {
    try {
      const entry = JSON.parse(line) as JournalEntry;
      if (typeof entry.id === "string") this.known.set(entry.id, entry);
    } catch {
      // The last line of a run that was killed, or an empty one.
    }
  }

  /** Adds a line. */
  write(entry: JournalEntry): void {
    writeSync(this.#fd, `${JSON.stringify(entry)}\n`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
    rmSync(this.#lock, { force: true });
  }
}
