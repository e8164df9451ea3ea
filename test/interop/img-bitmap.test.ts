// bitmap beside qemu-img bitmap: the same words, exit codes and bitmaps, for one action and for several in their order.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, it } from "vitest";
import { dirtyRanges, openNode } from "../../src/node.ts";
import { type Outcome, withTemplates } from "./support/twins.ts";

const twins = withTemplates(async (templates) => {
  const cwd = templates.theirs;
  const img = (line: string): unknown => execFileSync("qemu-img", line.split(" "), { cwd });
  img("create -q -f qcow2 a.qcow2 4M");
  img("create -q -f qcow2 b.qcow2 4M");
  img("create -q -f qcow2 small.qcow2 1M");
  img("create -q -f qcow2 -o compat=0.10 old.qcow2 4M");
  img("create -q -f raw a.raw 1M");
  for (const name of ["one", "two", "off"]) img(`bitmap --add -g 32k a.qcow2 ${name}`);
  img("bitmap --disable a.qcow2 off");
  img("bitmap --add b.qcow2 other");
  img("bitmap --add small.qcow2 other");
  execFileSync("qemu-io", ["-c", "write 0 100k", "a.qcow2"], { cwd });
  execFileSync("qemu-io", ["-c", "write 3M 64k", "b.qcow2"], { cwd });
  img("bitmap --clear a.qcow2 two");
  // A writer that is killed leaves a bitmap whose bits are not known.
  img("create -q -f qcow2 lost.qcow2 4M");
  img("bitmap --add lost.qcow2 lost");
  const writer = spawn("qemu-io", ["lost.qcow2"], { cwd });
  await once(writer.stdout, "data");
  writer.kill("SIGKILL");
  await once(writer, "exit");
});

/** Names that the programs make differ. */
function masked(outcome: Outcome): Outcome {
  return { ...outcome, stderr: outcome.stderr.replaceAll(/#block\d+/g, "#block") };
}

/** What the original says of the bitmaps of an image. */
function bitmaps(directory: string, file: string): unknown {
  const info = twins.info(directory, file) as { "format-specific": { data: { bitmaps?: unknown } } };
  return info["format-specific"].data.bitmaps;
}

const longest = "x".repeat(1023);

it.each([
  "--add a.qcow2 new",
  "--add -g 64k a.qcow2 new",
  "--add -g 0 a.qcow2 new",
  "--add --disable a.qcow2 new",
  "--add --disable --enable a.qcow2 new",
  "--remove a.qcow2 one",
  "--clear a.qcow2 one",
  "--disable a.qcow2 one",
  "--disable a.qcow2 off",
  "--enable a.qcow2 off",
  "--enable --disable a.qcow2 two",
  "--merge one a.qcow2 two",
  "--add --merge one --merge two a.qcow2 new",
  "--add --merge one --disable --clear --remove a.qcow2 new",
  "--merge other -b b.qcow2 -F qcow2 a.qcow2 two",
  "--merge other -b b.qcow2 a.qcow2 two",
  "--add --image-opts driver=qcow2,file.filename=a.qcow2 new",
  "--add -f qcow2 a.qcow2 new",
  `--add a.qcow2 ${longest}`,
  "--remove lost.qcow2 lost",
  "",
  "a.qcow2",
  "--add a.qcow2",
  "--add a.qcow2 new more",
  "--add a.qcow2 one",
  "--add -g 1000 a.qcow2 new",
  "--add -g 64 a.qcow2 new",
  "--add -g x a.qcow2 new",
  "--add -g 4G a.qcow2 new",
  "--remove -g 32k a.qcow2 one",
  "--remove -g 32k -F raw a.qcow2",
  "--clear a.qcow2 none",
  "--enable a.qcow2 none",
  "--remove a.qcow2 none",
  "--merge none a.qcow2 one",
  "--merge one a.qcow2 none",
  "--merge one --add a.qcow2 new",
  "--remove --add a.qcow2 new",
  "--add --add a.qcow2 new",
  "--merge none -b b.qcow2 a.qcow2 one",
  "--merge other -b none.qcow2 a.qcow2 one",
  "--merge other -b small.qcow2 a.qcow2 one",
  "--add -b b.qcow2 a.qcow2 new",
  "--add -F qcow2 a.qcow2 new",
  "--merge one -F qcow2 a.qcow2 two",
  "--add -f raw a.raw new",
  "--add a.raw new",
  "--add -f qcow2 a.raw new",
  "--add old.qcow2 new",
  "--add none.qcow2 new",
  "--add --image-opts -f qcow2 driver=qcow2,file.filename=a.qcow2 new",
  "--add --image-opts -f qcow2 a.qcow2",
  `--add a.qcow2 ${longest}x`,
  "--enable lost.qcow2 lost",
  "--merge lost lost.qcow2 lost",
  "--merge lost -b lost.qcow2 a.qcow2 one",
])("changes bitmaps as qemu-img: %s", (line) => {
  const { ours, theirs } = twins.both("bitmap", ...line.split(" ").filter((word) => word !== ""));
  expect(masked(ours)).toEqual(masked(theirs));
  const file = line.includes("lost.qcow2 lost") ? "lost.qcow2" : "a.qcow2";
  expect(bitmaps(twins.ours, file)).toEqual(bitmaps(twins.theirs, file));
  execFileSync("qemu-img", ["check", "-q", file], { cwd: twins.ours });
});

it("refuses an empty name", () => {
  const { ours, theirs } = twins.both("bitmap", "--add", "a.qcow2", "");
  expect(ours).toEqual(theirs);
});

it("merges the same bits as qemu-img", async () => {
  for (const action of ["--merge one", "--merge other -b b.qcow2"])
    twins.both("bitmap", ...action.split(" "), "a.qcow2", "two");
  for (const directory of [twins.ours, twins.theirs]) {
    const file = { driver: "file", filename: join(directory, "a.qcow2") } as const;
    await using node = await openNode({ driver: "qcow2", file, "read-only": true });
    expect(dirtyRanges(node, "two")).toEqual([
      { offset: 0, bytes: 128 * 1024 },
      { offset: 3 * 1024 * 1024, bytes: 64 * 1024 },
    ]);
  }
});
