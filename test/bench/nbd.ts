/**
 * NBD beside QEMU's programs, both ways: `npm run bench:nbd [-- --mib N --pairs N --seconds N --folder DIR --only TEXT --node PATH
 * --record]`. Whole copies are timed as processes, fio's requests of 4 KiB by a warm server.
 */
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Judged, type Row, type Sample, inTurn, rowOf } from "./support/contest.ts";
import { makeDisk } from "./support/disk.ts";
import { type Load, fio, serve } from "./support/nbd-server.ts";
import { BenchFolder, benchOptions } from "./support/options.ts";
import { cpuOf, peakOf, timed } from "./support/process.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 1024, pairs: 7 });
const CLIENTS = 16;
const MOST_MIB = 150;
/** On a disk that is waited for. */
const EXT4_MIB = 256;

const qemu = { server: ["qemu-nbd"], client: ["qemu-img"] } as const;
const ours = { server: [...options.ours, "nbd"], client: options.ours } as const;

interface Place {
  readonly dir: string;
  readonly image: string;
  readonly mebibytes: number;
}

/** A row, and how it is come by. */
interface Contest extends Judged {
  readonly isOnDisk?: boolean;
  readonly measure: (place: Place) => ReturnType<typeof inTurn>;
}

/** What one client copies out of a server; the processor's time is both ends'. */
function serverToNbdcopy({ dir, image }: Place): ReturnType<typeof inTurn> {
  const copied = (server: readonly string[]) => async (): Promise<Sample> => {
    const running = await serve(server, image, join(dir, "copy"));
    const { value, cpu } = await timed(["nbdcopy", running.url, "null:"]);
    const sample = { value, cpu: cpu + cpuOf(running.pid), peakMiB: peakOf(running.pid) };
    await running.end();
    return sample;
  };
  return inTurn(options.pairs, copied(qemu.server), copied(ours.server));
}

/** Each client meets a server of its own: what one asked for, the server's memory remembers for the next. */
function clientFromQemuNbd({ dir, image }: Place): ReturnType<typeof inTurn> {
  const copy = join(dir, "copy.raw");
  const converted = (client: readonly string[]) => async (): Promise<Sample> => {
    const server = await serve(qemu.server, image, join(dir, "source"));
    const sample = await timed([...client, "convert", "-f", "raw", "-O", "raw", server.url, copy]);
    rmSync(copy);
    await server.end();
    return sample;
  };
  return inTurn(options.pairs, converted(qemu.client), converted(ours.client));
}

/** Requests of 4 KiB; of those one by one the time is told, of many at once their number. */
function requests(load: Pick<Load, "rw" | "depth">): Contest["measure"] {
  return ({ dir, image, mebibytes }) => {
    const asked = (server: readonly string[]) => async (): Promise<Sample> => {
      const running = await serve(server, image, join(dir, "load"));
      fio(running.url, { ...load, mebibytes, seconds: 1 });
      const { iops, latency } = fio(running.url, { ...load, mebibytes, seconds: options.seconds });
      const sample = { value: load.depth === 1 ? latency : iops, peakMiB: peakOf(running.pid) };
      await running.end();
      return sample;
    };
    return inTurn(options.pairs, asked(qemu.server), asked(ours.server));
  };
}

/** Peak memory of a server that many clients read from at once, each with large requests. */
function memory({ dir, image, mebibytes }: Place): ReturnType<typeof inTurn> {
  const peak = (server: readonly string[]) => async (): Promise<Sample> => {
    const running = await serve(server, image, join(dir, "many"));
    const load = { rw: "randread", depth: 8, clients: CLIENTS, bytes: "256k" } as const;
    fio(running.url, { ...load, mebibytes, seconds: options.seconds });
    const value = peakOf(running.pid);
    await running.end();
    return { value, peakMiB: value };
  };
  return inTurn(options.pairs, peak(qemu.server), peak(ours.server));
}

const reads = { rw: "randread", depth: 32 } as const;
const writes = { rw: "randwrite", depth: 32 } as const;
const contests: readonly Contest[] = [
  { name: "server to nbdcopy, s", goal: 1, measure: serverToNbdcopy },
  { name: "convert from qemu-nbd to a raw file, s", goal: 1, measure: clientFromQemuNbd },
  {
    name: "reads of 4 KiB at depth 1, µs",
    goal: 0.77,
    measure: requests({ rw: "randread", depth: 1 }),
  },
  ...[false, true].flatMap((isOnDisk) =>
    ([reads, writes] as const).map((load) => ({
      name: `${load === reads ? "reads" : "writes"} of 4 KiB at depth 32${isOnDisk ? ", on a disk" : ""}, a second`,
      goal: 0.7,
      moreIsBetter: true,
      isOnDisk,
      measure: requests(load),
    })),
  ),
  {
    name: `peak memory of a server with ${CLIENTS} clients, MiB (ours at most ${MOST_MIB})`,
    measure: memory,
  },
];

async function row({ isOnDisk = false, measure, ...judged }: Contest): Promise<Row> {
  const mebibytes = isOnDisk ? EXT4_MIB : options.mebibytes;
  using folder = new BenchFolder(isOnDisk ? tmpdir() : options.folder, 3 * mebibytes);
  const image = join(folder.path, "disk");
  makeDisk(image, mebibytes);
  return rowOf(judged, await measure({ dir: folder.path, image, mebibytes }));
}

async function* rows(): AsyncGenerator<Row> {
  for (const contest of contests) if (contest.name.includes(options.only)) yield await row(contest);
}

await fillSheet(
  "nbd",
  {
    title: "NBD",
    command: "npm run bench:nbd",
    method: `${options.mebibytes} MiB of incompressible data on a tmpfs (on a disk: ${EXT4_MIB} MiB where temporary files lie); whole copies as processes, their processor's time the server's too; fio's nbd engine against a warm server; memory: each client reads 256 KiB at a time, eight at once`,
    peer: "QEMU's",
    unit: "",
  },
  rows(),
  options,
);
