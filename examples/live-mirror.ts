/**
 * Moves a disk to another file while it is written to: `live-mirror.ts IMAGE NEW.qcow2`.
 *
 * A writer stands for the guest. A full target pauses the job, and the writer goes on; when there is room, the job does, too.
 * In the end the disk lies in the new file, and the writer has noticed nothing.
 */
import { createImage, file, mirror, openNode, qcow2, whenReady } from "blockwright/node";

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  console.error("usage: live-mirror.ts IMAGE NEW.qcow2");
  process.exit(2);
}

const disk = await openNode(from);
await createImage({ ...qcow2(file(to)), size: disk.length });
const target = await openNode(to);

// The guest: counts in the disk's first eight bytes, until it is told to stop.
let counted = 0n;
let isRunning = true;
async function count(): Promise<void> {
  const word = new Uint8Array(8);
  while (isRunning) {
    new DataView(word.buffer).setBigUint64(0, ++counted);
    await disk.write(0, word);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await disk.flush();
}
const guest = count();

const job = await mirror(disk, target, { onTargetError: "enospc" });
job.addEventListener("BLOCK_JOB_ERROR", ({ data }) => console.error(`${data.operation}: ${data.action}`));
job.addEventListener("JOB_STATUS_CHANGE", () => {
  if (job.status === "paused" && job.ioStatus === "nospace") setTimeout(() => job.resume(), 1000);
});
void (async () => {
  for await (const { status, fraction } of job.progress())
    console.error(`${status} ${Math.floor(100 * fraction)} %`);
})();

await whenReady(job); // Both hold the same, and go on doing so.
await job.complete(); // The disk is the new file from here on.
await job.done;
isRunning = false;
await guest;

const last = await disk.read(0, 8);
console.log(
  `counted to ${counted}, the new file says ${new DataView(last.buffer, last.byteOffset).getBigUint64(0)}`,
);
await Promise.all([disk.close(), target.close()]);
