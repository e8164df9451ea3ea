/**
 * The verb `info`: each image of a chain is opened by itself, as qemu-img does, so that a chain that is broken further down
 * is told where it breaks. Files that headers name are opened as the gate allows.
 */
import { stringifyJson } from "../../../wire/qapi/index.ts";
import { limits } from "../../../base/limits.ts";
import { openNodeIn } from "../../../api/open.ts";
import type { ImageInfo, Node, OpenSpec } from "../../../node.ts";
import { type FoundFormat, probeFormat } from "../../../block/graph/probe.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import { imageText } from "../../image-text.ts";
import { openImage } from "../../images.ts";
import { checkOutput, Refusal, notOpened } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface InfoFlags extends ImageVerbFlags {
  output: string;
  backingChain?: boolean;
}

/** One image. */
interface Described {
  info: ImageInfo;
  /** The file that holds it. */
  file: string;
}

/** Runs the verb; resolves with the exit status. */
export function info(files: readonly string[], flags: InfoFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    checkOutput(flags.output);
    const [file] = files;
    if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
    const list = await describe(verb, file, flags);
    if (flags.output === "human") verb.print(list.map(({ info }) => imageText(info)).join("\n"));
    else {
      const told = list.map((described) => described.info);
      verb.print(`${stringifyJson(flags.backingChain ? told : told[0], 4)}\n`);
    }
    return 0;
  });
}

async function describe(verb: Run, file: string, flags: InfoFlags): Promise<Described[]> {
  const list: Described[] = [];
  const seen = new Set<string>();
  const { format, imageOpts, forceShare } = flags;
  let node = await openImage(verb, file, {
    format,
    imageOpts,
    forceShare,
    backing: false,
    metadataOnly: true,
  });
  for (let below = file; ;) {
    const described = await describeOne(node);
    const { files } = verb.engine.graph.host;
    // By what the file is: a chain on itself may name it anew at every turn.
    const identity = await files.info(described.file).then(
      (found) => found.identity,
      () => described.info.filename,
    );
    if (seen.has(identity)) throw new Refusal(`Backing file '${below}' creates an infinite loop.`);
    seen.add(identity);
    list.push(described);
    const next = flags.backingChain ? described.info["full-backing-filename"] : undefined;
    if (next === undefined) {
      const lost = flags.backingChain ? described.info["backing-filename"] : undefined;
      if (lost === undefined) return list;
      throw new Refusal(
        `Could not determine absolute backing filename, but backing filename '${lost}' present`,
      );
    }
    if (list.length > limits.maxChainDepth) throw new Refusal(tooDeep);
    below = next;
    node = await openBelow(verb, described, { below, forceShare });
  }
}

const tooDeep = `Backing chain is deeper than ${limits.maxChainDepth} images (limits.maxChainDepth)`;

async function describeOne(node: Node): Promise<Described> {
  try {
    const file = node.chain[0]?.filename ?? "";
    return { file, info: await node.info() };
  } finally {
    await node.close();
  }
}

async function openBelow(
  verb: Run,
  { info: overlay, file: image }: Described,
  { below, forceShare }: { below: string; forceShare: boolean | undefined },
): Promise<Node> {
  const { engine, signal } = verb;
  try {
    const answer = await engine.graph.gate({
      kind: "backing",
      image,
      name: overlay["backing-filename"] ?? "",
      format: overlay["backing-filename-format"],
      access: "read",
    });
    if ("refuse" in answer) throw new Refusal(answer.refuse);
    const share = forceShare ? { "force-share": true } : {};
    const file = { ...(answer.allow["file"] as NodeSpec), ...share };
    const given = answer.allow.driver;
    const found: FoundFormat = given === "" ? await probeFormat(engine.graph, file) : { driver: given };
    const { driver } = found;
    const alone = engine.graph.driver(driver).supportsBacking ? { backing: null } : {};
    const spec = { ...found, file, "read-only": true, ...alone, ...share };
    return await openNodeIn(engine, spec as unknown as OpenSpec, { signal, metadataOnly: true });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refusal(notOpened(below, error));
  }
}

/** An image's description as text, in the lines of qemu-img info. */
