/**
 * The disk that `io` works on: an image, below a throw-away overlay with -s or a copy-on-read filter with -C, and a block
 * backend over it that holds the permissions to read and, unless read-only, to write. Source: behaviour of qemu-io 7.2.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alignUp } from "../../../base/ranges.ts";
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { BlockBackend } from "../../../block/graph/backend.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { BlkdebugDriver } from "../../../drivers/filter/blkdebug.ts";
import type { RuleEngine } from "../../../drivers/filter/blkdebug-rules.ts";
import { overlayFormat } from "../../../drivers/format/defaults.ts";
import { createImageIn } from "../../../api/open.ts";
import type { DriveAccount } from "../../../machine/board/account.ts";
import type { Node } from "../../../node.ts";
import { parseKeyval } from "../../../wire/qapi/index.ts";
import { describeImage, saysNotShared, openDescribed, withAio } from "../../images.ts";
import type { CacheMode } from "../../options/engine.ts";
import { told } from "../../refusal.ts";
import type { IoConsole } from "./console.ts";
import { IoFailure } from "./failure.ts";

/** How a disk is opened. */
export interface DiskChoices {
  readOnly: boolean;
  /** Writes go to an overlay that is thrown away. */
  snapshot: boolean;
  copyOnRead: boolean;
  forceShare: boolean;
  /** Discards reach the file. */
  discard: boolean;
  cache: CacheMode | undefined;
  /** Each write is flushed. */
  writeThrough: boolean;
  aio: string | undefined;
  format: string | undefined;
  /** `key=value,…` beside the name or instead of it. */
  options: string | undefined;
}

/** The choices of a command line without options. */
export function defaultChoices(): DiskChoices {
  return {
    readOnly: false,
    snapshot: false,
    copyOnRead: false,
    forceShare: false,
    discard: true,
    cache: undefined,
    writeThrough: false,
    aio: undefined,
    format: undefined,
    options: undefined,
  };
}

/** An open disk. */
export interface Disk {
  readonly backend: BlockBackend;
  /** The image itself, below a filter. */
  readonly node: BlockNode;
  /** Counts the requests that are left to themselves. */
  readonly account?: DriveAccount | undefined;
  close(): Promise<void>;
}

/** The rules of the first blkdebug below a node. */
export function rulesBelow(top: BlockNode): RuleEngine | undefined {
  for (let node: BlockNode | undefined = top; node; node = node.primary?.node)
    if (node.driver instanceof BlkdebugDriver) return node.driver.rules;
  return undefined;
}

/** Opens a disk. Throws IoFailure `can't open device x: …`; then nothing stays open. */
export async function openDisk(
  verb: IoConsole,
  name: string | undefined,
  choices: DiskChoices,
): Promise<Disk> {
  const opened: Node[] = [];
  const close = async (): Promise<void> => {
    for (const node of opened.splice(0).reverse()) await node.close();
  };
  try {
    return await openLayers(verb, { name, choices, opened, close });
  } catch (error) {
    await close().catch(() => undefined);
    if (verb.signal.aborted || error instanceof IoFailure) throw error;
    const what = name === undefined ? "can't open" : `can't open device ${name}`;
    throw new IoFailure(`${what}: ${told(error)}`, "note");
  }
}

interface Opening {
  name: string | undefined;
  choices: DiskChoices;
  /** What was opened, from the bottom up. */
  opened: Node[];
  close: () => Promise<void>;
}

async function openLayers(verb: IoConsole, { name, choices, opened, close }: Opening): Promise<Disk> {
  const { engine } = verb;
  const open = async (spec: NodeSpec): Promise<Node> => {
    const node = await openDescribed(verb, spec);
    opened.push(node);
    return node;
  };
  const write = !choices.readOnly;
  if (choices.forceShare && write) throw new Error("force-share=on can only be used with read-only images");
  if (choices.copyOnRead && !write) throw new Error("Can't use copy-on-read on read-only device");
  const spec = await describe(verb, name, choices);
  const image = await open({
    ...spec,
    "read-only": spec["read-only"] ?? (!write || choices.snapshot),
    ...(choices.forceShare ? { "force-share": true } : {}),
    ...(choices.discard ? { discard: "unmap" as const } : {}),
    ...(choices.cache ? { cache: { ...choices.cache } } : {}),
  });
  const node = choices.snapshot ? await overlay(image, { open, readOnly: choices.readOnly }) : image;
  const top = choices.copyOnRead ? await open({ driver: "copy-on-read", file: node.name }) : node;
  const backend = new BlockBackend(engine.graph);
  backend.writeCache = !choices.writeThrough;
  const perm = Perm.consistentRead | (write ? Perm.write : 0);
  await backend.attach(top.blockNode, { perm, shared: Perm.all });
  return {
    backend,
    node: node.blockNode,
    close: async () => {
      try {
        await backend.close();
      } finally {
        await close();
      }
    },
  };
}

/** An overlay over the disk, in a file that has no name any more. */
export async function overlay(
  image: Node,
  { open, readOnly }: { open: (spec: NodeSpec) => Promise<Node>; readOnly: boolean },
): Promise<Node> {
  const directory = await mkdtemp(join(tmpdir(), "blockwright-"));
  const filename = join(directory, `overlay.${overlayFormat}`);
  try {
    const size = alignUp(image.length, SECTOR_SIZE);
    await createImageIn(image.engine, { driver: overlayFormat, file: { driver: "file", filename }, size });
    const file = { driver: "file", filename, locking: "off" };
    const backing = image.name;
    return await open({ driver: overlayFormat, file, backing, discard: "unmap", "read-only": readOnly });
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The description of an image named by a file name, by options, or by both. */
async function describe(verb: IoConsole, name: string | undefined, choices: DiskChoices): Promise<NodeSpec> {
  const { format, forceShare, readOnly, options } = choices;
  if (name === undefined) {
    const given = parseKeyval(options ?? "");
    if (given["driver"] === undefined && given["file"] === undefined && given["filename"] === undefined)
      throw new Error("Must specify either driver or file");
    if (forceShare && saysNotShared(given)) throw new IoFailure("-U conflicts with image options", "note");
    return withAio(await describeImage(verb, options ?? "", { imageOpts: true, forceShare }), choices.aio);
  }
  if (name === "json:{}") throw new Error("Must specify either driver or file");
  const { driver, ...others } = options === undefined ? {} : parseKeyval(options);
  const spec = await describeImage(verb, name, {
    format: typeof driver === "string" ? driver : format,
    options: others,
    forceShare,
    write: !readOnly,
  });
  return withAio(spec, choices.aio);
}
