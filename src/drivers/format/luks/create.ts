/**
 * Making a LUKS1 volume: the file gets its length, then the header with one key slot is written; what lies behind it is
 * noise until it is written to. A detached header gets a file of its own, or is all there is to make.
 * Source: QAPI BlockdevCreateOptionsLUKS; words of QEMU 7.2, for detached headers of 9.0.
 */
import { CommandError, blockError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import type { ChildRef, CreateContext, Edge, Preallocation } from "../../../block/model/contract.ts";
import { headerStorage } from "../../../block/model/header-storage.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { parseLuksCreateOptions, payloadOffset } from "../../../crypto/luks-options.ts";
import { LuksVolume, requiredSecret } from "../../../crypto/luks.ts";

/** What making a volume takes; others may do what they like. */
const maker = { perm: Perm.write | Perm.resize, shared: Perm.all };

interface Volume {
  readonly parsed: ReturnType<typeof parseLuksCreateOptions>;
  readonly passphrase: Uint8Array;
  /** Virtual size, and what the header and its key slots take, bytes. */
  readonly size: number;
  readonly headerBytes: number;
  /** Of the payload. */
  readonly preallocation: Preallocation;
}

/** Throws in QEMU's words unless a volume can be made by these options. */
export function checkCreate({ graph }: CreateContext, options: Record<string, unknown>): Volume {
  const { file, header, preallocation: mode = "off" } = options;
  if (file === undefined && header === undefined)
    throw new CommandError("Either the parameter 'header' or 'file' must be specified");
  if (file === undefined && mode !== "off") {
    const words = "Parameter 'preallocation' requires 'file' to be specified for formatting LUKS disk";
    throw new CommandError(words);
  }
  const parsed = parseLuksCreateOptions(options);
  const passphrase = requiredSecret(graph.secrets, parsed.keySecret);
  const size = Number(options["size"] ?? 0);
  const headerBytes = payloadOffset(parsed.keyBytes);
  if (size > limits.maxImageBytes - headerBytes) {
    throw blockError("EFBIG", "create", "The requested file size is too large");
  }
  // There is no metadata beside the header.
  const preallocation = mode === "metadata" ? "off" : (mode as Preallocation);
  return { parsed, passphrase, size, headerBytes, preallocation };
}

interface Asked {
  readonly context: CreateContext;
  readonly options: Record<string, unknown>;
}

/** Creates a volume in `options.file`, its header in `options.header`. Errors in QEMU's words; options are checked before anything is written. */
export async function create(context: CreateContext, options: Record<string, unknown>): Promise<void> {
  const { file, header } = options as { file?: ChildRef; header?: ChildRef };
  const asked = { context, options };
  if (header === undefined) return withNode(asked, file, (node, volume) => createWhole(asked, node, volume));
  await withNode(asked, header, async (place, volume) => {
    if (file !== undefined) await withNode(asked, file, (payload) => setLength(payload, volume.size, volume));
    await setLength(place, volume.headerBytes, {});
    await writeHeader(asked, place, { ...volume, isDetached: true });
  });
}

/** A header with what lies behind it: for a detached one that is to be alone, nothing that it would know of. */
async function createWhole(asked: Asked, node: Edge, volume: Volume): Promise<void> {
  await setLength(node, volume.headerBytes + volume.size, volume);
  await writeHeader(asked, node, { ...volume, isDetached: asked.options["detached-header"] === true });
}

async function setLength(
  node: Edge,
  bytes: number,
  { preallocation = "off" }: Partial<Volume>,
): Promise<void> {
  await node.truncate(bytes, { exact: false, preallocation });
}

async function writeHeader(
  { context }: Asked,
  node: Edge,
  { parsed, passphrase, isDetached }: Volume & { isDetached: boolean },
): Promise<void> {
  await LuksVolume.create(context.host, headerStorage(node), { ...parsed, passphrase, isDetached });
}

/** Runs `body` on a node that is taken for it. */
async function withNode(
  { context, options }: Asked,
  ref: ChildRef | undefined,
  body: (node: Edge, volume: Volume) => Promise<void>,
): Promise<void> {
  const { graph } = context;
  const node = await graph.take(ref as ChildRef);
  try {
    const volume = checkCreate(context, options);
    await graph.withRoot(node, maker, (edge) => body(edge, volume));
  } finally {
    await graph.release(node);
  }
}
