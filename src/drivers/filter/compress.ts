/**
 * compress: what is written through it is stored compressed, in whole clusters of the format below.
 * Source: QAPI BlockdevDriver `compress`; behaviour and words of QEMU 7.2.
 */
import type { Answer } from "../../base/answer.ts";
import { storesCompressed } from "../../block/model/chain.ts";
import {
  type BlockLimits,
  type DriverType,
  Req,
  type RequestFlags,
  Role,
} from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import { nodeOf } from "../../block/model/node.ts";
import { childOption, optionError } from "../../block/model/options.ts";

class CompressDriver extends FilterDriver {
  /** Requests are padded to whole clusters, as compressing takes them. */
  limits(): Partial<BlockLimits> {
    const { clusterSize = 0 } = this.getInfo() ?? {};
    return clusterSize > 0 ? { requestAlignment: clusterSize } : {};
  }

  override pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return this.below.pwrite(offset, buffer, flags | Req.compressed);
  }
}

/** Options: `file`. Errors: ENOTSUP's words for a format that does not compress. */
export const compress: DriverType = {
  name: "compress",
  staysAsOpened: true,
  kind: "filter",
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.filtered | Role.primary);
    const below = nodeOf(file.node);
    if (!storesCompressed(below))
      throw optionError(`Compression is not supported for underlying format: ${below.type.name}`);
    return new CompressDriver(file);
  },
};
