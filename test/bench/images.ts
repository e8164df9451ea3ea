/**
 * Whole-image commands beside qemu-img: `npm run bench:images [-- --mib N --pairs N --folder DIR --only TEXT --node PATH --record]`.
 * Each command is a process of its own, from its start to its end, Node's start included. Beside the clock stands the processor time
 * (user and system), since on a busy machine the clock also tells who else was there; and the peak memory.
 */
import { Sources } from "./images/sources.ts";
import { type Bench, emptyTasks, rowOfEmpty, rowOfTask, tasks } from "./images/tasks.ts";
import type { Row } from "./support/contest.ts";
import { BenchFolder, benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 2048, pairs: 7 });
using folder = new BenchFolder(options.folder, 5 * options.mebibytes + 4096);
const bench: Bench = {
  folder: folder.path,
  sources: new Sources(folder.path, options.mebibytes),
  pairs: options.pairs,
  ours: options.ours,
};

async function* rows(): AsyncGenerator<Row> {
  for (const task of tasks) if (task.name.includes(options.only)) yield await rowOfTask(task, bench);
}

async function* emptyRows(): AsyncGenerator<Row> {
  for (const task of emptyTasks) if (task.name.includes(options.only)) yield await rowOfEmpty(task, bench);
}

const size = `${options.mebibytes / 1024} GiB`;
await fillSheet(
  "images",
  {
    title: "Whole images",
    command: "npm run bench:images",
    method: `${size} of incompressible data unless a row says otherwise, a quarter of that where it says text; scattered: ${size} in pieces of 1 MiB, each followed by a hole of 3 MiB; the 1 GiB in 64 GiB lies in pieces of 64 KiB; the chain has 256 MiB under overlays of 1 MiB. On a tmpfs, whole processes from start to end; net of start: less \`--version\``,
    peer: "qemu-img",
    unit: ", s",
  },
  rows(),
  options,
);
await fillSheet(
  "empty",
  {
    title: "Empty disks: 64 TiB beside 64 MiB",
    command: "npm run bench:images",
    method:
      "our own commands over an empty qcow2 image of either size (64 TiB: clusters of 2 MiB), whole processes",
    peer: "64 MiB",
    unit: ", s",
  },
  emptyRows(),
  options,
);
