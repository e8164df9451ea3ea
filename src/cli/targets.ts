/**
 * Targets of jobs: made where they are missing, and never overwritten unless that was asked for.
 */
import { CommandError, errnoOf } from "../base/errors.ts";
import type { Host } from "../base/host.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { findDriver } from "../block/model/options.ts";
import { plainFormat } from "../drivers/format/defaults.ts";
import { createImageIn } from "../api/open.ts";
import type { CreateImageSpec, Engine, Node } from "../node.ts";
import { newStorage } from "../block/graph/storage-name.ts";
import { describeImage } from "./images.ts";
import type { Opener } from "./names.ts";

/** What a target shall be. */
export interface TargetArgument {
  /** File name or `json:{…}`. */
  image: string;
  /** Format of a target that is made. */
  format: string;
  /** Virtual size, bytes. */
  size: number;
  /** Replace a file that exists. */
  force: boolean;
  source: Node;
  /** It was made before, by work that goes on: it is taken as it stands. */
  isMade?: boolean;
  /** Told before anything is made. */
  making?: () => Promise<void> | undefined;
  /** The backing file that its header shall name. */
  backing?: { filename: string; format: string } | undefined;
}

/** A target that can be opened. */
export interface Target {
  spec: NodeSpec;
  /** Removes the file, if this program made it. */
  discard(): Promise<void>;
}

/** Makes the target if it is missing (or `force` says so) and describes it. Throws EEXIST in plain words. */
export async function prepareTarget(opener: Opener, target: TargetArgument): Promise<Target> {
  const { engine } = opener;
  const { files } = engine.graph.host;
  const given = target.image.startsWith("json:") ? await describeImage(opener, target.image, {}) : undefined;
  const storage = given ? undefined : newStorage(engine.graph, target.image);
  const filename = given ? innermostFile(given) : storage?.filename;
  const format = given ? outermostFormat(engine, given) : target.format;
  const isMade = target.isMade ?? false;
  const exists = await isTaken(engine, filename, given ?? storage!.file);
  if (exists && !target.force && !isMade)
    throw new CommandError(`'${filename ?? target.image}' exists; --force writes over it`);
  if (filename !== undefined && exists) await refuseOwnSource(engine, target.source, filename);
  // What json: describes is taken as it stands; a plain file is made anew.
  await target.making?.();
  if (!isMade && (storage || (filename !== undefined && !exists))) {
    const file = storage?.file ?? { driver: "file", filename };
    await createImageIn(engine, creation(engine, target, { file, format }), { overwrite: target.force });
  }
  const spec = given ?? { driver: format, file: storage!.file };
  return {
    spec: { discard: "unmap", ...spec, "node-name": "target" },
    discard: async () => {
      if (filename !== undefined && !exists) await files.remove(filename).catch(() => undefined);
    },
  };
}

/** Whether there is something already; what is neither a file nor in a store is. */
async function isTaken({ graph }: Engine, filename: string | undefined, file: NodeSpec): Promise<boolean> {
  if (filename !== undefined) return isThere(graph.host, filename);
  return (await findDriver(graph, file.driver)?.store?.exists(graph, file)) ?? true;
}

function creation(
  engine: Engine,
  { size, backing }: TargetArgument,
  { file, format }: { file: NodeSpec; format: string },
): CreateImageSpec {
  const type = findDriver(engine.graph, format);
  if (type?.kind !== "format" || !type.createOptions)
    throw new CommandError(`Images of format '${format}' can't be made`);
  if (backing && !type.supportsBacking)
    throw new CommandError(`Backing file not supported for file format '${format}'`);
  const named = backing ? { "backing-file": backing.filename, "backing-fmt": backing.format } : {};
  const spec = { driver: format, file, size, ...named };
  return spec as unknown as CreateImageSpec;
}

/** The file at the bottom of a description (below filters too), if it is one. */
function innermostFile(spec: NodeSpec): string | undefined {
  if (spec.driver === "file") return String(spec["filename"]);
  const below = spec["file"] ?? spec["image"];
  return typeof below === "object" && below !== null ? innermostFile(below as NodeSpec) : undefined;
}

function outermostFormat(engine: Engine, spec: NodeSpec): string {
  if (findDriver(engine.graph, spec.driver)?.kind === "format") return spec.driver;
  const below = spec["file"] ?? spec["image"];
  return typeof below === "object" && below !== null
    ? outermostFormat(engine, below as NodeSpec)
    : plainFormat;
}

async function isThere(host: Host, filename: string): Promise<boolean> {
  try {
    await host.files.info(filename);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}

/** A target that is the source, or an image below it, must not be emptied. */
async function refuseOwnSource(engine: Engine, source: Node, filename: string): Promise<void> {
  const layer = await layerIn(engine, source, filename);
  if (layer !== undefined)
    throw new CommandError(`'${filename}' belongs to the source: '${layer}' is the same file`);
}

/** The file of a disk's chain that `filename` is, under whatever name; undefined if it is none of them, or not there. */
export async function layerIn(engine: Engine, disk: Node, filename: string): Promise<string | undefined> {
  const { files } = engine.graph.host;
  const target = await files.info(filename).catch(() => undefined);
  if (!target) return undefined;
  for (const layer of disk.chain) {
    if (layer.filename === "") continue;
    const info = await files.info(layer.filename).catch(() => undefined);
    if (info?.identity === target.identity) return layer.filename;
  }
  return undefined;
}
