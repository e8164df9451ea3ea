// NBD's names, options and refusals: the same words, exit codes and output as the real programs', of servers that are
// there (qemu-nbd) and servers that are not.
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commands, masked } from "./support/io.ts";
import { type Outcome, Twins } from "./support/twins.ts";

const twins = new Twins();
const servers: ChildProcess[] = [];

async function serve(socket: string, ...words: string[]): Promise<void> {
  const args = ["-t", "-e", "0", "-k", join(twins.theirs, socket), ...words];
  servers.push(spawn("qemu-nbd", args, { cwd: twins.theirs, stdio: "ignore" }));
  while (!existsSync(join(twins.theirs, socket))) await setTimeout(20);
}

beforeAll(async () => {
  twins.run("qemu-img", "create -q -f qcow2 base 1M");
  twins.run("qemu-img", "create -q -f raw plain 1M");
  twins.run("qemu-img", "create -q -f raw odd 1000");
  twins.write("base", "write -P 7 64k 64k", "write -z 256k 64k", "discard 512k 64k");
  twins.run("qemu-img", "bitmap --add base marks");
  twins.write("base", "write -P 8 128k 4k");
  twins.run("qemu-img", "create -q -f raw made 1M");
  twins.run("qemu-img", "create -q -f raw big 2M");
  twins.share();
  await serve("rw", "-f", "qcow2", "-B", "marks", "base");
  await serve("ro", "-f", "raw", "-r", "-x", "exp", "plain");
  await serve("odd.sock", "-f", "raw", "odd");
  await serve("made.sock", "-f", "raw", "made");
});

afterAll(() => {
  for (const server of servers) server.kill();
  twins.remove();
});

function img(...words: string[]): Outcome {
  const { theirs, ours } = twins.both(...words);
  expect(ours).toEqual(theirs);
  return ours;
}

function io(...lines: string[]): Outcome {
  const words = commands(...lines);
  const ours = masked(twins.blockwright("io", ...words));
  expect(ours).toEqual(masked(twins.qemuIo(words)));
  return ours;
}

describe("info", () => {
  it.each([
    ["nbd+unix:///exp?socket=ro", 0],
    ["nbd+unix:////exp?socket=ro", 1],
    ["nbd+unix:///e%78p?socket=ro", 0],
    ["nbd:unix:ro:exportname=exp", 0],
    ["nbd:unix:rw", 0],
    ["nbd+unix://?socket=odd.sock", 0],
    ["nbd+unix:///nope?socket=ro", 1],
    ["nbd+unix:///?socket=ro", 1],
    ["nbd+unix:///x?socket=none", 1],
    ["nbd://localhost:1", 1],
    ["nbd://localhost:1/x?a=b", 1],
    ["nbd+tcp://localhost:1/a%20b", 1],
    ["nbd://[::1]:1/", 1],
    ["nbd:[::1]:1:exportname=x", 1],
    ["nbd:", 1],
    ["nbd:localhost", 1],
    ["nbd:localhost:", 1],
    ["nbd:localhost:x", 1],
    ["nbd:unix:ro:exportname=", 1],
    ["nbd://", 1],
    ["nbd+unix://", 1],
    ["nbd+unix:///x?foo=bar", 1],
    ["nbd+unix:///x?socket=a&foo=bar", 1],
    ["nbd+unix://host/x?socket=a", 1],
    ["nbd+foo://host/x", 1],
    ['json:{"driver":"nbd","path":"rw","export":""}', 0],
    ['json:{"driver":"raw","file":{"driver":"nbd","server":{"type":"unix","path":"rw"}}}', 0],
    ['json:{"driver":"nbd","path":"rw","host":"x"}', 1],
    ['json:{"driver":"nbd","export":""}', 1],
    ['json:{"driver":"raw","file.driver":"nbd","file.host":"localhost","file.port":1}', 1],
  ])("%s", (name, status) => {
    expect(img("info", name).status).toBe(status);
    expect(img("info", "--output=json", name).status).toBe(status);
  });

  it.each([
    ["driver=nbd,path=rw", 0],
    ["driver=nbd,server.type=unix,server.path=rw,export=foo", 1],
    ["driver=nbd,server.type=unix,server.path=rw,bogus=foo", 1],
    ["driver=nbd,server.type=unix,server.path=rw,tls-creds=tls0", 1],
    ["driver=nbd,server.type=unix,server.path=rw,x-dirty-bitmap=qemu:dirty-bitmap:none", 1],
    ["driver=nbd,server.type=inet,server.host=localhost,server.port=1,open-timeout=0", 1],
    ["driver=nbd,host=localhost,server.type=inet", 1],
    ["driver=nbd,port=1", 1],
    ["driver=raw,file.filename=nbd://localhost:1/", 1],
  ])("--image-opts %s", (options, status) => {
    expect(img("info", "--image-opts", options).status).toBe(status);
  });
});

