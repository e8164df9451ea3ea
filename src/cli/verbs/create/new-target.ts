/**
 * The image that a copy makes. Where there is a file already, it is made beside that and takes its place once it is whole, so
 * that a copy that fails, or is cancelled, leaves what was there; where there is no room for both, the file is emptied first, if the
 * new one fits then. A file that this run made does not outlive its failure.
 */
import { checkNewImage } from "../../../api/open.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import { type Replacing, replaceFile } from "../../../block/model/replace-file.ts";
import type { Node } from "../../../node.ts";
import { newStorage, type NewStorage } from "../../../block/graph/storage-name.ts";
import type { CreateOptions } from "../../options/create-options.ts";
import { Refusal, told } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import { layerIn } from "../../targets.ts";
import { makeImage, worded } from "./run.ts";

/** What is to be made. */
export interface NewTarget extends Replacing {
  /** As its user named it. */
  name: string;
  options: CreateOptions;
  /** What is copied: none of their files may be the target. */
  sources: readonly Node[];
  /** What is done, for the words of a refusal: `converting raw`. */
  doing: string;
  /** Why a file of the sources is refused. */
  isSource: string;
  /** Told before anything is made. Then the image is made in its place, also where there is a file, and stays whatever fails. */
  making?: (() => Promise<void>) | undefined;
}

/** Makes the image and has `fill` fill it, under the name that it gets. Throws Refusal, and what `fill` throws. */
export async function intoNewTarget(
  verb: Run,
  target: NewTarget,
  fill: (filename: string) => Promise<void>,
): Promise<void> {
  const { name, options, doing } = target;
  const { files } = verb.engine.graph.host;
  const storage = newStorage(verb.engine.graph, name);
  const { filename } = storage;
  const { making } = target;
  if (filename === undefined && making)
    throw new Refusal(`${name}: a checkpoint takes a target that is a file, or one that is there (-n)`);
  if (filename === undefined) return inStorage(verb, target, { storage, fill });
  const existed = await files.info(filename).then(
    () => true,
    () => false,
  );
  let path = filename;
  let isMade = false;
  const make = async (as: string): Promise<void> => {
    path = as;
    isMade = false;
    await makeImage(verb, options, { file: inFile(as) });
    isMade = true;
    if (!existed && !making) verb.onFailure(() => files.remove(filename).catch(() => undefined));
    // By the user's own word, which may have a protocol, or by the path.
    await fill(as === filename ? name : as);
  };
  try {
    await refuseSources(verb, target, filename);
    // By the name that it will have, to which others in the header may lead.
    await worded(options, () => checkNewImage(verb.engine, options.spec(inFile(filename))));
    await making?.();
    await (making ? make(filename) : replaceFile(files, filename, make, target));
  } catch (error) {
    if (!isMade) throw new Refusal(`${name}: error while ${doing}: ${told(error)}`);
    if (path === filename || !(error instanceof Refusal)) throw error;
    throw new Refusal(
      error.lines.map((line) => line.replaceAll(path, name)),
      error.status,
    );
  }
}

function inFile(filename: string): NodeSpec {
  return { driver: "file", filename };
}

/** Makes the image in storage that is no file, and has `fill` fill it: in what is there, or, in a store, beside it. */
async function inStorage(
  verb: Run,
  { name, options, doing }: NewTarget,
  { storage, fill }: { storage: NewStorage; fill: (name: string) => Promise<void> },
): Promise<void> {
  const { graph } = verb.engine;
  const draft = await graph.driver(storage.file.driver).store?.draft(graph, storage.file);
  const make = async (): Promise<void> => {
    try {
      await makeImage(verb, options, draft ?? storage);
    } catch (error) {
      throw new Refusal(`${name}: error while ${doing}: ${told(error)}`);
    }
    await fill(draft?.name ?? name);
    await draft?.publish();
  };
  try {
    await make();
  } catch (error) {
    await draft?.discard().catch(() => undefined);
    throw error;
  }
}

async function refuseSources(
  { engine }: Run,
  { sources, isSource }: NewTarget,
  filename: string,
): Promise<void> {
  for (const source of sources)
    if ((await layerIn(engine, source, filename)) !== undefined) throw new Refusal(isSource);
}
