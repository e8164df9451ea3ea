/**
 * One job, carried out: in a thread of its own, so that whatever the engine does, the queue's lock on the job is kept alive.
 *
 * Invariants: what is told of a checkpoint was flushed before; the fence is looked at before every step; the target's name is
 * given last. Source: behaviour of qemu-img convert and compare 7.2 through the library.
 */
import { realpathSync, statSync } from "node:fs";
import type { Engine } from "../../machine/engine.ts";
import { plainFormat } from "../../drivers/format/defaults.ts";
import { type FleetJob, FleetError, specOf } from "../../fleet/jobs.ts";
import type * as Entry from "../../node.ts";
import type { Node, OpenSpec } from "../../node.ts";
import { type Checkpoint, type Claim, TargetPlace } from "./place.ts";

const SECTOR = 512;
const MiB = 2 ** 20;
/** Data between two checkpoints: what may have to be copied once more; the 128th part of a disk within these. */
const MOST_STEP = 16 * MiB;
const LEAST_STEP = MiB;
/** Steps begin at a multiple of the largest cluster (VHDX's blocks but for the largest). */
const STEP_UNIT = 2 * MiB;
/** How far the map is looked at in one go. */
const MAP_WINDOW = 1024 * MiB;
const ARENA_BYTES = 24 * MiB;
const TOUCH_MS = 1000;

type Library = typeof Entry;

/** What a job is carried out with. */
export interface CopyContext {
  readonly signal: AbortSignal;
  /** How long an owner on another machine is watched, ms. */
  readonly watchMs: number;
  /** A generation was taken: whoever sees this thread die may release it. */
  claimed(target: string, generation: number): void;
  /** Waits for a place to transfer; resolves when there is one. */
  mayTransfer(): Promise<void>;
  /** The place is free for others. */
  transferred(): void;
  /** Bytes that all attempts have moved. */
  progress(bytes: number): void;
}

/** How it came out: bytes that all attempts moved, as far as the target tells. */
export interface CopyResult {
  readonly bytes: number;
}

/** Carries a job out. Rejects with what failed; FencedError and ElsewhereError where another worker has it. */
export async function carryOut(job: FleetJob, context: CopyContext): Promise<CopyResult> {
  const library = await import("../../node.ts");
  const engine = library.createEngine({
    warnUnflushed: false,
    arenaBytes: ARENA_BYTES,
    gate: library.fileGate("local", library.nodeHost()),
  });
  try {
    return await (job.kind === "verify"
      ? verify({ library, engine, job, context })
      : copy({ library, engine, job, context }));
  } finally {
    await engine.close();
  }
}

interface Work {
  readonly library: Library;
  readonly engine: Engine;
  readonly job: FleetJob;
  readonly context: CopyContext;
}

/** Whether a name is a path of this machine. */
export function isPath(name: string): boolean {
  return !/^[a-z][a-z0-9+.-]*:/i.test(name);
}

/** Opens what a job names: a path, a URL, or json:{…}. Throws FleetError where it is of another format than the job says. */
async function openNamed({ library, engine }: Work, name: string, format: string | undefined): Promise<Node> {
  const open = (image: string | OpenSpec): Promise<Node> =>
    library.openNode(image, { engine, readOnly: true });
  if (name.startsWith("json:")) return open(JSON.parse(name.slice("json:".length)) as OpenSpec);
  if (format === undefined) return open(name);
  if (isPath(name)) return open({ driver: format, file: { driver: "file", filename: name } } as OpenSpec);
  const node = await open(name);
  const found = node.chain[0]?.driver;
  if (found === format) return node;
  await node.close();
  throw new FleetError(`'${name}' is not of the format ${format} but ${found}`);
}

