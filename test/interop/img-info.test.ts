// info beside qemu-img info: text, JSON and exit codes, for images of each kind and history, chains, and what does not open.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Twins, words } from "./support/twins.ts";

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  const img = (line: string): unknown => execFileSync("qemu-img", words(line), { cwd: twins.theirs });
  const io = (image: string, command: string): unknown =>
    execFileSync("qemu-io", ["-c", command, image], { cwd: twins.theirs });
  img("create -q -f qcow2 base.qcow2 4M");
  io("base.qcow2", "write 0 1M");
  img("create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 5M");
  img("create -q -f qcow2 -o compat=0.10 old.qcow2 1M");
  img(
    "create -q -f qcow2 -o extended_l2=on,lazy_refcounts=on,compression_type=zstd,refcount_bits=64,cluster_size=32k rich.qcow2 1500k",
  );
  img("snapshot -c first rich.qcow2");
  img("bitmap --add rich.qcow2 b");
  img("bitmap --add --disable -g 4k rich.qcow2 disabled");
  img("create -q -f qcow2 -o data_file=data.raw,data_file_raw=on external.qcow2 1M");
  const flagged = readFileSync(join(twins.theirs, "rich.qcow2"));
  flagged[79]! |= 3;
  writeFileSync(join(twins.theirs, "flagged.qcow2"), flagged);
  img("create -q -u -f qcow2 -b gone -F qcow2 lost.qcow2 1M");
  img("create -q -u -f qcow2 -b /somewhere/gone -F raw absolute.qcow2 1M");
  img("create -q -u -f qcow2 -b nbd://host/x -F raw network.qcow2 1M");
  img("create -q -f qcow2 loop-a.qcow2 1M");
  img("create -q -f qcow2 -b loop-a.qcow2 -F qcow2 loop-b.qcow2");
  img("rebase -u -b loop-b.qcow2 -F qcow2 loop-a.qcow2");
  mkdirSync(join(twins.theirs, "sub"));
  copyFileSync(join(twins.theirs, "top.qcow2"), join(twins.theirs, "sub", "top.qcow2"));
  img("create -q -f qcow2 -b ../top.qcow2 -F qcow2 sub/over.qcow2");
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(70_001).fill(1));
  writeFileSync(join(twins.theirs, "empty.raw"), "");
  twins.share();
});

afterAll(() => twins.remove());

describe("info", () => {
  it.each([
    "base.qcow2",
    "top.qcow2",
    "old.qcow2",
    "rich.qcow2",
    "flagged.qcow2",
    "external.qcow2",
    "lost.qcow2",
    "absolute.qcow2",
    "network.qcow2",
    "sub/top.qcow2",
    "odd.raw",
    "empty.raw",
    "-f raw base.qcow2",
    "-U -f qcow2 base.qcow2",
    "file:base.qcow2",
    "--image-opts driver=qcow2,file.filename=top.qcow2",
    'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}}',
    "--backing-chain top.qcow2",
    "--backing-chain -U sub/over.qcow2",
    "--backing-chain base.qcow2",
  ])("tells what qemu-img tells: %s", async (line) => {
    const text = await twins.pair("info", ...words(line));
    expect(text.theirs.status).toBe(0);
    expect(text.ours).toEqual(text.theirs);
    const json = await twins.pair("info", "--output=json", ...words(line));
    // As text: the keys have their order.
    expect(json.ours).toEqual(json.theirs);
  });

  it.each([
    "",
    "base.qcow2 top.qcow2",
    "none.qcow2",
    "--output=xml base.qcow2",
    "-f nope base.qcow2",
    "-f qcow2 odd.raw",
    "--image-opts -f qcow2 driver=qcow2,file.filename=top.qcow2",
    "--image-opts base.qcow2",
    "--image-opts driver=qcow2,file.filename=none.qcow2",
    "--image-opts driver=qcow2,file.driver=nope,file.filename=base.qcow2",
    "json:{",
    'json:{"driver":"qcow2"}',
    'json:{"driver":"qcow2","x":1,"file":{"driver":"file","filename":"top.qcow2"}}',
    "--backing-chain lost.qcow2",
    "--backing-chain --output=json sub/top.qcow2",
    "--backing-chain loop-a.qcow2",
    ".",
    "-x base.qcow2",
    "base.qcow2 -f",
    "--nothing base.qcow2",
  ])("refuses in qemu-img's words: %s", async (line) => {
    const { ours, theirs } = await twins.pair("info", ...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
  });

  it("needs -U for an image that somebody writes to", async () => {
    const holder = spawn("qemu-io", ["base.qcow2"], { cwd: twins.theirs, stdio: ["pipe", "pipe", "ignore"] });
    await once(holder.stdout, "data");
    const refused = await twins.pair("info", "base.qcow2");
    const shared = await twins.pair("info", "-U", "--backing-chain", "top.qcow2");
    holder.stdin.end("quit\n");
    await once(holder, "close");
    expect(refused.theirs.stderr).toContain("Is another process using the image [base.qcow2]?");
    expect(refused.ours).toEqual(refused.theirs);
    expect(shared.theirs.status).toBe(0);
    expect(shared.ours).toEqual(shared.theirs);
  });
});
