// The recipe for a fleet in docs/SCALE.md, as written: only where things lie, the command and the queue's server are this test's.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { root } from "../support/root.ts";
import { must } from "../support/tools.ts";
import { FleetFolder } from "./support/fleet.ts";
import { program } from "./support/twins.ts";

/** What is set apart in a section of the page. */
function textOf(heading: string): string {
  const page = readFileSync(join(root, "docs", "SCALE.md"), "utf8");
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? "";
  const [text = ""] = /^(?: {4}.*\n)+/m.exec(section) ?? [];
  return text;
}

it("does what it says", async () => {
  await using folder = new FleetFolder();
  const { url } = await folder.redis();
  const source = folder.image("web1.raw", 2);
  mkdirSync(folder.in("srv"));
  await must("qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, folder.in("srv/old.qcow2"));
  writeFileSync(folder.in("jobs.json"), textOf("The list of jobs").replaceAll("/srv/", folder.in("srv/")));
  mkdirSync(folder.in("bin"));
  symlinkSync(program, folder.in("bin/blockwright"));
  const env = { ...process.env, PATH: `${folder.in("bin")}:${process.env["PATH"]}` };
  const run = (text: string): string =>
    execFileSync("sh", ["-ec", text], {
      ...{ cwd: folder.path, env },
      stdio: ["ignore", "pipe", "pipe"],
    }).toString();
  const lines = textOf("By workers of many machines").split("\n");
  const installs = lines.filter((line) => /^ +(?:apt|npm) /.test(line));
  expect(installs.map((line) => line.trim())).toEqual([
    "apt install redis-server",
    "npm i -g bullmq ioredis",
  ]);
  const text = lines.filter((line) => !installs.includes(line)).join("\n");
  const said = run(text.replaceAll("redis://localhost", url));
  expect(said).toContain("2 submitted, 0 known already\n0 queued, 0 running, 2 done, 0 failed\n");
  expect(said).toMatch(/\nweb1\tdone\t1\t\S+\t2097152\t-\n/);
  const [copy, from] = [folder.in("srv/web1.qcow2"), source];
  await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", from, copy);
  // On one machine: what is done is found done.
  expect(run(textOf("On one machine"))).toBe("0 queued, 0 running, 2 done, 0 failed\n");
});
