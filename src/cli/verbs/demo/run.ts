/**
 * The demo: a mirror under the policy `enospc` meets a full disk, pauses with io-status nospace, is resumed and
 * completed; then source and target are compared. On the user's own images nothing is injected unless asked for.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { mirror } from "../../../api/jobs.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import { overlayFormat, plainFormat } from "../../../drivers/format/defaults.ts";
import type { BlockJob, Engine, MapExtent, Node } from "../../../node.ts";
import { JobFollower } from "../../follow.ts";
import { describeImage, openDescribed } from "../../images.ts";
import type { Run } from "../../run.ts";
import { prepareTarget } from "../../targets.ts";
import { RateMeter } from "../../progress.ts";
import { hasColours, styled } from "../../percent.ts";
import { formatBytes } from "../../units.ts";
import { makeChain } from "./chain.ts";
import { compareDisks } from "./compare.ts";
import { MapDisplay } from "./disk-map.ts";
import type { ImageFlags } from "../../options/flags.ts";

/** Options of the demo. */
export interface DemoFlags extends ImageFlags {
  sourceFormat?: string;
  targetFormat?: string;
  force?: boolean;
  inject?: boolean;
  keep?: boolean;
}

/** How long the copy of the demo's own disk shall take, seconds. */
const SHOW_SECONDS = { terminal: 5, elsewhere: 1 };

interface Names {
  source: string;
  target: string;
}

/** One run. */
class Demo {
  readonly #flags: DemoFlags;
  readonly #own: boolean;
  readonly #display = new MapDisplay();
  readonly #jobs: JobFollower;
  readonly #run: Run;
  readonly #engine: Engine;
  readonly #colours = hasColours(process.stderr);

  constructor(flags: DemoFlags, own: boolean) {
    this.#flags = flags;
    this.#own = own;
    const pause = this.#display.inPlace ? 3 : 0.2;
    const autoResume = own || flags.inject ? { autoResume: pause } : {};
    const { gate, object = [] } = flags;
    this.#jobs = new JobFollower({ gate, object, ...autoResume }, this.#display);
    this.#run = this.#jobs.run;
    this.#engine = this.#run.engine;
  }

