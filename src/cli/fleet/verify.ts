/**
 * Jobs that write nothing: two disks are compared, or one is read and checked. How far they are the queue is told, with what it was that
 * they read: another attempt goes on there if that is the same still, whatever the queue says.
 */
import { createHash } from "node:crypto";
import { FleetError } from "../../fleet/jobs.ts";
import type { ReadCheckpoint } from "../../fleet/queue.ts";
import type { Node } from "../../node.ts";
import { identityOf, imageOf, openNamed } from "./names.ts";
import type { CopyResult, Work } from "./work.ts";

const MiB = 2 ** 20;

/** How far it is. */
interface Course {
  readonly of: string;
  position: number;
  bytes: number;
}

/** Compares source and target, or, with no target, reads the source's data and checks it. Throws FleetError where they differ. */
export async function verify(work: Work): Promise<CopyResult> {
  const { job, context } = work;
  const { sourceFormat, targetFormat } = job.options;
  await context.mayTransfer();
  await using source = await openNamed(work, job.source, sourceFormat);
  if (job.target === undefined) return await readAndCheck(work, source);
  await using target = await openNamed(work, job.target, targetFormat);
  return await compare(work, source, target);
}

/** Where it begins: behind what an earlier attempt has found right in the same disks. */
async function courseOf({ context: { checkpoint } }: Work, disks: readonly Node[]): Promise<Course> {
  const identities: string[] = [];
  for (const disk of disks) identities.push(await identityOf(disk));
  const of = createHash("sha256").update(JSON.stringify(identities)).digest("hex");
  const { position, bytes } = checkpoint?.of === of ? checkpoint : { position: 0, bytes: 0 };
  return { of, position: Math.floor(position / MiB) * MiB, bytes };
}

function tell({ context }: Work, course: Course): void {
  const checkpoint: ReadCheckpoint = { ...course };
  context.progress({ bytes: course.bytes, kept: course.position, checkpoint });
}

async function compare(work: Work, source: Node, target: Node): Promise<CopyResult> {
  const { library, context } = work;
  const course = await courseOf(work, [source, target]);
  const onProgress = (done: number): void => {
    if (done <= course.position) return;
    course.bytes += done - course.position;
    course.position = done;
    tell(work, course);
  };
  const options = { offset: course.position, onProgress, signal: context.signal };
  const { identical, mismatch, offset = 0 } = await library.compare(source, target, options);
  if (!identical) throw new FleetError(`the disks differ: ${mismatch ?? "content"} at offset ${offset}`);
  return { bytes: course.bytes };
}

/** Reads what is data, and checks an image, where its format can be. */
async function readAndCheck(work: Work, source: Node): Promise<CopyResult> {
  const { library, engine, job, context } = work;
  const { signal } = context;
  const course = await courseOf(work, [source]);
  const range = { offset: course.position, length: source.length - course.position, signal };
  for await (const extent of source.map(range)) {
    const end = extent.offset + extent.bytes;
    for (let at = extent.offset; extent.data && at < end; at += MiB) {
      signal.throwIfAborted();
      const piece = await source.read(at, Math.min(MiB, end - at));
      course.bytes += piece.length;
      course.position = at + piece.length;
      tell(work, course);
    }
    course.position = end;
  }
  await source.close();
  const image = imageOf(engine, job.source, job.options.sourceFormat);
  const report = await library.check(image, { engine, signal }).catch((error: unknown) => {
    if (library.errnoOf(error) === "ENOTSUP") return undefined;
    throw error;
  });
  if (report && (report.corruptions ?? 0) > 0)
    throw new FleetError(`'${job.source}' is corrupt: ${report.corruptions} errors`);
  return { bytes: course.bytes };
}
