/**
 * What a C program's pread and pwrite of 4 KiB cost in headless Chromium beside a bare access handle, over a qcow2 overlay in the
 * private file system that holds them. A program without asserts: `npm run bench:emscripten [-- --record]`.
 */
import { rmSync } from "node:fs";
import { Browser, Profile, Tab } from "../acceptance/support/browser.ts";
import { cProgramSite } from "../acceptance/support/c-program.ts";
import { Site } from "../acceptance/support/site.ts";
import { type Row, type Sample, rowOf } from "./support/contest.ts";
import { benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 32, pairs: 9 });

const samples = (values: readonly number[] = []): Sample[] => values.map((value) => ({ value }));

async function* rows(): AsyncGenerator<Row> {
  const folder = await cProgramSite();
  const profile = new Profile("chromium");
  await using site = await Site.serve(folder, { isIsolated: true });
  const browser = await Browser.start(profile);
  try {
    const tab = await Tab.over(await browser.visit(site.url));
    await tab.callOther("open");
    await tab.callOther("mount");
    const times = await tab.callOther<Record<string, number[]>>("measure");
    const row = (name: string, theirs: string, ours: string): Row =>
      rowOf({ name }, { theirs: samples(times[theirs]), ours: samples(times[ours]) });
    yield row("pread of 8 MiB that it has read before", "bare", "warm");
    yield row("pread of 32 MiB", "bareAll", "all");
    yield row("pwrite", "bareWrite", "write");
  } finally {
    await browser.kill();
    profile.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

await fillSheet(
  "emscripten",
  {
    title: "A C program in a browser",
    command: "npm run bench:emscripten",
    method:
      "pread and pwrite of 4 KiB at random by a program that Emscripten 3.1.6 has compiled, in headless Chromium, rounds of up to 5 000 in which all take turns; what is read or written lies in the overlay of a disk of 8 GiB",
    peer: "bare access handle",
    unit: ", µs",
  },
  rows(),
  options,
);