  /** Runs it; resolves with the exit status. */
  run(given: Names | undefined): Promise<number> {
    return this.#run.carryOut(async () => {
      if (given) return this.#copyAndCheck(given);
      const directory = mkdtempSync(join(tmpdir(), "blockwright-demo-"));
      try {
        await this.#copyAndCheck(await this.#makeImages(directory));
      } finally {
        if (this.#flags.keep) this.#say(`The images are in ${directory}.`);
        else rmSync(directory, { recursive: true, force: true });
      }
    });
  }

  #say(text: string): void {
    this.#run.tell(text);
  }

  #title(text: string): void {
    this.#say(styled(`\n${text}`, "1", this.#colours));
  }

  async #makeImages(directory: string): Promise<Names> {
    this.#title("A chain of images, made by the library: base ← mid ← top");
    const chain = await makeChain(this.#engine, directory, this.#run.signal);
    const [base = 0, mid = 0, top = 0] = chain.written.map((bytes) => bytes);
    this.#say(`  ${chain.kind}, holding this package's files, changed twice:`);
    this.#say(
      `  base.qcow2 ${formatBytes(base)}, mid.qcow2 ${formatBytes(mid)}, top.qcow2 ${formatBytes(top)} of data`,
    );
    return { source: chain.top, target: join(directory, "copy.qcow2") };
  }

  async #copyAndCheck(names: Names): Promise<void> {
    const { signal } = this.#run;
    const format = this.#own ? overlayFormat : this.#flags.sourceFormat;
    const spec = await describeImage(this.#run, names.source, { format });
    const source = await openDescribed(this.#run, { ...spec, "read-only": true });
    const prepared = await prepareTarget(this.#run, {
      image: names.target,
      format: this.#flags.targetFormat ?? (/\.(raw|img)$/.test(names.target) ? plainFormat : overlayFormat),
      size: source.length,
      force: this.#flags.force ?? false,
      source,
    });
    this.#run.onFailure(() => prepared.discard());
    const extents: MapExtent[] = [];
    for await (const extent of source.map({ signal })) extents.push(extent);
    const fault = this.#own || this.#flags.inject ? faultAt(extents) : undefined;
    const target = await openDescribed(this.#run, withFault(prepared.spec, fault));
    this.#display.show(source.length, extents);
    await this.#mirror({ source, target, extents, fault });
    await target.close();
    await source.close();
    await this.#verify({ names, spec, target: prepared.spec });
  }

  async #mirror(work: {
    source: Node;
    target: Node;
    extents: readonly MapExtent[];
    fault: number | undefined;
  }): Promise<void> {
    const { source, target, extents, fault } = work;
    this.#title("Mirror under on-target-error=enospc");
    if (fault !== undefined) this.#say(`  The target's write at offset ${fault} will find no space, once.`);
    const unsubscribe = this.#engine.graph.events.subscribe(({ event, data }) =>
      this.#say(`  ${styled(event, "35", this.#colours)} ${JSON.stringify(data)}`),
    );
    try {
      const { signal } = this.#run;
      const speedBytesPerSecond = this.#own ? this.#speed(extents) : 0;
      const job = await mirror(source, target, {
        jobId: "mirror0",
        onSourceError: "enospc",
        onTargetError: "enospc",
        // Small pieces, so that there is something to see.
        ...(this.#own ? { bufferBytes: 1024 * 1024 } : {}),
        speedBytesPerSecond,
        signal,
      });
      job.addEventListener("JOB_STATUS_CHANGE", (event) => this.#onStatus(job, event));
      await this.#jobs.follow(job);
      if (!this.#display.inPlace) this.#display.snapshot(job, new RateMeter());
    } finally {
      unsubscribe();
    }
  }

  /** Shows what query-block-jobs answers while the job stands. */
  #onStatus(job: BlockJob, event: Event): void {
    const status = (event as Event & { data: { status?: unknown } }).data.status;
    if (status === "paused" && job.ioStatus !== "ok")
      this.#say(`  query-block-jobs: ${JSON.stringify(job.queryBlock())}`);
  }

  #speed(extents: readonly MapExtent[]): number {
    const data = extents.reduce((sum, extent) => sum + (extent.data ? extent.bytes : 0), 0);
    const seconds = this.#display.inPlace ? SHOW_SECONDS.terminal : SHOW_SECONDS.elsewhere;
    return Math.ceil(data / seconds);
  }

  async #verify(work: { names: Names; spec: NodeSpec; target: NodeSpec }): Promise<void> {
    this.#title("Is the copy the same?");
    const { signal } = this.#run;
    const readOnly = { "read-only": true };
    const { "node-name": _name, ...copy } = work.target;
    await using source = await openDescribed(this.#run, { ...work.spec, ...readOnly });
    await using target = await openDescribed(this.#run, { ...copy, ...readOnly });
    const { at, read } = await compareDisks(source, target, signal);
    if (at >= 0) throw new Error(`source and target differ at offset ${at}`);
    this.#say(`  Every byte is (${formatBytes(read)} of data read on both sides, the rest are holes).`);
    this.#compareByQemu({ names: work.names, spec: work.spec, format: String(work.target.driver) });
  }

  /** A second opinion, if it is to be had. */
  #compareByQemu({ names, spec, format }: { names: Names; spec: NodeSpec; format: string }): void {
    if (names.source.startsWith("json:") || names.target.startsWith("json:")) return;
    const args = ["compare", "-U", "-f", spec.driver, "-F", format, names.source, names.target];
    const { status, stdout, error } = spawnSync("qemu-img", args, { encoding: "utf8" });
    if (error) return this.#say("  (qemu-img is not installed: no second opinion.)");
    if (status !== 0) throw new Error(`qemu-img compare: ${stdout.trim()}`);
    this.#say(`  qemu-img compare: ${stdout.trim()}`);
  }
}

/** Where a write shall fail: in the middle of the data. Undefined if there is none. */
function faultAt(extents: readonly MapExtent[]): number | undefined {
  const data = extents.filter((extent) => extent.data);
  const half = data.reduce((sum, extent) => sum + extent.bytes, 0) / 2;
  let seen = 0;
  for (const { offset, bytes } of data) {
    seen += bytes;
    if (seen > half) return offset;
  }
  return undefined;
}

/** The target, behind a filter that lets the write of one sector fail with ENOSPC, once. */
function withFault(target: NodeSpec, offset: number | undefined): NodeSpec {
  if (offset === undefined) return target;
  const { "node-name": _name, ...image } = target;
  const rule = { event: "none", iotype: "write", errno: 28, sector: Math.floor(offset / 512), once: true };
  return { driver: "blkdebug", "node-name": "target", discard: "unmap", image, "inject-error": [rule] };
}

/** npm runs its scripts in the package's folder: the user's paths count from where npm was started. */
function fromUser(name: string): string {
  const started = process.env["npm_lifecycle_event"] === "start" ? process.env["INIT_CWD"] : undefined;
  return started === undefined || name.startsWith("json:") ? name : resolve(started, name);
}

/** Runs the demo on its own images, or on the user's; resolves with the exit status. */
export function runDemo(given: Names | undefined, flags: DemoFlags): Promise<number> {
  const names = given && { source: fromUser(given.source), target: fromUser(given.target) };
  return new Demo(flags, given === undefined).run(names);
}
