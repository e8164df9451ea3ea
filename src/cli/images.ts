/**
 * Images as the command line names them: a file and a format (given or probed), or `json:{…}`, which is accepted because
 * the user typed it, never out of an image's header. Targets are made where they are missing, and never overwritten
 * unless that was asked for.
 */
import { CommandError, errnoOf } from "../base/errors.ts";
import type { Host } from "../base/host.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { probeFormat } from "../block/graph/open.ts";
import {
  type CreateImageSpec,
  type Engine,
  type Node,
  type OpenSpec,
  createImage,
  openNode,
} from "../node.ts";
import { parseOption } from "../wire/qapi/index.ts";

/** Writes a note for the user. */
export type Note = (text: string) => void;

/** What the user said of an image. */
export interface ImageArgument {
  /** File name or `json:{…}`. */
  image: string;
  format?: string | undefined;
  note: Note;
}

/** The description of an image that exists. Probes the format where none is given, and says so if it found raw. */
export async function imageSpec(engine: Engine, argument: ImageArgument): Promise<NodeSpec> {
  const { image, format, note } = argument;
  if (image.startsWith("json:")) {
    const spec = parseOption("BlockdevOptions", image.slice("json:".length), "driver") as NodeSpec;
    return format === undefined ? spec : { driver: format, file: spec };
  }
  const file: NodeSpec = { driver: "file", filename: image };
  if (format !== undefined) return { driver: format, file };
  const driver = await probeFormat(engine.graph, file);
  if (driver === "raw") {
    note(
      `WARNING: Image format was not specified for '${image}' and probing guessed raw.\n` +
        "         Automatically detecting the format is dangerous for raw images, since a guest can write the header\n" +
        "         of another format into one. Specify the 'raw' format explicitly to remove this warning.",
    );
  }
  return { driver, file };
}

/** Opens what imageSpec() or prepareTarget() described. */
export function openImage(engine: Engine, spec: NodeSpec, signal?: AbortSignal): Promise<Node> {
  return openNode(spec as OpenSpec, signal ? { engine, signal } : { engine });
}

/** What a target shall be. */
export interface TargetArgument extends ImageArgument {
  /** Format of a target that is made. */
  format: string;
  /** Virtual size, bytes. */
  size: number;
  /** Replace a file that exists. */
  force: boolean;
  source: Node;
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
export async function prepareTarget(engine: Engine, target: TargetArgument): Promise<Target> {
  const { files } = engine.graph.host;
  const given = target.image.startsWith("json:")
    ? await imageSpec(engine, { ...target, format: undefined })
    : undefined;
  const filename = given ? innermostFile(given) : target.image;
  const format = given ? outermostFormat(given) : target.format;
  const exists = filename === undefined || (await isThere(engine.graph.host, filename));
  if (exists && !target.force)
    throw new CommandError(`'${filename ?? target.image}' exists; --force writes over it`);
  if (filename !== undefined && exists) await refuseOwnSource(engine, target.source, filename);
  // What json: describes is taken as it stands; a plain file is made anew.
  if (filename !== undefined && !(given && exists))
    await createImage(creation(target, { filename, format }), { engine, overwrite: target.force });
  const spec = given ?? { driver: format, file: { driver: "file", filename } };
  return {
    spec: { discard: "unmap", ...spec, "node-name": "target" },
    discard: async () => {
      if (filename !== undefined && !exists) await files.remove(filename).catch(() => undefined);
    },
  };
}

function creation(target: TargetArgument, made: { filename: string; format: string }): CreateImageSpec {
  const file = { driver: "file", filename: made.filename } as const;
  const { size, backing } = target;
  if (made.format === "qcow2") {
    const named = backing
      ? { "backing-file": backing.filename, "backing-fmt": backing.format as "raw" | "qcow2" }
      : {};
    return { driver: "qcow2", file, size, ...named };
  }
  if (made.format !== "raw")
    throw new CommandError(`Images of format '${made.format}' can't be made: raw, qcow2`);
  if (backing) throw new CommandError("Backing file not supported for file format 'raw'");
  return { driver: "raw", file, size };
}

/** The file at the bottom of a description (below filters too), if it is one. */
function innermostFile(spec: NodeSpec): string | undefined {
  if (spec.driver === "file") return String(spec["filename"]);
  const below = spec["file"] ?? spec["image"];
  return typeof below === "object" && below !== null ? innermostFile(below as NodeSpec) : undefined;
}

function outermostFormat(spec: NodeSpec): string {
  if (spec.driver === "qcow2" || spec.driver === "raw") return spec.driver;
  const below = spec["file"] ?? spec["image"];
  return typeof below === "object" && below !== null ? outermostFormat(below as NodeSpec) : "raw";
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
