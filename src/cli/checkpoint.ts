/**
 * `--checkpoint FILE` of the verbs that copy: the file is opened before anything is made, and keeps the command line, by which `job
 * resume FILE` carries the verb out once more. Whatever fails, what was copied stays where there is a checkpoint.
 */
import { checkIn } from "../api/check.ts";
import { loadCheckpoints } from "../api/checkpoint/index.ts";
import type { CheckpointFile } from "../api/checkpoint/file.ts";
import { type CheckpointKind, freshState } from "../api/checkpoint/state.ts";
import { asRef } from "../api/job-checkpoint.ts";
import { errnoOf, messageOf } from "../base/errors.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import type { CheckpointRef, OpenSpec } from "../node.ts";
import type { Run } from "./run.ts";
import { Refusal } from "./refusal.ts";

/** What the program keeps in a checkpoint. */
export interface CommandNote {
  /** Where it was started. */
  readonly folder: string;
  /** Its arguments, definitions of objects left out: they may hold secrets. */
  readonly words: readonly string[];
}

/** The checkpoint of one run. */
export class KeptRun {
  readonly #kind: CheckpointKind;
  readonly #file: CheckpointFile;

  private constructor(kind: CheckpointKind, file: CheckpointFile) {
    this.#kind = kind;
    this.#file = file;
  }

  /** Opens or makes it. Throws Refusal where it is one of another command line. */
  static async open(run: Run, filename: string, kind: CheckpointKind): Promise<KeptRun> {
    const { CheckpointFile: File } = await loadCheckpoints();
    const file = await File.open(run.engine, filename, { create: true });
    const { found } = file;
    file.note = commandNote();
    if (found && found.targets.length === 0 && !isSame(found.note, commandNote())) {
      await file.close();
      throw new Refusal(`the checkpoint '${filename}' is of other work: ${wordsOf(found.note).join(" ")}`);
    }
    return new KeptRun(kind, file);
  }

  /** For the functions of the library. */
  get ref(): CheckpointRef {
    return asRef(this.#file);
  }

  /** An earlier run has made the target, and copied into it. */
  get hasTarget(): boolean {
    return (this.#file.found?.targets.length ?? 0) > 0;
  }

  /** The command line of an earlier run, where that was another one. */
  get otherWork(): string | undefined {
    const { found } = this.#file;
    return found && !isSame(found.note, commandNote()) ? wordsOf(found.note).join(" ") : undefined;
  }

  /** An earlier run was about to make the target. */
  get wasBegun(): boolean {
    return this.#file.found !== undefined;
  }

  /** All was copied before; headers may be changed by now. */
  get isEnding(): boolean {
    return this.#file.found?.stage === "ending";
  }

  /** The verb has more to do when the job has ended: it calls finish(). */
  stays(): void {
    this.#file.stays = true;
  }

  /** From now on the target is this work's. */
  async begin(): Promise<void> {
    if (this.#file.found) return;
    const none = {
      sources: [],
      targets: [],
      disks: [],
      work: {},
      length: 0,
      granularity: 65536,
      region: 524288,
    };
    await this.#file.save(freshState({ ...none, kind: this.#kind, note: this.#file.note }));
  }

  /** All is done: the checkpoint goes. */
  finish(): Promise<void> {
    return this.#file.finish();
  }

  /** Lets others have it. One that says nothing yet goes. */
  async close({ hasFailed }: { hasFailed: boolean }): Promise<void> {
    await (hasFailed && this.#file.isEmpty ? this.#file.finish() : this.#file.close());
  }
}

/** Carries out `body` with the checkpoint of that name, if there is to be one. */
export async function keeping(
  run: Run,
  { checkpoint, kind }: { checkpoint: string | undefined; kind: CheckpointKind },
  body: (kept: KeptRun | undefined) => Promise<void>,
): Promise<void> {
  if (checkpoint === undefined) return body(undefined);
  const kept = await KeptRun.open(run, checkpoint, kind);
  try {
    await body(kept);
  } catch (error) {
    await kept.close({ hasFailed: true }).catch(() => undefined);
    const { otherWork } = kept;
    if (run.signal.aborted || otherWork === undefined || messageOf(error).includes(checkpoint)) throw error;
    throw new Refusal(`${messageOf(error)}; the checkpoint '${checkpoint}' is of other work: ${otherWork}`);
  }
  await kept.close({ hasFailed: false });
}

/** What a killed process had under way in an image may have left clusters that nothing refers to. */
export async function freeLeaks({ engine, signal }: Run, image: NodeSpec): Promise<void> {
  try {
    await checkIn(engine, image as unknown as OpenSpec, { signal, repair: "leaks" });
  } catch (error) {
    if (errnoOf(error) !== "ENOTSUP") throw error;
  }
}

let resumed: readonly string[] | undefined;

function commandNote(): CommandNote {
  return { folder: process.cwd(), words: withoutObjects(resumed ?? process.argv.slice(2)) };
}

function withoutObjects(words: readonly string[]): string[] {
  return words.filter((word, at) => {
    return word !== "--object" && words[at - 1] !== "--object" && !word.startsWith("--object=");
  });
}

function wordsOf(note: unknown): readonly string[] {
  return (note as CommandNote | undefined)?.words ?? [];
}

/** Whether two command lines are of the same work: how it is shown does not count. */
function isSame(one: unknown, other: unknown): boolean {
  const work = (note: unknown): string =>
    wordsOf(note)
      .filter((word) => !["--json", "-p", "--progress", "-q", "--quiet"].includes(word))
      .join("\0");
  const folder = (note: unknown): string | undefined => (note as CommandNote | undefined)?.folder;
  return work(one) === work(other) && folder(one) === folder(other);
}

/** `words` are those of a run that goes on. */
export function goesOnAs(words: readonly string[]): void {
  resumed = words;
}
