/**
 * The verb `bench`: requests of one size, so many at once, from an offset on in steps, around at the disk's end; in the
 * words of qemu-img bench. All requests share one buffer, since nobody looks at what was read.
 */
import { strerror } from "../../../base/errno.ts";
import { errnoOf } from "../../../base/errors.ts";
import { BlockBackend, guestPermissions, readerPermissions } from "../../../block/graph/backend.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import { bytesArgument, cInteger, INT32_MAX } from "../../options/sizes.ts";
import { openImage } from "../../images.ts";
import { type CacheMode, cacheMode } from "../../options/engine.ts";
import { Refusal } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";
import { valuesOf } from "../../../wire/qapi/option-types.ts";

/** Options of the verb. */
export interface BenchFlags extends ImageVerbFlags {
  count: string;
  depth: string;
  offset: string;
  size: string;
  stepSize: string;
  pattern: string;
  flushInterval: string;
  /** False: --no-drain. */
  drain: boolean;
  write?: boolean;
  cache?: string;
  aio?: string;
  native?: boolean;
}

/** What is measured; bytes. */
interface Plan {
  count: number;
  depth: number;
  offset: number;
  bytes: number;
  step: number;
  pattern: number;
  flushInterval: number;
  drain: boolean;
  write: boolean;
}

/** Runs the verb; resolves with the exit status. */
export function bench(files: readonly string[], flags: BenchFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const plan = planOf(flags);
    const aio = flags.aio ?? (flags.native ? "native" : undefined);
    if (aio !== undefined && !valuesOf("BlockdevAioOptions").some((mode) => mode === aio))
      throw new Refusal(`Invalid aio option: ${aio}`);
    const cache = cacheOf(flags.cache);
    const [file] = files;
    if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
    checkFlush(plan);
    const { format, imageOpts, forceShare } = flags;
    if (imageOpts && format !== undefined)
      throw new Refusal("--image-opts and --format are mutually exclusive");
    const how = { format, imageOpts, forceShare, aio, cache, write: plan.write };
    await using node = await openImage(verb, file, how);
    const backend = new BlockBackend(verb.engine.graph);
    backend.writeCache = flags.cache !== "writethrough" && flags.cache !== "directsync";
    // Others may write beside it, as qemu-img allows.
    await backend.attach(
      node.blockNode,
      plan.write ? { ...guestPermissions, shared: Perm.all } : readerPermissions,
    );
    try {
      announce(verb, plan);
      const started = performance.now();
      await new Bench(verb, backend, plan).run();
      const seconds = (performance.now() - started) / 1000;
      verb.print(`Run completed in ${seconds.toFixed(3)} seconds.\n`);
    } finally {
      await backend.close();
    }
    return 0;
  });
}

function announce(verb: Run, plan: Plan): void {
  const { count, bytes, depth, offset, step } = plan;
  verb.print(
    `Sending ${count} ${plan.write ? "write" : "read"} requests, ${bytes} bytes each, ${depth} in parallel ` +
      `(starting at offset ${offset}, step size ${step})\n`,
  );
  if (plan.flushInterval > 0) verb.print(`Sending flush every ${plan.flushInterval} requests\n`);
}

function cacheOf(mode: string | undefined): CacheMode | undefined {
  try {
    return mode === undefined ? undefined : cacheMode(mode, "cache");
  } catch {
    throw new Refusal("Invalid cache mode");
  }
}

function checkFlush({ write, flushInterval, depth }: Plan): void {
  if (!write && flushInterval > 0) throw new Refusal("--flush-interval is only available in write tests");
  if (flushInterval > 0 && flushInterval < depth)
    throw new Refusal("Flush interval can't be smaller than depth");
}

function planOf(flags: BenchFlags): Plan {
  const bytes = bytesArgument("buffer size", flags.size, INT32_MAX);
  const step = bytesArgument("step_size", flags.stepSize, INT32_MAX);
  const depth = countOf("queue depth", flags.depth);
  // With none at once nothing would ever end.
  if (depth === 0) throw new Refusal("Invalid queue depth specified");
  return {
    count: countOf("request count", flags.count),
    depth,
    offset: bytesArgument("offset", flags.offset),
    bytes,
    step: step === 0 ? bytes : step,
    pattern: countOf("pattern byte", flags.pattern, 255),
    flushInterval: countOf("flush interval", flags.flushInterval),
    drain: flags.drain,
    write: flags.write ?? false,
  };
}

function countOf(what: string, text: string, most: number = Number(INT32_MAX)): number {
  const value = cInteger(text);
  if (value === undefined || value < 0 || value > most) throw new Refusal(`Invalid ${what} specified`);
  return value;
}

/** One measurement. */
class Bench {
  readonly #verb: Run;
  readonly #backend: BlockBackend;
  readonly #plan: Plan;
  readonly #buffer: Uint8Array;
  readonly #length: number;
  readonly #flushes: Promise<void>[] = [];
  #next: number;
  #left: number;
  /** Requests that may be sent before the next flush. */
  #due: number;
  #failure: unknown;

  constructor(verb: Run, backend: BlockBackend, plan: Plan) {
    this.#verb = verb;
    this.#backend = backend;
    this.#plan = plan;
    this.#buffer = new Uint8Array(plan.bytes).fill(plan.pattern);
    this.#length = alignUp(backend.length, SECTOR_SIZE);
    this.#next = plan.offset;
    this.#left = plan.count;
    this.#due = plan.flushInterval || Infinity;
  }

  /** Throws Refusal when a request fails. */
  async run(): Promise<void> {
    const { depth, flushInterval, drain } = this.#plan;
    while (this.#left > 0 && this.#failure === undefined) {
      const senders = Math.min(depth, this.#left, this.#due);
      await Promise.all(Array.from({ length: senders }, () => this.#send()));
      if (this.#failure !== undefined || this.#due > 0) continue;
      this.#due = flushInterval;
      const flush = Promise.resolve(this.#backend.flush()).catch((error: unknown) => this.#fail(error));
      if (drain) await flush;
      else this.#flushes.push(flush);
    }
    await Promise.all(this.#flushes);
    if (this.#failure === undefined) return;
    this.#verb.signal.throwIfAborted();
    throw new Refusal(`Failed request: ${strerror(errnoOf(this.#failure))}`);
  }

  /** Sends one request after the other until none is left, a flush is due or one failed. */
  async #send(): Promise<void> {
    const { bytes, step, write } = this.#plan;
    while (this.#left > 0 && this.#due > 0 && this.#failure === undefined) {
      this.#left -= 1;
      this.#due -= 1;
      const offset = this.#next;
      this.#next = (offset + step) % (this.#length || Infinity);
      try {
        this.#verb.signal.throwIfAborted();
        if (bytes === 0) this.#backend.checkRange(write ? "pwrite" : "pread", offset, bytes);
        else if (write) await this.#backend.pwrite(offset, this.#buffer);
        else await this.#backend.pread(offset, this.#buffer);
      } catch (error) {
        this.#fail(error);
      }
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
  }
}
