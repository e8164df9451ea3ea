/**
 * What a guest's random read of 4 KiB costs in headless Chromium: from the private file system in the worker, beside a bare
 * access handle, and from the page by messages. Microseconds, medians. A program without asserts: `npm run bench:browser`.
 */
import { Bench, MiB, diskImage } from "../acceptance/support/bench.ts";
import type { Tab } from "../acceptance/support/browser.ts";

/** Calls that only the pages for measuring have. */
function call<T>(tab: Tab, name: string, ...args: unknown[]): Promise<T> {
  return tab.page.evaluate(([what, given]) => globalThis.call(what, given), [
    name,
    args,
  ] as const) as Promise<T>;
}

await using bench = await Bench.start(diskImage(16 * MiB));
const times = await call<Record<string, number>>(await bench.tab("/?worker=bench"), "measure");

const page = await bench.tab("/remote.html");
await call(page, "create", bench.base);
await call(page, "open", bench.base);
await call(page, "fill", { onError: "stop" });
await page.until("filled", ({ job }) => job?.status === "concluded");
const remote = await call<number>(page, "measureReads");

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
