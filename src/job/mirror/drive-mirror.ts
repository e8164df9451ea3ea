/**
 * drive-mirror: a mirror whose target image the command makes or opens itself.
 * Source: behaviour of QEMU 7.2's qmp_drive_mirror.
 */
import { closing } from "../../base/lease.ts";
import { CommandError } from "../../base/errors.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import { jobsOf } from "../core/registry.ts";
import { type JobStartOptions, startChecked } from "./mirror.ts";
import type { MirrorJob } from "./job.ts";
import { openTargetImage } from "../core/target-image.ts";

/** drive-mirror. Throws CommandError in QEMU's words; resolves with the started job. */
export function startDriveMirror(
  graph: BlockGraph,
  args: ArgsOf<"drive-mirror">,
  options: JobStartOptions = {},
): Promise<MirrorJob> {
  return jobsOf(graph).exclusively(() => startOnImage(graph, args, options));
}

async function startOnImage(
  graph: BlockGraph,
  args: ArgsOf<"drive-mirror">,
  options: JobStartOptions,
): Promise<MirrorJob> {
  const source = graph.rootNode(args.device);
  if (args.replaces !== undefined && args["node-name"] === undefined) {
    throw new CommandError("a node-name must be provided when replacing a named node of the graph");
  }
  source.checkBlocked("mirror-source");
  const mode = args.mode ?? "absolute-paths";
  const target = await openTargetImage(graph, {
    source,
    target: args.target,
    format: args.format,
    sync: args.sync,
    mode,
    nodeName: args["node-name"],
  });
  const start = (): Promise<MirrorJob> => {
    const zeroInit = target.driver.hasZeroInit?.() ?? false;
    return startChecked(graph, args, {
      ...options,
      source,
      target,
      backingMode: mode === "existing" ? "open" : "source-chain",
      unmap: args.unmap ?? true,
      zeroTarget: args.sync === "full" && (mode === "existing" || !zeroInit),
    });
  };
  return closing(start, () => graph.release(target));
}
