/** The level at which compressed clusters are written. */
import { BlockError } from "../base/errors.ts";
import { skipFilters } from "../block/model/chain.ts";
import type { Node } from "./node.ts";

/** Levels of the compressors that formats name. */
const mostLevel: Readonly<Record<string, number>> = { zlib: 9, zstd: 22 };

/** Sets the level of compression of the target, where one is asked for. Throws EINVAL, ENOTSUP. */
export async function levelOf(
  target: Node,
  { compress = false, compressionLevel }: { readonly compress?: boolean; readonly compressionLevel?: number },
): Promise<(level: number | undefined) => void> {
  if (compressionLevel === undefined) return () => undefined;
  const refuse = (code: "EINVAL" | "ENOTSUP", message: string): never => {
    throw new BlockError({ code, op: "convert", message });
  };
  const { driver } = skipFilters(target.blockNode);
  if (!compress) refuse("EINVAL", "a level of compression goes with compressed clusters");
  if (!driver.setCompressionLevel) refuse("ENOTSUP", "this format has no levels of compression");
  const { "format-specific": specific } = await target.info();
  const { "compression-type": type = "zlib" } = (specific?.data ?? {}) as { "compression-type"?: string };
  const most = mostLevel[type] ?? 1;
  if (compressionLevel < 1 || compressionLevel > most)
    refuse("EINVAL", `the level of compression must be between 1 and ${most} for ${type}`);
  return (level) => driver.setCompressionLevel?.(level);
}
