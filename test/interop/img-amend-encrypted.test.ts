// amend -o of key slots beside qemu-img amend, for luks and for qcow2 encrypted by LUKS: one story of adding, erasing and
// refusals, with the same words and exit codes at each step; afterwards the same passphrases unlock both programs' images.
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { objects } from "./support/encrypted.ts";
import { Twins } from "./support/twins.ts";

const twins = new Twins();
const secrets = ["s0", "s1", "s2"];

beforeAll(() => {
  const make = (options: string, format: string, file: string): void =>
    twins.prepare("qemu-img", ...["create", "-q", ...objects, "-f", format, "-o", options, file, "1M"]);
  make("key-secret=s0,iter-time=10", "luks", "luks.img");
  make("encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10", "qcow2", "qcow2.img");
  make("encrypt.format=aes,encrypt.key-secret=s0", "qcow2", "aes.img");
  make("compat=1.1", "qcow2", "plain.img");
});

afterAll(() => twins.remove());

/** One amend in both programs: the same answer. The status. */
function amend(...words: string[]): number | null {
  const { theirs, ours } = twins.both("amend", ...objects, ...words);
  expect(ours, words.join(" ")).toEqual(theirs);
  return ours.status;
}

function unlocks(directory: string, driver: string, secret: string): boolean {
  const prefix = driver === "luks" ? "" : "encrypt.";
  const image = `driver=${driver},${prefix}key-secret=${secret},file.filename=${driver}.img`;
  const words = [...objects, "--image-opts", image, "-c", "write -P 5 0 64k", "-c", "read -P 5 0 64k"];
  return spawnSync("qemu-io", words, { cwd: directory }).status === 0;
}

/** Options without their prefix, and the exit status. */
const story: [options: string, status: number][] = [
  ["state=active,new-secret=s1,iter-time=10", 0],
  ["state=active,new-secret=s2,keyslot=5,iter-time=0", 0],
  ["state=active,new-secret=s2,keyslot=5,iter-time=10", 1],
  ["state=active,new-secret=s2,keyslot=8,iter-time=10", 1],
  ["state=active,new-secret=s2,keyslot=-1,iter-time=10", 1],
  ["state=active,new-secret=s2,old-secret=s1", 1],
  ["state=active", 1],
  ["state=active,new-secret=nope", 1],
  ["state=active,new-secret=s1,iter-time=x", 1],
  ["state=active,new-secret=s1,keyslot=99999999999999999999", 1],
  ["state=inactive,old-secret=s1", 0],
  ["state=inactive,old-secret=s1", 1],
  ["state=inactive,keyslot=05", 0],
  ["state=inactive,keyslot=1", 1],
  ["state=inactive,keyslot=0", 1],
  ["state=inactive,old-secret=s0", 1],
  ["state=inactive,new-secret=s1", 1],
  ["state=inactive,iter-time=10", 1],
  ["state=inactive", 1],
  ["state=x", 1],
  ["keyslot=1", 1],
  ["new-secret=s1", 1],
  ["nope=1", 1],
  ["key-secret=s1", 1],
  ["state=active,new-secret=s1,iter-time=10", 0],
];

const forced: readonly [string, number][] = [
  ["state=inactive,keyslot=5", 0],
  // Also one that is empty already.
  ["state=inactive,keyslot=5", 0],
  ["state=inactive,keyslot=5,old-secret=s0", 1],
  ["state=inactive,keyslot=9", 1],
];

describe("amend of key slots, as qemu-img", () => {
  it.each(["luks", "qcow2"])("%s", (driver) => {
    const prefix = driver === "luks" ? "" : "encrypt.";
    const image = `driver=${driver},${prefix}key-secret=s0,file.filename=${driver}.img`;
    for (const [options, status] of story) {
      const given = options.replaceAll(/(^|,)/g, `$1${prefix}`);
      expect(amend("-o", given, "--image-opts", image), given).toBe(status);
    }
    const opened = (directory: string): boolean[] =>
      secrets.map((secret) => unlocks(directory, driver, secret));
    expect(opened(twins.ours)).toEqual([true, true, false]);
    expect(opened(twins.theirs)).toEqual([true, true, false]);
    const last = `${prefix}state=active,${prefix}new-secret=s2,${prefix}keyslot=0,${prefix}iter-time=10`;
    expect(amend("--force", "-o", last, "--image-opts", image)).toBe(0);
    expect(opened(twins.ours)).toEqual([false, true, true]);
    expect(amend("-o", `${prefix}state=inactive,${prefix}keyslot=0`, "--image-opts", image)).toBe(1);
    // By force a slot that is erased already is erased once more, unless it is to hold a passphrase.
    const named = image.replace("key-secret=s0", "key-secret=s1");
    for (const [options, status] of forced)
      expect(amend("--force", "-o", options.replaceAll(/(^|,)/g, `$1${prefix}`), "--image-opts", named)).toBe(
        status,
      );
  });

  it.each([
    "-o encrypt.state=active,encrypt.new-secret=s1 plain.img",
    "-o encrypt.state=active,encrypt.new-secret=s1 qcow2.img",
    "-o encrypt.state=active,encrypt.new-secret=s1 --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=aes.img",
    "-o encrypt.cipher-alg=aes-256 --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=aes.img",
    "-o encrypt.format=luks --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=aes.img",
    "-o nocow=on plain.img",
    "-o help --image-opts driver=luks,key-secret=s1,file.filename=luks.img",
  ])("%s", (line) => {
    amend(...line.split(" "));
  });
});
