/**
 * The format of an image that somebody hands in, by its first bytes.
 */
import { probeAny } from "../block/graph/probe.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { guessedFormat } from "../block/model/spec.ts";
import type { Engine } from "../machine/engine.ts";
import { type CallOptions, type InEngine, releaseIdle } from "./node.ts";
import type { OpenSpec } from "./specs.ts";
import { checkNodeSpec, imageOptions, optionsOf } from "./options.ts";

/** What probe() found. */
export interface ProbeResult {
  /** `qcow2`, `luks` …, also of formats that can't be opened here: `vmdk`, `vdi`, `vhdx`, `vpc` …; `raw`: nothing claims the file. */
  format: string;
  /** Whether there is a driver for it. */
  supported: boolean;
  /** It is `raw` by elimination: whoever writes into such a disk may make it look like another format. */
  guessed: boolean;
  /**
   * How to open the image, for openNode(), if there is a driver. A raw disk that was guessed is opened so that no write makes its
   * first sector another format's header (EPERM), as QEMU does; `{ driver: "raw", file }` of one's own is without that guard.
   */
  spec?: OpenSpec;
}

const checkOptions = optionsOf<CallOptions & InEngine>(imageOptions);

/** Looks at the first bytes of a file (a protocol's description); nothing that it names is opened. */
export async function probeIn(
  engine: Engine,
  file: OpenSpec,
  options: CallOptions = {},
): Promise<ProbeResult> {
  checkOptions(options);
  checkNodeSpec(file, engine.graph.drivers);
  const { signal } = options;
  signal?.throwIfAborted();
  await releaseIdle(engine);
  const found = await probeAny(engine.graph, file as NodeSpec);
  if ("foreign" in found) return { format: found.foreign, supported: false, guessed: false };
  const spec = { ...found, file } as unknown as OpenSpec;
  return { format: found.driver, supported: true, guessed: found[guessedFormat] ?? false, spec };
}
