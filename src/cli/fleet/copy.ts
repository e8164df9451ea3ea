/**
 * One job, carried out: in a thread of its own, so that whatever the engine does, the queue's lock on the job is kept alive.
 *
 * Invariants: what is told of a checkpoint was flushed before; the fence is looked at before every step; the target's name is
 * given last. Source: behaviour of qemu-img convert and compare 7.2 through the library.
 */
import { realpathSync, statSync } from "node:fs";
import { plainFormat } from "../../drivers/format/defaults.ts";
import { type FleetJob, FleetError, specOf } from "../../fleet/jobs.ts";
import type { CreateImageSpec, Node, OpenSpec } from "../../node.ts";
import { cutOf } from "./cut.ts";
import { FileMedium, type Make, StoreMedium } from "./medium.ts";
import { identityOf, isPath, openNamed, refuseChanged, refuseOwn } from "./names.ts";
import { Pace } from "./pace.ts";
import { PartsCopy } from "./parts.ts";
import { type Checkpoint, type Claim, FencedError, TargetPlace } from "./place.ts";
import { copyRange, reach, shareOf, STEP_UNIT } from "./steps.ts";
import { verify } from "./verify.ts";
import type { CopyContext, CopyResult, Work } from "./work.ts";

const SECTOR = 512;
const ARENA_BYTES = 24 * 2 ** 20;
const TOUCH_MS = 1000;

/** Carries a job out. Rejects with what failed; FencedError and ElsewhereError where another worker has it. */
export async function carryOut(job: FleetJob, context: CopyContext): Promise<CopyResult> {
  const library = await import("../../node.ts");
  const engine = library.createEngine({
    warnUnflushed: false,
    arenaBytes: ARENA_BYTES,
    gate: library.fileGate("local", library.nodeHost()),
  });
  try {
    const work = { library, engine, job, context, pace: new Pace() };
    return await (job.kind === "verify" ? verify(work) : copy(work));
  } finally {
    await engine.close();
  }
}

/** The file that is to be: through a link, what that leads to. */
function targetPath(name: string): string {
  const path = name.replace(/^file:(?:\/\/)?/, "");
  if (!isPath(path)) throw new FleetError(`the target '${name}' is no file`);
  const info = statSync(path, { throwIfNoEntry: false });
  if (info && !info.isFile()) throw new FleetError(`the target '${name}' is no regular file`);
  return info ? realpathSync(path) : path;
}

/** The format of the image that is made. */
function formatOf({ kind, options }: FleetJob, source: Node): string {
  const own = kind === "convert" ? plainFormat : (source.chain[0]?.driver ?? plainFormat);
  return options.targetFormat ?? own;
}

/** Makes the empty image in some storage. */
function makerOf({ library, engine, job }: Work, source: Node): Make {
  const size = Math.ceil(source.length / SECTOR) * SECTOR;
  return async (file) => {
    const made = { ...job.options.create, driver: formatOf(job, source), size, file };
    await library.createImage(made as unknown as CreateImageSpec, { engine, overwrite: true });
  };
}

async function copy(work: Work): Promise<CopyResult> {
  const { job } = work;
  const target = job.target ?? "";
  const isFile = isPath(target) || /^file:/i.test(target);
  await using source = await openNamed(work, job.source, job.options.sourceFormat);
  refuseOwn(work, source, isFile ? targetPath(target) : target);
  const format = formatOf(job, source);
  const isPlain = format === plainFormat;
  const store = isFile ? undefined : await StoreMedium.open(work, target);
  const cut = cutOf(job, { length: source.length, chunks: await store?.chunks(), isPlain });
  if (!store && cut.partBytes >= source.length) return await copyToFile(work, source);
  const medium = store ?? new FileMedium(work, targetPath(target));
  return await new PartsCopy({ work, source, medium, format, cut, make: makerOf(work, source) }).run();
}

async function copyToFile(work: Work, source: Node): Promise<CopyResult> {
  const { job, context } = work;
  const place = new TargetPlace(targetPath(job.target ?? ""));
  const spec = specOf(job);
  const done = place.done(spec);
  if (done) return { bytes: done.bytes };
  const identity = await identityOf(source);
  const claim = await place.claim(spec, identity, context.watchMs);
  if (claim.done) return { bytes: claim.done.bytes };
  context.claimed(place.target, claim.generation);
  const alive = setInterval(() => place.touch(claim.generation), TOUCH_MS);
  const attempt = new Attempt(work, { place, claim, spec, source, identity });
  try {
    await attempt.run();
  } catch (error) {
    // Of a part that was begun after another one had looked for it nobody else knows.
    if (context.isGivenUp(error) || error instanceof FencedError) place.discard(claim.generation);
    else place.release(claim.generation);
    throw error;
  } finally {
    clearInterval(alive);
  }
  return { bytes: attempt.bytes };
}

class Attempt {
  readonly #work: Work;
  readonly #place: TargetPlace;
  readonly #claim: Claim;
  readonly #source: Node;
  #checkpoint: Checkpoint;

  constructor(
    work: Work,
    init: { place: TargetPlace; claim: Claim; spec: string; source: Node; identity: string },
  ) {
    this.#work = work;
    this.#place = init.place;
    this.#claim = init.claim;
    this.#source = init.source;
    const { resume, before } = init.claim;
    const source = init.identity;
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
    await refuseChanged(this.#source, this.#checkpoint.source);
    await this.#source.close();
    this.#work.context.signal.throwIfAborted();
    this.#place.publish(generation, this.#checkpoint, length);
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
    const format = formatOf(job, this.#source);
    const spec = { driver: format, file, discard: "unmap" } as unknown as OpenSpec;
    if (resume) {
      // What was under way when the other one ended may have left clusters that nobody refers to.
      const image = { driver: format, file } as OpenSpec;
      await library.check(image, { engine, repair: "leaks" }).catch(() => undefined);
      const node = await library.openNode(spec, { engine }).catch(() => undefined);
      if (node && node.length >= this.#source.length) return node;
      await node?.close();
      this.#checkpoint = { ...this.#checkpoint, position: 0 };
      this.#place.save(this.#claim.generation, this.#checkpoint);
    }
    await makerOf(this.#work, this.#source)(file);
    return library.openNode(spec, { engine });
  }

  /** Copies up to the next checkpoint. */
  async #step(target: Node): Promise<void> {
    const { context } = this.#work;
    const { signal } = context;
    const { position, bytes } = this.#checkpoint;
    const { length } = this.#source;
    const measure = { share: shareOf(length), unit: STEP_UNIT, signal };
    const { end, data } = await reach(this.#source, { position, limit: length }, measure);
    this.#place.save(this.#claim.generation, { ...this.#checkpoint, under: data });
    const range = { offset: position, length: end - position, data };
    await copyRange({ ...this.#work, signal }, { source: this.#source, target }, range);
    this.#checkpoint = { ...this.#checkpoint, position: end, bytes: bytes + data };
    this.#place.save(this.#claim.generation, this.#checkpoint);
    context.progress({ bytes: this.bytes, kept: end });
  }
}
