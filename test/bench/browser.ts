/**
 * What a guest's random read of 4 KiB costs in headless Chromium: from the private file system in the worker, beside a bare
 * access handle, and from the page by messages. Microseconds, medians. A program without asserts: `npm run bench:browser`.
 */
import { Bench, MiB, diskImage } from "../acceptance/support/bench.ts";

await using bench = await Bench.start(diskImage(16 * MiB));
const times = await (await bench.tab("/?worker=bench")).callOther<Record<string, number>>("measure");

const page = await bench.tab("/remote.html");
await page.callOther("create", bench.base);
await page.callOther("open", bench.base);
await page.callOther("fill", { onError: "stop" });
await page.until("filled", ({ job }) => job?.status === "concluded");
const remote = await page.callOther<number>("measureReads");

const bare = times["bare"]!;
const rows = [
  ["bare access handle", bare],
  ["guest's disk over opfs", times["opfs"]!],
  ["guest's disk over qcow2 in opfs", times["qcow2"]!],
  ["the same with a stream job behind it", times["job"]!],
  ["over qcow2, from the page by messages", remote],
] as const;
for (const [name, microseconds] of rows)
  console.log(
    `${name.padEnd(40)} ${microseconds.toFixed(2).padStart(9)} µs   ${(microseconds / bare).toFixed(2)} ×`,
  );