async function verify(work: Work): Promise<CopyResult> {
  const { library, job, context } = work;
  const { sourceFormat, targetFormat } = job.options;
  await context.mayTransfer();
  await using source = await openNamed(work, job.source, sourceFormat);
  if (job.target === undefined) return await readAll(work, source);
  await using target = await openNamed(work, job.target, targetFormat);
  let bytes = 0;
  const { signal } = context;
  const onProgress = (done: number): void => context.progress((bytes = done));
  const { identical, mismatch, offset = 0 } = await library.compare(source, target, { onProgress, signal });
  if (!identical) throw new FleetError(`the disks differ: ${mismatch ?? "content"} at offset ${offset}`);
  return { bytes };
}

/** Checks an image, where its format can be, and reads what is data. */
async function readAll({ library, engine, job, context }: Work, source: Node): Promise<CopyResult> {
  let bytes = 0;
  for await (const extent of source.map({ signal: context.signal })) {
    if (!extent.data) continue;
    const end = extent.offset + extent.bytes;
    for (let at = extent.offset; at < end; at += MiB) {
      context.signal.throwIfAborted();
      const piece = await source.read(at, Math.min(MiB, end - at));
      context.progress((bytes += piece.length));
    }
  }
  await source.close();
  const report = await library
    .check(job.source, { engine, signal: context.signal })
    .catch((error: unknown) => {
      if (library.errnoOf(error) === "ENOTSUP") return undefined;
      throw error;
    });
  if (report && (report.corruptions ?? 0) > 0)
    throw new FleetError(`'${job.source}' is corrupt: ${report.corruptions} errors`);
  return { bytes };
}

/** Size and time of change of a file; empty for what is none. */
function identityOf(name: string): string {
  const info = isPath(name) ? statSync(name, { throwIfNoEntry: false }) : undefined;
  return info?.isFile() ? `${info.size} ${info.mtimeMs} ${info.ino}` : "";
}

/** The file that is to be: through a link, what that leads to. */
function targetPath(name: string): string {
  const path = name.replace(/^file:(?:\/\/)?/, "");
  if (!isPath(path)) throw new FleetError(`the target '${name}' is no file`);
  const info = statSync(path, { throwIfNoEntry: false });
  if (info && !info.isFile()) throw new FleetError(`the target '${name}' is no regular file`);
  return info ? realpathSync(path) : path;
}

async function copy(work: Work): Promise<CopyResult> {
  const { job, context } = work;
  const place = new TargetPlace(targetPath(job.target ?? ""));
  const spec = specOf(job);
  const done = place.done(spec);
  if (done) return { bytes: done.bytes };
  // Before anything is made beside the target.
  const source = await openNamed(work, job.source, job.options.sourceFormat);
  const claim = await place.claim(spec, identityOf(job.source), context.watchMs);
  context.claimed(place.target, claim.generation);
  const alive = setInterval(() => place.touch(claim.generation), TOUCH_MS);
  const attempt = new Attempt(work, { place, claim, spec, source });
  let isDone = false;
  try {
    await attempt.run();
    isDone = true;
  } finally {
    clearInterval(alive);
    if (!isDone) place.release(claim.generation);
  }
  return { bytes: attempt.bytes };
}

class Attempt {
  readonly #work: Work;
  readonly #place: TargetPlace;
  readonly #claim: Claim;
  readonly #source: Node;
  #checkpoint: Checkpoint;

