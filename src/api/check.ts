/**
 * Checking images for library callers and the command line: what `qemu-img check` finds and repairs.
 */
import { closing } from "../base/lease.ts";
import { blockError } from "../base/errors.ts";
import type { DriverType, ImageCheck, NodeSpec } from "../block/model/contract.ts";
import type { Engine } from "../machine/engine.ts";
import { type InEngine, Node, releaseIdle } from "./node.ts";
import type { OpenSpec } from "./specs.ts";
import { checkNodeSpec, imageOptions, optionsOf } from "./options.ts";

/** Options of check(). */
export interface CheckOptions {
  /** leaks: frees what nothing uses; all: mends errors too. Default: nothing is written. */
  repair?: "leaks" | "all";
  /** Told of each problem, in QEMU's words. */
  onMessage?: (text: string) => void;
  /** Ends the check between two tables; what was repaired by then stays so. */
  signal?: AbortSignal;
}

/**
 * What a check found. Counts save `imageEndOffset` and `clusterSize` (bytes). With a repair, `corruptions` and `leaks` are what a second look
 * still found.
 */
export type CheckReport = Readonly<ImageCheck>;

const checkOptions = optionsOf<CheckOptions & InEngine>({
  ...imageOptions,
  repair: "Repair",
  onMessage: "Function",
});

/**
 * Checks the image that `spec` describes, which must open (its backing file too). Throws BlockError ENOTSUP for formats
 * without a check, the errors of opening, EIO for damage that this kind of repair can't mend.
 */
export async function checkIn(
  engine: Engine,
  spec: OpenSpec,
  options: CheckOptions = {},
): Promise<CheckReport> {
  const { graph } = engine;
  checkOptions(options);
  checkNodeSpec(spec, graph.drivers);
  const { repair, signal } = options;
  signal?.throwIfAborted();
  const described = spec as NodeSpec;
  await releaseIdle(engine);
  const type = graph.driver(described.driver);
  await openOnce(engine, described, type);
  if (!type.check) throw blockError("ENOTSUP", "check", `No check for format '${type.name}'`);
  const context = { graph, host: graph.host, ...(signal ? { signal } : {}) };
  const run = (fix: { leaks: boolean; errors: boolean }): Promise<ImageCheck> =>
    type.check!(context, {
      file: storage(described, fix.leaks || fix.errors),
      fix,
      message: (text) => options.onMessage?.(text),
    });
  const first = await run({ leaks: repair !== undefined, errors: repair === "all" });
  if (first.corruptionsFixed + first.leaksFixed === 0) return first;
  const { corruptionsFixed, leaksFixed } = first;
  return { ...(await run({ leaks: false, errors: false })), corruptionsFixed, leaksFixed };
}

/** Whether the image opens is its drivers' business: the errors are theirs, save for what the check will name itself. */
async function openOnce(engine: Engine, spec: NodeSpec, type: DriverType): Promise<void> {
  try {
    const node = await engine.graph.open({ ...spec, "read-only": true });
    await closing(
      async () => (await Node.attach(engine, node)).close(),
      () => engine.graph.release(node),
    );
  } catch (error) {
    if (type.isForCheck?.(error) !== true) throw error;
  }
}

/** The file that an image's description names, with the options that it would inherit. */
function storage(spec: NodeSpec, write: boolean): NodeSpec | string {
  const file = spec["file"];
  if (typeof file === "string") return file;
  const inherited = {
    "read-only": !write,
    ...(spec["force-share"] ? { "force-share": true } : {}),
    ...(spec.cache ? { cache: spec.cache } : {}),
  };
  return { ...inherited, ...(file as NodeSpec) };
}
