/**
 * What a guest's random read of 4 KiB costs in headless Chromium: from the private file system in the worker, beside a bare
 * access handle, and from the page by messages. A program without asserts: `npm run bench:browser [-- --record]`.
 */
import { Bench, MiB, diskImage } from "../acceptance/support/bench.ts";
import { type Row, type Sample, rowOf } from "./support/contest.ts";
import { benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 32, pairs: 9 });

const samples = (values: readonly number[]): Sample[] => values.map((value) => ({ value }));

async function* rows(): AsyncGenerator<Row> {
  await using bench = await Bench.start(diskImage(16 * MiB));
  const worker = await bench.tab("/?worker=bench");
  const { bare = [], ...times } = await worker.callOther<Record<string, number[]>>("measure");
  const theirs = samples(bare);
  const names = {
    opfs: "guest's disk over opfs",
    qcow2: "guest's disk over qcow2 in opfs",
    job: "the same with a stream job behind it",
  };
  for (const [key, name] of Object.entries(names))
    yield rowOf({ name }, { theirs, ours: samples(times[key]!) });

  const page = await bench.tab("/remote.html");
  await page.callOther("create", bench.base);
  await page.callOther("open", bench.base);
  await page.callOther("fill", { onError: "stop" });
  await page.until("filled", ({ job }) => job?.status === "concluded");
  const remote: number[] = [];
  while (remote.length < options.pairs) remote.push(await page.callOther<number>("measureReads"));
  yield rowOf({ name: "over qcow2, from the page by messages" }, { theirs, ours: samples(remote) });
}

await fillSheet(
  "browser",
  {
    title: "Reads in a browser",
    command: "npm run bench:browser",
    method:
      "a random read of 4 KiB in headless Chromium, rounds of 4 000 in which all take turns; a job that is slowed down, so that it outlasts them; the guest's disk lies in the worker, where its emulator can be too",
    peer: "bare access handle",
    unit: ", µs",
  },
  rows(),
  options,
);