describe("what an export tells", () => {
  it("is mapped", () => {
    img("map", "--output=json", "-f", "raw", "nbd:unix:rw");
    img("map", "-f", "raw", "nbd:unix:rw");
    img("map", "--output=json", "-f", "raw", "nbd:unix:odd.sock");
    io("-r -f raw", "map", "alloc 0 1M", "length", "info", "nbd:unix:rw");
  });

  it("of a dirty bitmap is mapped", () => {
    const options = "driver=nbd,server.type=unix,server.path=rw,x-dirty-bitmap=qemu:dirty-bitmap:marks";
    const { stdout } = img("map", "--output=json", "--image-opts", options);
    expect(stdout).toContain('"data": false');
  });

  it("is measured, checked and listed", () => {
    img("measure", "-O", "qcow2", "-f", "raw", "nbd:unix:rw");
    img("check", "-f", "raw", "nbd:unix:rw");
    img("snapshot", "-l", "nbd:unix:rw");
    img("compare", "-f", "raw", "-F", "raw", "nbd:unix:rw", "nbd:unix:ro:exportname=exp");
  });
});

describe("what an export does not take", () => {
  it("are writes, where it is read-only", () => {
    io("-f raw", "write 0 4k", "nbd:unix:ro:exportname=exp");
    img("convert", "-n", "-O", "raw", "plain", "nbd:unix:ro:exportname=exp");
    img("resize", "-f", "raw", "nbd:unix:ro:exportname=exp", "2M");
  });

  it("is another length", () => {
    img("resize", "-f", "raw", "nbd:unix:rw", "2M");
    img("resize", "-f", "raw", "--shrink", "nbd:unix:rw", "512k");
    expect(img("resize", "-f", "raw", "nbd:unix:rw", "1M").status).toBe(0);
    io("-f raw", "truncate 2M", "nbd:unix:rw");
  });

  it("are bytes behind its end", () => {
    io("-f raw", "read 0 1000", "read 0 1024", "write 0 1024", "length", "nbd:unix:odd.sock");
  });
});

describe("an image is made in an export", () => {
  const name = "nbd:unix:made.sock";

  it.each([
    ["create", "-f", "raw", name, "2M"],
    ["create", "-f", "raw", "-o", "preallocation=full", name, "512k"],
    ["create", "-f", "raw", name, "512k"],
    ["create", "-f", "raw", "nbd:unix:ro:exportname=exp", "1M"],
    ["create", "-f", "qcow2", "nbd:unix:ro:exportname=exp", "1M"],
    ["create", "-f", "qcow2", "nbd://localhost:1", "1M"],
    ["create", "-f", "raw", "null-co://", "1M"],
    ["create", "-f", "qcow2", name, "1G"],
    ["info", name],
    ["check", name],
    ["create", "-f", "qcow2", "-o", "preallocation=full", name, "1G"],
    ["convert", "-O", "raw", "big", name],
    ["convert", "-O", "raw", "plain", name],
    ["compare", "-f", "raw", "-F", "raw", "plain", name],
    ["convert", "-O", "qcow2", "nbd:unix:rw", name],
    ["compare", "nbd:unix:rw", name],
    ["convert", "-O", "raw", "plain", "nbd:unix:ro:exportname=exp"],
    ["dd", "-O", "raw", "bs=64k", "if=big", `of=${name}`],
    ["dd", "-f", "raw", "-O", "raw", "bs=64k", "if=plain", `of=${name}`],
    ["dd", "-f", "raw", "-O", "raw", "bs=64k", `if=${name}`, "of=copied"],
    ["compare", "-f", "raw", "-F", "raw", "plain", "copied"],
  ])("%s %s %s %s %s %s", (...words) => {
    img(...words.filter((word) => word !== undefined));
  });
});

it("writes go where they belong", () => {
  const name = "nbd:unix:rw";
  const [one, two, three] = ["write -P 5 300k 70k", "write -z -u 64k 4k", "discard 128k 64k"];
  io("-f raw", one, two, three, "flush", "read -P 5 300k 70k", "read -P 0 64k 4k", "read -P 7 68k 4k", name);
  expect(twins.qemuImg("compare", "-f", "raw", "-F", "raw", name, name).status).toBe(0);
});
