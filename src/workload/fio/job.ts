/**
 * One job of a fio file, its options as values: those of [global] below its own, aliases under one name. Tells which options were
 * asked for, so that the others can be named.
 */
import { WorkloadError } from "../model/plan.ts";
import type { FioOption } from "./file.ts";
import { type KbBase, fioBool, fioNumber, fioTime } from "./values.ts";

/** Other names of options. */
const ALIASES: Readonly<Record<string, string>> = {
  readwrite: "rw",
  blocksize: "bs",
  blocksize_range: "bsrange",
  ba: "blockalign",
  timeout: "runtime",
  io_limit: "io_size",
  wait_for_previous: "stonewall",
  start_delay: "startdelay",
  nr_files: "nrfiles",
  dedup_percentage: "dedupe_percentage",
  verify_header_seed: "verify_header_seed",
};

/** An option's one name. */
export function canonical(name: string): string {
  return Object.hasOwn(ALIASES, name) ? ALIASES[name]! : name;
}

/** The options of one job. */
export class FioJob {
  readonly name: string;
  readonly #options = new Map<string, FioOption>();

  constructor(name: string, options: readonly FioOption[]) {
    this.name = name;
    // A variable that is not set leaves nothing: the option is as if it were not there.
    for (const option of options) if (option.value !== "") this.#options.set(canonical(option.name), option);
  }

  /** Whether it is there. */
  has(name: string): boolean {
    return this.#options.has(name);
  }

  /** As it stands in the file; undefined where it does not, or has no value. */
  text(name: string): string | undefined {
    return this.#options.get(name)?.value;
  }

  /** A truth value; false where it is not there. */
  bool(name: string): boolean {
    return this.has(name) && this.#read(name, () => fioBool(this.text(name)));
  }

  /** A number with its unit. */
  number(name: string): number | undefined {
    return this.#valued(name, (text) => fioNumber(text, this.kbBase));
  }

  /** A percentage or plain number with a fraction. */
  decimal(name: string): number | undefined {
    return this.#valued(name, (text) => {
      const value = Number(text.replace(/%$/, ""));
      if (!Number.isFinite(value)) throw new WorkloadError(`'${text}' is no number`);
      return value;
    });
  }

  /** A share of a hundred; `part`: what of the text it is. */
  percentage(name: string, part = (text: string): string => text): number | undefined {
    const read = (text: string): number => Number(part(text).replace(/%$/, ""));
    return this.#valued(name, (text) => within(read(text), { least: 0, most: 100 }));
  }

  /** A number that is at least 1. */
  count(name: string): number | undefined {
    return this.#valued(name, (text) => within(Number(text), { least: 1, most: Infinity }));
  }

  /** A time, ns. */
  time(name: string, unit: "s" | "us" | "ms"): number | undefined {
    return this.#valued(name, (text) => fioTime(text, unit));
  }

  /** What a reader of its own makes of it. */
  read<T>(name: string, reader: (text: string) => T): T | undefined {
    return this.#valued(name, reader);
  }

  /** What a `k` is. */
  get kbBase(): KbBase {
    return this.text("kb_base") === "1000" ? 1000 : 1024;
  }

  #valued<T>(name: string, reader: (text: string) => T): T | undefined {
    const text = this.text(name);
    return text === undefined || text === "" ? undefined : this.#read(name, () => reader(text));
  }

  /** Errors say where the option stands. */
  #read<T>(name: string, reader: () => T): T {
    try {
      return reader();
    } catch (error) {
      const { where } = this.#options.get(name)!;
      throw new WorkloadError(`${where}: ${name}: ${(error as Error).message}`);
    }
  }
}

/** Throws WorkloadError, in fio's words, for a number out of its range. */
function within(value: number, { least, most }: { least: number; most: number }): number {
  if (!Number.isFinite(value)) throw new WorkloadError("it is no number");
  if (value < least) throw new WorkloadError(`min value out of range: ${value} (${least} min)`);
  if (value > most) throw new WorkloadError(`max value out of range: ${value} (${most} max)`);
  return value;
}
