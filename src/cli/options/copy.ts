/**
 * What mirror and backup share: opening the source, making and opening the target, and following the job.
 */
import type { BlockJob, Node } from "../../node.ts";
import type { CopyFlags } from "./flags.ts";

/** Starts the job between two open nodes. */
export type StartCopy = (source: Node, target: Node, signal: AbortSignal) => Promise<BlockJob>;

/** Runs one copy in the foreground; resolves with the exit status. */
export async function runCopy(
  names: { source: string; target: string },
  flags: CopyFlags,
  start: StartCopy,
): Promise<number> {
  const { Session } = await import("../foreground.ts");
  const { imageSpec, openImage, prepareTarget } = await import("../images.ts");
  const session = new Session(flags);
  const { engine, note, signal } = session;
  return session.run(async () => {
    const spec = await imageSpec(engine, { image: names.source, format: flags.sourceFormat, note });
    const opened = { ...spec, "node-name": "source", "read-only": true };
    const source = await openImage(engine, opened, signal);
    const below = source.chain.find((layer, index) => index > 0 && layer.filename !== "");
    const target = await prepareTarget(engine, {
      image: names.target,
      format: flags.targetFormat,
      size: source.length,
      force: flags.force ?? false,
      source,
      note,
      backing:
        flags.sync === "top" && below
          ? { filename: below.filename, format: flags.backingFormat ?? below.driver }
          : undefined,
    });
    session.onFailure(() => target.discard());
    const made = await openImage(engine, target.spec, signal);
    await session.follow(await start(source, made, signal));
    await made.close();
    await source.close();
  });
}
