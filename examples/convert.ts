/**
 * Converts an image, with its progress: `convert.ts SOURCE TARGET.qcow2`.
 *
 * What `qemu-img convert -c -O qcow2` does. The source's format is found out; a broken disk or Ctrl-C leaves no target.
 */
import { rm } from "node:fs/promises";
import { convert, createImage, file, openNode, qcow2 } from "blockwright/node";

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  console.error("usage: convert.ts SOURCE TARGET.qcow2");
  process.exit(2);
}

const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort(new Error("interrupted")));

const source = await openNode(from, { readOnly: true });
try {
  const { format } = await source.info();
  await createImage({ ...qcow2(file(to)), size: source.length }); // EEXIST if there is one.
  try {
    const target = await openNode(to);
    try {
      await convert(source, target, {
        targetIsZero: true, // It has just been made.
        compress: true,
        signal: interrupted.signal,
        onProgress: (done, total) =>
          process.stderr.write(`\r${Math.floor((100 * done) / Math.max(total, 1))} %`),
      });
      await target.flush();
    } finally {
      await target.close();
    }
  } catch (error) {
    await rm(to);
    throw error;
  }
  console.error(`\n${format}, ${source.length} bytes: ${to}`);
} finally {
  await source.close();
}
