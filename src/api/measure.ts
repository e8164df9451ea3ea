/**
 * How large an image would become, without making it: the format's own answer. Behaviour of qemu-img measure 7.2.
 */
import { CommandError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { DriverType, MeasureResult } from "../block/model/contract.ts";
import { portableDrivers } from "../drivers/index.ts";
import type { Engine } from "../machine/engine.ts";
import type { Node } from "./node.ts";
import type { CreateImageSpec } from "./open.ts";
import { callOptions, checkCreateSpec, checkLength, optionsOf } from "./options.ts";
import type { Preallocation } from "../block/model/contract.ts";

export type { MeasureResult } from "../block/model/contract.ts";

/** What is to be measured. */
export interface MeasureOptions {
  /** A format of Blockwright's own, or of a driver that the engine was given. */
  format: CreateImageSpec["driver"] | (string & {});
  /** The disk that shall be copied; its length counts. */
  source?: Node;
  /** Whose drivers are asked; needed only without a source, for formats of other drivers. */
  engine?: Engine;
  /** Length of the disk without a source, bytes. */
  bytes?: number;
  /** Options that createImage() would take (wire names); those below are short for some of them. */
  options?: Readonly<Record<string, unknown>>;
  /** The options of LUKS (wire names): of a luks target, or of a qcow2 one that shall be encrypted by it. */
  encrypt?: Readonly<Record<string, unknown>>;
  /** qcow2: default 65536. */
  clusterSize?: number;
  /** qcow2: default 16. */
  refcountBits?: number;
  extendedL2?: boolean;
  /** qcow2: default 1.1. */
  compat?: "0.10" | "1.1";
  /** The image will have a backing file: then all of the source may have to be stored. */
  backing?: boolean;
  preallocation?: Preallocation;
  signal?: AbortSignal;
}

const checkOptions = optionsOf<MeasureOptions>({
  ...callOptions,
  format: "str",
  source: "Node",
  engine: "Engine",
  bytes: "Length",
  options: "Object",
  encrypt: "Object",
  clusterSize: "int",
  refcountBits: "int",
  extendedL2: "bool",
  compat: "Compat",
  backing: "bool",
  preallocation: "PreallocMode",
});

/** Measures. Throws CommandError where there is no such format, BlockError EINVAL in QEMU's words. */
export async function measure(options: MeasureOptions): Promise<MeasureResult> {
  checkOptions(options);
  const { source, format, signal } = options;
  signal?.throwIfAborted();
  const bytes = source?.length ?? options.bytes ?? 0;
  checkLength(Math.min(bytes, limits.maxImageBytes), "measure");
  const type = formatOf(options);
  if (type) checkCreateSpec({ driver: format, file: "", size: 0, ...creation(options) }, driversOf(options));
  if (!type?.measure)
    throw new CommandError(`Format driver '${format}' does not support size measurement`, {
      code: "ENOTSUP",
    });
  const result = await type.measure({
    options: creation(options),
    bytes,
    ...(source ? { source: source.blockNode } : {}),
    ...(signal ? { signal } : {}),
  });
  // What is too large for a format is told by its driver; what is too large to be counted, here.
  checkLength(bytes, "measure");
  return result;
}

function driversOf({ source, engine = source?.engine }: MeasureOptions): readonly DriverType[] {
  return [...(engine?.graph.drivers ?? []), ...portableDrivers];
}

function formatOf(options: MeasureOptions): DriverType | undefined {
  return driversOf(options).find(({ name }) => name === options.format);
}

/** The options as createImage() has them. Only the key slots' own ones stand beside each other where the whole is a volume. */
function creation(given: MeasureOptions): Record<string, unknown> {
  const short: Record<string, unknown> = {
    "cluster-size": given.clusterSize,
    "refcount-bits": given.refcountBits,
    "extended-l2": given.extendedL2,
    version: given.compat === undefined ? undefined : versions[given.compat],
    "backing-file": given.backing ? "" : undefined,
    preallocation: given.preallocation,
  };
  const isVolume = formatOf(given)?.createOptions?.some(
    ({ wire, isSecret }) => isSecret && !wire?.includes("."),
  );
  const encrypt = isVolume ? { ...given.encrypt } : given.encrypt && { encrypt: given.encrypt };
  return {
    ...Object.fromEntries(Object.entries(short).filter(([, value]) => value !== undefined)),
    ...encrypt,
    ...given.options,
  };
}

const versions = { "0.10": "v2", "1.1": "v3" };
