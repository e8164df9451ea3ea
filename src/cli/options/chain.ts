/**
 * What stream and commit share: opening the top of a chain for writing and following the job.
 */
import type { BlockJob, Node } from "../../node.ts";
import type { ChainFlags } from "./flags.ts";

/** Runs one job on a chain in the foreground; resolves with the exit status. */
export async function runOnChain(
  image: string,
  flags: ChainFlags,
  start: (node: Node, signal: AbortSignal) => Promise<BlockJob>,
): Promise<number> {
  const { Session } = await import("../foreground.ts");
  const { imageSpec, openImage } = await import("../images.ts");
  const session = new Session(flags);
  const { engine, note, signal } = session;
  return session.run(async () => {
    const spec = await imageSpec(engine, { image, format: flags.format, note });
    const opened = { ...spec, "node-name": "image" };
    const node = await openImage(engine, opened, signal);
    await session.follow(await start(node, signal));
    await node.close();
  });
}
