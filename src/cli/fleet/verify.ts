/**
 * Jobs that write nothing: two disks are compared, or one is checked and read.
 */
import { FleetError } from "../../fleet/jobs.ts";
import type { Node } from "../../node.ts";
import { openNamed } from "./names.ts";
import type { CopyResult, Work } from "./work.ts";

const MiB = 2 ** 20;

/** Compares source and target, or, with no target, checks the source and reads its data. Throws FleetError where they differ. */
export async function verify(work: Work): Promise<CopyResult> {
  const { library, job, context } = work;
  const { sourceFormat, targetFormat } = job.options;
  await context.mayTransfer();
  await using source = await openNamed(work, job.source, sourceFormat);
  if (job.target === undefined) return await readAll(work, source);
  await using target = await openNamed(work, job.target, targetFormat);
  let bytes = 0;
  const { signal } = context;
  const onProgress = (done: number): void => context.progress({ bytes: (bytes = done), kept: 0 });
  const { identical, mismatch, offset = 0 } = await library.compare(source, target, { onProgress, signal });
  if (!identical) throw new FleetError(`the disks differ: ${mismatch ?? "content"} at offset ${offset}`);
  return { bytes };
}

/** Checks an image, where its format can be, and reads what is data. */
async function readAll({ library, engine, job, context }: Work, source: Node): Promise<CopyResult> {
  let bytes = 0;
  for await (const extent of source.map({ signal: context.signal })) {
    if (!extent.data) continue;
    const end = extent.offset + extent.bytes;
    for (let at = extent.offset; at < end; at += MiB) {
      context.signal.throwIfAborted();
      const piece = await source.read(at, Math.min(MiB, end - at));
      context.progress({ bytes: (bytes += piece.length), kept: 0 });
    }
  }
  await source.close();
  const report = await library
    .check(job.source, { engine, signal: context.signal })
    .catch((error: unknown) => {
      if (library.errnoOf(error) === "ENOTSUP") return undefined;
      throw error;
    });
  if (report && (report.corruptions ?? 0) > 0)
    throw new FleetError(`'${job.source}' is corrupt: ${report.corruptions} errors`);
  return { bytes };
}
