/**
 * What has changed since the last night: `nightly-backup.ts DISK.qcow2 FOLDER`.
 *
 * The first run makes a full backup and a bitmap in the image, every later one a file of what was written since, each over the one
 * before: a chain that qemu-img reads; to restore, convert the newest (`blockwright convert --gate local`). A run that fails leaves no file, and nothing is forgotten.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  backup,
  createEngine,
  createImage,
  file,
  fileGate,
  nodeHost,
  openNode,
  qcow2,
  removeBitmap,
  transaction,
} from "blockwright/node";

const [image, folder] = process.argv.slice(2);
if (image === undefined || folder === undefined) {
  console.error("usage: nightly-backup.ts DISK.qcow2 FOLDER");
  process.exit(2);
}
const BITMAP = "nightly";
await mkdir(folder, { recursive: true });
const earlier = (await readdir(folder)).filter((name) => /^\d{4}\.qcow2$/.test(name)).toSorted();
const last = earlier.at(-1);
const path = join(folder, `${String(earlier.length).padStart(4, "0")}.qcow2`);

// Each backup names the one before, in the same folder. Nothing else may be opened on an image's word.
const engine = createEngine({ gate: fileGate("same-dir", nodeHost()) });
const disk = await openNode(image, { engine });
try {
  const chain = last === undefined ? {} : { "backing-file": last, "backing-fmt": "qcow2" as const };
  await createImage({ ...qcow2(file(path)), size: disk.length, ...chain }, { engine });
  const target = await openNode(path, { engine });
  try {
    if (last === undefined) {
      // The bitmap and the full backup begin at one moment, or neither does.
      const [job] = await transaction([
        { type: "addBitmap", node: disk, name: BITMAP, persistent: true },
        { type: "backup", source: disk, target, fleecing: true },
      ]);
      await job.done.catch((error: unknown) => {
        removeBitmap(disk, BITMAP); // There is no backup that it could go on from.
        throw error;
      });
    } else {
      const job = await backup(disk, target, { sync: "incremental", bitmap: BITMAP, fleecing: true });
      await job.done; // A failure leaves the bitmap as it was.
    }
    await target.flush();
  } finally {
    await target.close();
  }
  console.log(path);
} catch (error) {
  await rm(path, { force: true });
  throw error;
} finally {
  await disk.close();
  await engine.close();
}
