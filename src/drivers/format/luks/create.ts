/**
 * Making a LUKS1 volume: the file gets its length, then the header with one key slot is written; what lies behind it is
 * noise until it is written to. Source: QAPI BlockdevCreateOptionsLUKS; words of QEMU 7.2.
 */
import { BlockError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import type { ChildRef, CreateContext, Preallocation } from "../../../block/model/contract.ts";
import { headerStorage } from "../../../block/model/header-storage.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { parseLuksCreateOptions, payloadOffset } from "../../../crypto/luks-options.ts";
import { LuksVolume, requiredSecret } from "../../../crypto/luks.ts";

/** What making a volume takes; others may do what they like. */
const maker = { perm: Perm.write | Perm.resize, shared: Perm.all };

interface Volume {
  readonly parsed: ReturnType<typeof parseLuksCreateOptions>;
  readonly passphrase: Uint8Array;
  /** Virtual size and where the payload begins, bytes. */
  readonly size: number;
  readonly offset: number;
}

/** Throws in QEMU's words unless a volume can be made by these options. */
export function checkCreate({ graph }: CreateContext, options: Record<string, unknown>): Volume {
  const parsed = parseLuksCreateOptions(options);
  const passphrase = requiredSecret(graph.secrets, parsed.keySecret);
  const size = Number(options["size"] ?? 0);
  const offset = payloadOffset(parsed.keyBytes);
  if (size > limits.maxImageBytes - offset) {
    throw new BlockError({ code: "EFBIG", op: "create", message: "The requested file size is too large" });
  }
  return { parsed, passphrase, size, offset };
}

/** Creates a volume in `options.file`. Errors in QEMU's words; options are checked before anything is written. */
export async function create(context: CreateContext, options: Record<string, unknown>): Promise<void> {
  const { graph, host } = context;
  const mode = (options["preallocation"] as Preallocation | undefined) ?? "off";
  // There is no metadata beside the header.
  const preallocation = mode === "metadata" ? "off" : mode;
  const node = await graph.take(options["file"] as ChildRef);
  try {
    const { parsed, passphrase, size, offset } = checkCreate(context, options);
    await graph.withRoot(node, maker, async (file) => {
      await file.truncate(offset + size, { exact: false, preallocation });
      await LuksVolume.create(host, headerStorage(file), { ...parsed, passphrase });
    });
  } finally {
    await graph.release(node);
  }
}
