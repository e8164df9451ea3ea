/**
 * The image that `nbd` serves: as its flags say, below a throw-away overlay with -s, from an offset on with -o, or as an internal
 * snapshot shows it with -l. Source: behaviour and words of qemu-nbd 7.2.
 */
import { messageOf } from "../../../base/errors.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import type { Node } from "../../../node.ts";
import { valuesOf } from "../../../wire/qapi/option-types.ts";
import { describeImage, openDescribed, withAio } from "../../images.ts";
import { cacheMode } from "../../options/engine.ts";
import { loadSnapshot, snapshotParameter } from "../../options/snapshot-param.ts";
import { Refusal, told } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import { overlay } from "../io/disk.ts";
import type { NbdFlags } from "./flags.ts";

/** What is served. */
export interface Opened {
  readonly node: Node;
  readonly writable: boolean;
  /** Each write is flushed. */
  readonly writethrough: boolean;
  close(): Promise<void>;
}

const detections = valuesOf("BlockdevDetectZeroesOptions");

/** The flags, as the options of a node. Throws Refusal in qemu-nbd's words. */
function nodeOptions(flags: NbdFlags): Partial<NodeSpec> {
  const { discard: [discard] = [], aio: [aio] = [], cache: [cacheWord] = [] } = flags;
  const detectZeroes = flags.detectZeroes as (typeof detections)[number] | undefined;
  const mode = flags.nocache ? "none" : cacheWord;
  let cache;
  try {
    cache = mode === undefined ? undefined : cacheMode(mode, "cache");
  } catch {
    throw new Refusal(`Invalid cache mode \`${mode}'`);
  }
  if (discard !== undefined && !/^(ignore|off|unmap|on)$/.test(discard))
    throw new Refusal(`Invalid discard mode \`${discard}'`);
  if (aio !== undefined && !valuesOf("BlockdevAioOptions").includes(aio as never))
    throw new Refusal(`Invalid aio mode '${aio}'`);
  if (detectZeroes !== undefined && !detections.includes(detectZeroes))
    throw new Refusal(`Failed to parse detect_zeroes mode: invalid parameter value: ${detectZeroes}`);
  const unmap = discard === "unmap" || discard === "on";
  if (detectZeroes === "unmap" && !unmap)
    throw new Refusal(
      "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
    );
  return {
    ...(cache ? { cache: { ...cache } } : {}),
    ...(unmap ? { discard: "unmap" as const } : {}),
    ...(detectZeroes === undefined ? {} : { "detect-zeroes": detectZeroes }),
  };
}

function offsetOf({ offset = "0" }: NbdFlags): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(offset) ? Number(offset) : NaN;
  if (!Number.isSafeInteger(value)) throw new Refusal(`Invalid offset '${offset}'`);
  return value;
}

/** Opens it. Throws Refusal. */
export async function openExported(run: Run, file: string, flags: NbdFlags): Promise<Opened> {
  const more = nodeOptions(flags);
  const offset = offsetOf(flags);
  const snapshot = flags.loadSnapshot === undefined ? undefined : snapshotParameter(flags.loadSnapshot);
  const writable = !flags.readOnly && snapshot === undefined;
  const opened: Node[] = [];
  const open = async (spec: NodeSpec): Promise<Node> => {
    const node = await openDescribed(run, spec);
    opened.push(node);
    return node;
  };
  const how = { format: flags.format, imageOpts: flags.imageOpts, write: writable };
  let node = await blkNewOpen(file, async () => {
    const spec = withAio(await describeImage(run, file, how), flags.aio?.[0]);
    const readOnly = !writable || (flags.snapshot ?? false);
    const image = await open({ ...spec, ...more, "read-only": spec["read-only"] ?? readOnly });
    return flags.snapshot ? overlay(image, { open, readOnly: false }) : image;
  });
  if (snapshot !== undefined) await loadSnapshot(node, snapshot);
  if (offset > 0) {
    const from = node.name;
    const part = { driver: plainFormat, offset, file: from, "read-only": !writable, ...more };
    node = await open(part).catch((error: unknown) => {
      throw new Refusal(messageOf(error));
    });
  }
  return {
    node,
    writable: writable && !node.blockNode.readOnly,
    writethrough: flags.cache?.[0] === "writethrough" || flags.cache?.[0] === "directsync",
    close: async () => {
      for (const one of opened.splice(0).toReversed()) await one.close();
    },
  };
}

async function blkNewOpen<T>(file: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(`Failed to blk_new_open '${file}': ${told(error)}`);
  }
}
