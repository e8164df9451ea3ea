// Mutated command lines of `blockwright machine`, each a process with a monitor: it says what is wrong and ends with status 1, or it runs and
// ends when it is asked to. Nothing is broken in here, no image is changed. FUZZ_COUNT: how many (default 60); a failing seed prints
// the command that replays it.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { randomness } from "../support/random.ts";
import { must } from "../support/tools.ts";
import { HANG_MS } from "../support/until.ts";
import { program } from "../support/verb-client.ts";

const only = process.env["FUZZ_SEED"];
const COUNT = Number(process.env["FUZZ_COUNT"] ?? 60);
const WORKERS = 2;

type Random = (limit: number) => number;

const images = ["a.qcow2", "b.raw", "f.img"];
const home = mkdtempSync(join(tmpdir(), "blockwright-fuzz-machine-"));
const contents = new Map<string, Buffer>();

/** Parts of command lines that are good; a line is some of them. */
const parts: readonly (readonly string[])[] = [
  [
    "-drive",
    "if=none,id=d0,file=a.qcow2,format=qcow2,werror=enospc,rerror=stop",
    "-device",
    "virtio-blk,drive=d0,id=x",
  ],
  ["-drive", "file=b.raw,format=raw,if=virtio,readonly=on,cache=none,aio=threads"],
  [
    "-drive",
    "if=none,id=d1,file.driver=blkdebug,file.image.driver=file,file.image.filename=b.raw,format=raw",
  ],
  ["-drive", "if=none,id=d2,file=b.raw,format=raw,iops=100,bps_rd=1M,group=g,stats-intervals.0=10"],
  ["-blockdev", '{"driver":"qcow2","node-name":"n0","file":{"driver":"file","filename":"a.qcow2"}}'],
  ["-blockdev", "driver=file,filename=b.raw,node-name=n1", "-device", "ide-hd,drive=n1,bus=ide.0,unit=1"],
  ["-device", "virtio-scsi-pci,id=s,addr=6", "-device", "scsi-cd,bus=s.0,lun=1"],
  ["-device", '{"driver":"floppy","unit":1}'],
  ["-object", "iothread,id=io", "-object", "throttle-group,id=tg,x-iops-total=10"],
  ["-object", "secret,id=s0,data=abc"],
  ["-chardev", "socket,id=c,path=c.sock,server=on,wait=off", "-mon", "chardev=c,mode=control"],
  ["-chardev", "ringbuf,id=r,size=1024", "-serial", "chardev:r"],
  ["-monitor", "unix:m.sock,server=on,wait=off"],
  ["-qtest", "unix:q.sock,server=on,wait=off", "-accel", "qtest"],
  ["-hda", "a.qcow2", "-cdrom", "b.raw", "-fda", "f.img", "-snapshot"],
  ["-machine", "pc,usb=off", "-m", "128M", "-smp", "2,sockets=1", "-name", "guest=a,process=b"],
  ["-global", "virtio-blk-device.serial=abc", "-boot", "order=cd,menu=on", "-rtc", "base=utc"],
  ["-nodefaults", "-S", "-display", "none", "-vga", "none", "-uuid", "12345678-1234-1234-1234-123456789abc"],
  ["-set", "device.x.bootindex=1"],
  ["-add-fd", "fd=0,set=1", "-msg", "timestamp=on"],
];

const pieces = [
  ",",
  "=",
  ",,",
  "=on",
  "=off",
  ".0",
  ".file",
  "help",
  "-1",
  "18446744073709551616",
  "1e99",
  "0x",
  "\u00e9\u{1f4be}",
  "%s",
  "{",
  '"',
  "[]",
  " ",
  "\t",
  "json:",
  "null-co",
  "x".repeat(5000),
];

function mutatedWord(word: string, random: Random): string {
  const at = random(word.length + 1);
  switch (random(5)) {
    case 0:
      return word.slice(0, at) + word.slice(at + 1 + random(4));
    case 1:
      return word.slice(0, at) + pieces[random(pieces.length)]! + word.slice(at);
    case 2:
      return word.slice(0, at) + String.fromCharCode(33 + random(94)) + word.slice(at + 1);
    case 3:
      return `${word},${word.slice(at)}`;
    default:
      return word
        .split(/(?=[,=])/)
        .toSorted(() => random(3) - 1)
        .join("");
  }
}

function mutatedLine(random: Random): string[] {
  const chosen = Array.from({ length: 1 + random(5) }, () => parts[random(parts.length)]!);
  const words = chosen.flat();
  for (let left = 1 + random(3); left > 0; left--) {
    const at = random(words.length);
    const [word = ""] = words.splice(at, 1);
    // One that goes to the background is not one of this test's processes.
    const put = random(6) === 0 ? [] : random(6) === 0 ? [word, word] : [mutatedWord(word, random)];
    words.splice(at, 0, ...put.map((text) => text.replace(/-daemonize/, "-version")));
  }
  return words;
}

/** How it ended, and what it said of itself. */
async function run(words: readonly string[], cwd: string): Promise<{ status: number | null; said: string }> {
  const args = [program, "--run-as=qemu-system-x86_64", ...words, "-qmp", "stdio"];
  const child = spawn(process.execPath, args, { cwd, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      // It serves somewhere; where nobody can be asked on these pipes, it is told to end.
      if (said.includes('"QMP"')) child.stdin.end('{"execute":"qmp_capabilities"}{"execute":"quit"}\n');
    });
  child.stdin.on("error", () => undefined);
  const patience = setTimeout(() => child.kill("SIGTERM"), 20_000);
  const hang = setTimeout(() => child.kill("SIGKILL"), HANG_MS);
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(patience);
  clearTimeout(hang);
  return { status, said };
}

beforeAll(async () => {
  await must("qemu-img", "create", "-q", "-f", "qcow2", join(home, "a.qcow2"), "1M");
  writeFileSync(join(home, "b.raw"), new Uint8Array(2 ** 20));
  writeFileSync(join(home, "f.img"), new Uint8Array(1440 * 1024));
  for (const name of images) contents.set(name, readFileSync(join(home, name)));
});

afterAll(() => rmSync(home, { recursive: true, force: true }));

test(
  "mutated command lines are refused, or machines that end when they are asked to",
  { timeout: COUNT * 10_000 + 3 * HANG_MS },
  async () => {
    const first = only === undefined ? 1 : Number(only);
    let next = first;
    let ran = 0;
    const worker = async (place: string): Promise<void> => {
      for (const count = only === undefined ? COUNT : 1; next < first + count;) {
        const seed = next++;
        mkdirSync(place);
        for (const [name, bytes] of contents) writeFileSync(join(place, name), bytes);
        const words = mutatedLine(randomness(seed));
        const { status, said } = await run(words, place);
        const what = `FUZZ_SEED=${seed} npx vitest run --project fuzz test/fuzz/machine-lines.test.ts\n${JSON.stringify(words)}\n${said}`;
        expect([0, 1], what).toContain(status);
        expect(said, what).not.toMatch(/internal error|AssertionError|\bat .+:\d+:\d+\)?$|Warning: /m);
        for (const name of images)
          expect(readFileSync(join(place, name)).equals(contents.get(name)!), what).toBe(true);
        if (status === 0) ran += 1;
        rmSync(place, { recursive: true });
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, (_, i) => worker(join(home, `${i}`))));
    if (COUNT >= 60 && only === undefined) expect(ran, "some lines are good").toBeGreaterThan(0);
  },
);