  constructor(work: Work, init: { place: TargetPlace; claim: Claim; spec: string; source: Node }) {
    this.#work = work;
    this.#place = init.place;
    this.#claim = init.claim;
    this.#source = init.source;
    const { resume, before } = init.claim;
    const source = identityOf(work.job.source);
    const { position = 0, whole } = resume ?? {};
    this.#checkpoint = {
      ...{ spec: init.spec, source, position, bytes: before, under: 0 },
      ...(whole === undefined ? {} : { whole }),
    };
  }

  /** What all attempts moved, bytes. */
  get bytes(): number {
    return this.#checkpoint.bytes;
  }

  async run(): Promise<void> {
    const { length } = this.#source;
    const { generation } = this.#claim;
    if (this.#checkpoint.whole === undefined) {
      await this.#work.context.mayTransfer();
      try {
        await this.#transfer();
      } finally {
        this.#work.context.transferred();
      }
    }
    await this.#source.close();
    this.#work.context.signal.throwIfAborted();
    this.#place.publish(generation, this.#checkpoint, length);
  }

  get #format(): string {
    const { kind, options } = this.#work.job;
    const own = kind === "convert" ? plainFormat : (this.#source.chain[0]?.driver ?? plainFormat);
    return options.targetFormat ?? own;
  }

  async #transfer(): Promise<void> {
    const target = await this.#openTarget();
    try {
      while (this.#checkpoint.position < this.#source.length) await this.#step(target);
    } finally {
      await target.close();
    }
  }

  /** The part of an earlier attempt, if it can be opened, else a new one. */
  async #openTarget(): Promise<Node> {
    const { library, engine, job } = this.#work;
    const { part, resume } = this.#claim;
    const file = { driver: "file", filename: part } as const;
    const spec = { driver: this.#format, file, discard: "unmap" } as unknown as OpenSpec;
    if (resume) {
      // What was under way when the other one ended may have left clusters that nobody refers to.
      const image = { driver: this.#format, file } as OpenSpec;
      await library.check(image, { engine, repair: "leaks" }).catch(() => undefined);
      const node = await library.openNode(spec, { engine }).catch(() => undefined);
      if (node && node.length >= this.#source.length) return node;
      await node?.close();
      this.#checkpoint = { ...this.#checkpoint, position: 0 };
    }
    const size = Math.ceil(this.#source.length / SECTOR) * SECTOR;
    const made = { ...job.options.create, driver: this.#format, size, file };
    await library.createImage(made as Parameters<Library["createImage"]>[0], { engine, overwrite: true });
    return library.openNode(spec, { engine });
  }

  /** Copies up to the next checkpoint. */
  async #step(target: Node): Promise<void> {
    const { library, job, context } = this.#work;
    const { compress, compressionLevel, sparseBytes, speedBytesPerSecond } = job.options;
    const { position } = this.#checkpoint;
    const { end, data } = await this.#reach();
    this.#place.save(this.#claim.generation, { ...this.#checkpoint, under: data });
    await library.convert(this.#source, target, {
      offset: position,
      length: end - position,
      targetIsZero: true,
      signal: context.signal,
      ...(compress === undefined ? {} : { compress }),
      ...(compressionLevel === undefined ? {} : { compressionLevel }),
      ...(sparseBytes === undefined ? {} : { sparseBytes }),
      ...(speedBytesPerSecond === undefined ? {} : { speedBytesPerSecond }),
    });
    await target.flush();
    const { bytes } = this.#checkpoint;
    this.#checkpoint = { ...this.#checkpoint, position: end, bytes: bytes + data };
    this.#place.save(this.#claim.generation, this.#checkpoint);
    context.progress(this.bytes);
  }

  /** How far the next step goes: so far that it has its share of data, or to the end. */
  async #reach(): Promise<{ end: number; data: number }> {
    const { length } = this.#source;
    const { position } = this.#checkpoint;
    const share = Math.min(MOST_STEP, Math.max(LEAST_STEP, Math.floor(length / 128)));
    let data = 0;
    for (let from = position; from < length; from += MAP_WINDOW) {
      const range = { offset: from, length: MAP_WINDOW, signal: this.#work.context.signal };
      for await (const extent of this.#source.map(range)) {
        if (!extent.data) continue;
        const rest = share - data;
        if (extent.bytes < rest) {
          data += extent.bytes;
          continue;
        }
        const end = Math.min(length, Math.ceil((extent.offset + rest) / STEP_UNIT) * STEP_UNIT);
        return { end, data: data + Math.min(extent.bytes, end - extent.offset) };
      }
    }
    return { end: length, data };
  }
}
