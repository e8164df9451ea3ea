/**
 * What a saved state of the emulator holds of a disk: which disk it was, and the generation of its content, never the
 * content. A state goes only with the content that the guest had when it was saved.
 *
 * Invariants: once a generation was handed out, no write completes before the next generation is kept; what the keeper
 * gives at first counts as handed out. So a generation names one content, over reloads too where the keeper lasts.
 */
import { BlockError } from "../../base/errors.ts";

/** Keeps the generation of a disk over reloads, beside the disk. Absent: states are good until the disk is closed. */
export interface GenerationKeeper {
  /** What was kept last; undefined: nothing yet. */
  load(): Promise<number | undefined>;
  /** Keeps it durably. */
  save(generation: number): Promise<void>;
}

const MAGIC = "blockwright";
const VERSION = 1;

/** The state's part for one disk. */
export class DiskState {
  readonly #identity: string;
  readonly #keeper: GenerationKeeper | undefined;
  #generation: number;
  #handedOut = true;
  #saving: Promise<void> | undefined;

  private constructor(identity: string, generation: number, keeper: GenerationKeeper | undefined) {
    this.#identity = identity;
    this.#generation = generation;
    this.#keeper = keeper;
  }

  /** `first` is the generation where nothing was kept: one that no other session has. */
  static async load(identity: string, first: number, keeper?: GenerationKeeper): Promise<DiskState> {
    const generation = await keeper?.load();
    const state = new DiskState(identity, generation ?? first, keeper);
    if (generation === undefined) await keeper?.save(first);
    return state;
  }

  /** The content is about to change; undefined: nothing has to be kept first. */
  changing(): Promise<void> | undefined {
    if (!this.#handedOut) return this.#saving;
    this.#handedOut = false;
    this.#generation += 1;
    this.#saving = this.#keeper?.save(this.#generation).then(
      () => {
        this.#saving = undefined;
      },
      (error: unknown) => {
        // The next write tries again, with a number of its own.
        this.#saving = undefined;
        this.#handedOut = true;
        throw error;
      },
    );
    return this.#saving;
  }

  /** For v86's save_state(). */
  hand(): (string | number)[] {
    this.#handedOut = true;
    return [MAGIC, VERSION, this.#identity, this.#generation];
  }

  /** Whether a disk's part of a saved state is of this disk, and of its present content. */
  isOf(part: readonly unknown[]): boolean {
    return part[1] === VERSION && part[2] === this.#identity && part[3] === this.#generation;
  }

  /** For v86's restore_state(). Throws EINVAL for another disk's state, ESTALE for one of another content. */
  check(state: unknown): void {
    const [magic, version, identity, generation] = Array.isArray(state) ? (state as unknown[]) : [];
    if (magic !== MAGIC || version !== VERSION)
      throw refusal("EINVAL", "the state was not saved with a disk of Blockwright's");
    if (identity !== this.#identity)
      throw refusal(
        "EINVAL",
        `the state belongs to the disk '${String(identity)}', this is '${this.#identity}'`,
      );
    if (generation !== this.#generation)
      throw refusal(
        "ESTALE",
        `the disk '${this.#identity}' was written to since the state was saved (generation ${String(generation)}, now ${this.#generation})`,
      );
  }
}

/** What v86's file begins with, and what a zstd frame begins with. */
const STATE_MAGIC = 0x86768676;
const ZSTD_MAGIC = 0xfd2fb528;
/** Bytes before the description of a saved state; its length is in the last four. */
const HEADER_BYTES = 16;

/** The parts of Blockwright's disks in what save_state() gave. Source: v86's src/state.js. */
export function savedParts(saved: ArrayBuffer | Uint8Array): unknown[][] {
  const bytes = saved instanceof Uint8Array ? saved : new Uint8Array(saved);
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = bytes.byteLength < HEADER_BYTES ? 0 : header.getUint32(0, true);
  if (magic === ZSTD_MAGIC) {
    const message = "the state is compressed: ask with what restore_state() would unpack";
    throw new BlockError({ code: "ENOTSUP", op: "restore", message });
  }
  if (magic !== STATE_MAGIC) throw refusal("EINVAL", "this is no state of v86's save_state()");
  const end = HEADER_BYTES + header.getUint32(12, true);
  try {
    return partsIn(JSON.parse(new TextDecoder().decode(bytes.subarray(HEADER_BYTES, end))));
  } catch {
    throw refusal("EINVAL", "the state of v86's save_state() is damaged");
  }
}

function partsIn(value: unknown): unknown[][] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value) && value[0] === MAGIC) return [value as unknown[]];
  return Object.values(value).flatMap(partsIn);
}

function refusal(code: "EINVAL" | "ESTALE", message: string): BlockError {
  return new BlockError({ code, op: "restore", message });
}
