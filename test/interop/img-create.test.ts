// create beside qemu-img create: the same words, exit codes and images, for good and for bad command lines.
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(70_000));
  twins.prepare("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "3M");
});

afterAll(() => twins.remove());

/** Command lines as one string each; words are parted by single spaces. */
const good = [
  "-f qcow2 a.qcow2 1M",
  "-q -f qcow2 a.qcow2 1M",
  "a.raw 1M",
  "-f raw a.raw 1000",
  "-f raw -o preallocation=full a.raw 1M",
  "-f raw -o preallocation=falloc a.raw 1M",
  "-f qcow2 -o cluster_size=4k,compat=0.10,preallocation=metadata a.qcow2 1M",
  "-f qcow2 -o preallocation=full a.qcow2 1M",
  "-f qcow2 -o lazy_refcounts=on,refcount_bits=1 a.qcow2 1M",
  "-f qcow2 -o lazy_refcounts -o compat=1.1 a.qcow2 1M",
  "-f qcow2 -o lazy_refcounts=yes,nolazy_refcounts a.qcow2 1M",
  "-f qcow2 -b base.qcow2 -F qcow2 a.qcow2",
  "-f qcow2 -b base.qcow2 -F qcow2 a.qcow2 8M",
  "-f qcow2 -b odd.raw -F raw a.qcow2",
  "-f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 a.qcow2",
  "-f qcow2 -b base.qcow2 -F qcow2 -o backing_file=other.qcow2 a.qcow2",
  "-u -f qcow2 -b none.qcow2 -F qcow2 a.qcow2 1M",
  "-f qcow2 -o compat=v3,size=2M a.qcow2",
  "-f qcow2 a.qcow2 1.5k",
  "-f qcow2 a.qcow2 0.3k",
  "-f qcow2 a.qcow2 0x100000",
  "-f qcow2 a.qcow2 1001",
  "-f qcow2 a.qcow2 0",
  "-f qcow2 a.qcow2 1T",
  "-f qcow2 -o refcount_bits=010,cluster_size=0x1000,noextended_l2 a.qcow2 1M",
  "-f qcow2 -o nocow=off,extent_size_hint=0,preallocation=falloc a.qcow2 1M",
  "-f raw -o nocow=on,extent_size_hint=1M,preallocation=falloc a.raw 1M",
  "-f qcow2 -o data_file=data.raw a.qcow2 1M",
  "-f qcow2 -o data_file=data.raw,data_file_raw=on a.qcow2 1M",
  '-f qcow2 -b json:{"driver":"qcow2","file.filename":"base.qcow2"} -F qcow2 a.qcow2',
];

const bad = [
  "",
  "-f qcow2",
  "-f qcow2 a.qcow2",
  "-f qcow2 a.qcow2 abc",
  "-f qcow2 a.qcow2 1.5",
  "-f qcow2 a.qcow2 1Z",
  "-f qcow2 a.qcow2 9E",
  "-f raw a.raw 4E",
  "-f qcow2 a.qcow2 4E",
  "-f qcow2 -o cluster_size=512 a.qcow2 1P",
  "-f raw -o preallocation=metadata a.raw 1M",
  "-f raw -o preallocation=x a.raw 1M",
  "-f raw -o cluster_size=4k a.raw 1M",
  "-f raw -b base.qcow2 a.raw 1M",
  "-f nope a 1M",
  "-f qcow2 -o foo=bar a.qcow2 1M",
  "-f qcow2 -o foo a.qcow2 1M",
  "-f qcow2 -o cluster_size=3k a.qcow2 1M",
  "-f qcow2 -o cluster_size=4M a.qcow2 1M",
  "-f qcow2 -o cluster_size=xx a.qcow2 1M",
  "-f qcow2 -o cluster_size=4k, a.qcow2 1M",
  "-f qcow2 -o compat=2 a.qcow2 1M",
  "-f qcow2 -o lazy_refcounts=maybe a.qcow2 1M",
  "-f qcow2 -o lazy_refcounts=on,compat=0.10 a.qcow2 1M",
  "-f qcow2 -o compat=0.10,refcount_bits=8 a.qcow2 1M",
  "-f qcow2 -o refcount_bits=3 a.qcow2 1M",
  "-f qcow2 -o refcount_bits=x a.qcow2 1M",
  "-f qcow2 -o preallocation=x a.qcow2 1M",
  "-f qcow2 -o refcount_bits=-1 a.qcow2 1M",
  "-f qcow2 -o refcount_bits=99999999999999999999 a.qcow2 1M",
  "-f qcow2 -o nope a.qcow2 1M",
  "-f qcow2 -o extent_size_hint=x a.qcow2 1M",
  "-f luks -o preallocation=x,key-secret=s a.luks 1M",
  "-f qcow2 -o compression_type=lz4 a.qcow2 1M",
  "-f qcow2 -o size=2M a.qcow2 1M",
  "-f qcow2 -o size=-1 a.qcow2",
  "-f qcow2 -b base.qcow2 a.qcow2",
  "-f qcow2 -b none.qcow2 -F qcow2 a.qcow2 1M",
  "-f qcow2 -b base.qcow2 -F nope a.qcow2 1M",
  "-f qcow2 -b base.qcow2 -F qcow2 -o preallocation=full a.qcow2",
  "-u -f qcow2 -b none.qcow2 -F qcow2 a.qcow2",
  "-u -f qcow2 -b none.qcow2 a.qcow2 1M",
  "-u -f qcow2 -b x -F nope a.qcow2 1M",
  "-f qcow2 -b a.qcow2 -F qcow2 a.qcow2 1M",
  "-f qcow2 -F qcow2 a.qcow2 1M",
  "-f raw -F raw a.raw 1M",
  "-f qcow2 nowhere/a.qcow2 1M",
  "-f raw nowhere/a.raw 1M",
  "-f raw json:{} 1M",
  "a.raw 1M 2M",
  "--nothing a.raw 1M",
  "a.raw 1M -f",
  "-f qcow2 -o data_file_raw=on a.qcow2 1M",
  "-f qcow2 -o data_file=nowhere/x a.qcow2 1M",
  "-f qcow2 -o data_file=fresh.raw,compat=0.10 a.qcow2 1M",
  "-f qcow2 -o data_file=fresh.raw,data_file_raw=on -b base.qcow2 -F qcow2 a.qcow2",
];

const words = (line: string): string[] => ["create", ...line.split(" ").filter((word) => word !== "")];

describe("create", () => {
  it.each(good)("makes what qemu-img makes: %s", async (line) => {
    const { theirs, ours } = await twins.pair(...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    for (const file of ["a.qcow2", "a.raw"]) {
      expect(twins.info(twins.ours, file)).toEqual(twins.info(twins.theirs, file));
    }
  });

  it.each(bad)("refuses in qemu-img's words and leaves nothing: %s", async (line) => {
    twins.same();
    const { theirs, ours } = await twins.pair(...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
    // An image that was there stays, also where qemu-img has it go.
    const left = new Set(readdirSync(twins.theirs)).add("a.qcow2");
    expect(readdirSync(twins.ours).filter((name) => !left.has(name))).toEqual([]);
    expect(readdirSync(twins.ours)).toEqual(expect.arrayContaining(readdirSync(twins.theirs)));
  });

  it.each(["raw", "qcow2", "luks"])("lists the options of %s, with and without those of a file", (format) => {
    for (const line of [`-f ${format} -o help`, `-f ${format} -o ? x.img`]) {
      const { theirs, ours } = twins.both(...words(line));
      expect(theirs.status).toBe(0);
      expect(ours).toEqual(theirs);
    }
  });
});
