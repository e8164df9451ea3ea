/**
 * `blockwright info FILE`: what an image is, in the words of qemu-img info.
 */
import { type Command, Option } from "commander";
import type { ImageInfo, Node } from "../../node.ts";
import { bucketOf } from "../../block/filename.ts";
import { type ImageFlags, gateFlag } from "../flags.ts";
import { formatBytes } from "../units.ts";

interface InfoFlags extends ImageFlags {
  format?: string;
  output: "human" | "json";
  backingChain?: boolean;
}

/** Adds the verb. */
export function addInfo(program: Command): void {
  program
    .command("info")
    .description("show format, sizes and backing file of an image")
    .argument("<image>", "image file, or json:{…} as for --blockdev")
    .option("-f, --format <format>", "format of the image; default: probed")
    .addOption(new Option("--output <kind>", "how to print").choices(["human", "json"]).default("human"))
    .option("--backing-chain", "show the whole backing chain")
    .addOption(gateFlag())
    .action(async (image: string, flags: InfoFlags) => {
      process.exitCode = await info(image, flags);
    });
}

async function info(image: string, flags: InfoFlags): Promise<number> {
  const { createEngine, fileGate, nodeHost } = await import("../../node.ts");
  const { imageSpec, openImage } = await import("../images.ts");
  const { keepAlive } = await import("../../platform/node/clock.ts");
  const alive = keepAlive();
  // As a program that SIGPIPE ends: who reads no more wants no message.
  process.stdout.on("error", () => process.exit(1));
  try {
    await using engine = createEngine({ gate: fileGate(flags.gate, nodeHost()) });
    const spec = await imageSpec(engine, { image, format: flags.format, note: () => undefined });
    const opened = {
      ...spec,
      "read-only": true,
      ...(flags.backingChain ? {} : withoutBacking(engine, spec.driver)),
    };
    await using node = await openImage(engine, opened);
    print(await infos(node, flags.backingChain ?? false), flags);
    return 0;
  } catch (error) {
    process.stderr.write(`blockwright: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    alive();
  }
}

function withoutBacking(engine: Node["engine"], driver: string): object {
  return engine.graph.driver(driver).supportsBacking ? { backing: null } : {};
}

/** The image and, if asked for, those below it. */
async function infos(node: Node, chain: boolean): Promise<ImageInfo[]> {
  const list: ImageInfo[] = [];
  let next: ImageInfo | undefined = await node.info({ backingChain: chain });
  while (next) {
    const { "backing-image": below, ...own }: ImageInfo = next;
    list.push(own);
    next = below;
  }
  return list;
}

function print(list: readonly ImageInfo[], flags: InfoFlags): void {
  if (flags.output === "json")
    process.stdout.write(`${JSON.stringify(flags.backingChain ? list : list[0], undefined, 4)}\n`);
  else process.stdout.write(list.map((item) => humanInfo(item)).join("\n"));
}

/** An image's description as text, in the lines of qemu-img info. */
function humanInfo(info: ImageInfo): string {
  const size = info["virtual-size"];
  const lines = [
    `image: ${info.filename}`,
    `file format: ${info.format}`,
    `virtual size: ${formatBytes(size)} (${size} bytes)`,
    `disk size: ${info["actual-size"] === undefined ? "unavailable" : formatBytes(info["actual-size"])}`,
  ];
  if (info["cluster-size"] !== undefined) lines.push(`cluster_size: ${info["cluster-size"]}`);
  if (info["dirty-flag"]) lines.push("cleanly shut down: no");
  const backing = info["backing-filename"];
  const full = info["full-backing-filename"];
  if (backing !== undefined) {
    const actual = full === undefined || full === backing ? "" : ` (actual path: ${full})`;
    lines.push(`backing file: ${backing}${actual}`);
  }
  const backingFormat = info["backing-filename-format"];
  if (backingFormat !== undefined) lines.push(`backing file format: ${backingFormat}`);
  const specific = info["format-specific"];
  if (specific) lines.push(...specificLines(specific.data));
  return `${lines.join("\n")}\n`;
}

/** What only one format says, as lines. */
export function specificLines(data: object): string[] {
  return ["Format specific information:", ...treeLines(data, 1)];
}

/** Nested values as qemu-img prints them; the members of an object in the order of QEMU's dictionaries. */
function treeLines(value: object, depth: number): string[] {
  const isList = Array.isArray(value);
  const entries = Object.entries(value as Record<string, unknown>);
  const rows = isList ? entries : entries.toSorted(([a], [b]) => bucketOf(a) - bucketOf(b));
  return rows.flatMap(([key, item]) => {
    const name = `${"    ".repeat(depth)}${isList ? `[${key}]` : key.replaceAll("-", " ")}:`;
    if (typeof item === "object" && item !== null) return [name, ...treeLines(item, depth + 1)];
    return [`${name} ${typeof item === "string" ? item : JSON.stringify(item)}`];
  });
}
