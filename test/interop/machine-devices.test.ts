// Devices of `blockwright machine` beside the real qemu-system-x86_64: `info qtree`, where devices go on their buses, and properties that
// are refused.
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Machines } from "./support/machines.ts";
import { program } from "./support/twins.ts";
import { HANG_MS } from "../support/until.ts";

const machines = new Machines();
afterAll(() => machines.remove());
beforeAll(() => {
  for (const name of ["a", "b", "c", "d", "e"])
    machines.tool("qemu-img", "create", "-q", "-f", "raw", `${name}.raw`, "720k");
  machines.tool("qemu-img", "create", "-q", "-f", "raw", "large.raw", "1G");
});

const drive = (name: string, file = name): string[] => [
  "-drive",
  `if=none,id=${name},file=${file}.raw,format=raw`,
];
const device = (...words: string[]): string[] => words.flatMap((word) => ["-device", word]);

/** What is about disks: their devices and controllers, and the chips on which these are. */
const KEPT =
  /^(i440FX-pcihost|piix3-ide|PIIX3|isa-fdc|pci-bridge|virtio-\S+|lsi53c895a|scsi-\S+|ide-\S+|floppy),/;

/** `info qtree` without the devices, and all that is on them, that are not about disks. */
function disksOnly(text: string): string[] {
  const kept: string[] = [];
  let skipped = Infinity;
  for (const line of text.split("\r\n")) {
    const depth = line.length - line.trimStart().length;
    if (depth > skipped) continue;
    skipped = Infinity;
    if (line.trim().startsWith("dev: ") && !KEPT.test(line.trim().slice(5))) skipped = depth;
    else kept.push(line);
  }
  return kept;
}

const answersOf = (told: unknown): string[] =>
  (told as { answers: { return?: unknown }[] }).answers
    .map((answer) => answer.return)
    .filter((answer): answer is string => typeof answer === "string");

describe("info qtree", () => {
  it.each<[string, string[]]>([
    ["of an empty machine", []],
    ["of no machine", ["-machine", "none"]],
    [
      "of every model",
      [
        ...["a", "b", "c", "d"].flatMap((name) => drive(name)),
        ...device("virtio-scsi-pci,id=s", "scsi-hd,drive=a,id=hd", "scsi-cd,id=cd", "lsi53c895a,id=l"),
        ...device("scsi-hd,drive=b", "pci-bridge,id=br,chassis_nr=1", "ide-hd,drive=d", "ide-cd", "floppy"),
        ...device("virtio-blk-pci,drive=c,bus=br,werror=stop,serial=abc"),
      ],
    ],
    [
      "with properties",
      [
        ...[...drive("a"), ...drive("b"), ...drive("c"), ...drive("large")],
        ...device("virtio-scsi,num_queues=3", "scsi-hd,drive=a,serial=xyz,wwn=0x5000c500a,scsi-id=5,lun=2"),
        ...device(
          "virtio-blk,drive=b,num-queues=2,share-rw=on,discard_granularity=64k,addr=7.0,cyls=5,heads=3,secs=7",
        ),
        ...device("ide-hd,drive=large,unit=1,bus=ide.1,model=foo,opt_io_size=512", "floppy,drive=c,unit=1"),
      ],
    ],
    [
      "of drives that name a bus",
      [
        "-hda",
        "a.raw",
        "-drive",
        "if=ide,index=3,format=raw,file=b.raw",
        "-drive",
        "if=virtio,format=raw,file=c.raw",
      ],
    ],
    [
      "of a node without a drive",
      ["-blockdev", "raw,node-name=n,file.driver=file,file.filename=a.raw", ...device("virtio-blk,drive=n")],
    ],
  ])("%s", async (_name, words) => {
    const { its, mine } = await machines.answers(["-S", ...words], ["info qtree"]);
    const [theirs, ours] = [its, mine].map((told) => answersOf(told).flatMap(disksOnly));
    expect(ours).toEqual(theirs);
  });
});

const one = drive("a");
const two = [...one, ...drive("b")];
const json = (members: object): string[] =>
  device(JSON.stringify({ driver: "virtio-blk", drive: "a", ...members }));

const refused: readonly string[][] = [
  ...["scsi=foo", "num-queues=foo", "num-queues=-1", "num-queues=99999", "foo=bar"],
  ...["logical_block_size=foo", "logical_block_size=100", "logical_block_size=4096"],
  ...["physical_block_size=700", "opt_io_size=100", "discard_granularity=100"],
  ...["write-cache=foo", "rerror=foo", "bootindex=foo", "cyls=5"],
  ...["cyls=99999,heads=1,secs=1", "queue-size=3", "id=1x", "addr=0", "addr=foo"],
  ...["addr=20", "bus=foo", "bus=ide.0"],
]
  .map((word) => [...one, ...device(`virtio-blk,drive=a,${word}`)])
  .concat([
    ...[
      "unit=foo",
      "unit=2",
      "bios-chs-trans=foo",
      "cyls=70000,heads=1,secs=1",
      "cyls=1,heads=17,secs=1",
    ].map((word) => [...one, ...device(`ide-hd,drive=a,${word}`)]),
    ...["logical_block_size=4096", "physical_block_size=1024", "drive-type=foo", "unit=2"].map((word) => [
      ...one,
      ...device(`floppy,drive=a,${word}`),
    ]),
    ...["wwn=foo", "scsi-id=foo", "scsi-id=300", "channel=1", "lun=99999"].map((word) => [
      ...one,
      ...device("virtio-scsi", `scsi-hd,drive=a,${word}`),
    ]),
    ...[
      "pci-bridge",
      "pci-bridge,chassis_nr=300",
      "virtio-scsi,num_queues=0",
      "virtio-blk,drive=",
      "foo",
      ",",
    ].map((word) => device(word)),
    [...one, ...device("lsi", "scsi-hd,drive=a,scsi-id=8")],
    [...one, ...device("lsi", "scsi-hd,drive=a,lun=9")],
    [...two, ...device("lsi", "scsi-hd,drive=a,scsi-id=3", "scsi-hd,drive=b,scsi-id=3")],
    [...two, ...device("virtio-scsi", "scsi-hd,drive=a,scsi-id=3,lun=1", "scsi-hd,drive=b,scsi-id=3,lun=1")],
    [...two, ...device("virtio-blk,drive=a,addr=5", "virtio-blk,drive=b,addr=5")],
    [...two, ...device("virtio-blk,drive=a,id=x,addr=5", "virtio-blk,drive=b,addr=5")],
    [...two, ...device("ide-hd,drive=a,bus=ide.0,unit=0", "ide-hd,drive=b,bus=ide.0,unit=0")],
    [...two, ...device("floppy,unit=1,drive=a", "floppy,unit=1,drive=b")],
    [...two, ...drive("c"), ...device("floppy,drive=a", "floppy,drive=b", "floppy,drive=c")],
    [...one, ...device("virtio-blk,drive=a,id=x", "virtio-scsi,id=x")],
    [...one, ...device("ide-hd,drive=a,bus=ide.0,unit=0"), "-drive", "if=ide,index=0,format=raw,file=b.raw"],
    device(...Array.from({ length: 31 }, () => "virtio-scsi")),
    [...one, ...json({ serial: 5 })],
    [...one, ...json({ "num-queues": -1 })],
    [...one, ...json({ "share-rw": 1 })],
    [...one, ...json({ drive: 5 })],
  ]);

const QUIET = ["-nodefaults", "-display", "none", "-monitor", "none", "-serial", "none"];

/** What a machine says that does not start. One that did would be ended, by no option here. */
function failure(
  [command = "", ...words]: readonly string[],
  args: readonly string[],
): { stderr: string; status: number | null } {
  const { stderr, status } = spawnSync(command, [...words, ...QUIET, ...args], {
    cwd: machines.folder,
    encoding: "utf8",
    timeout: HANG_MS,
  });
  return { stderr, status };
}

const ours = [process.execPath, program, "--run-as=qemu-system-x86_64"];

it.each(
  refused.map(
    (words) =>
      [
        words
          .filter((word) => word !== "-device")
          .slice(-2)
          .join(" "),
        words,
      ] as const,
  ),
)("refuses %s", (_name, words) => {
  const expected = failure(["qemu-system-x86_64"], words);
  expect(expected.status, "the real one").toBe(1);
  expect(failure(ours, words)).toEqual(expected);
});

it.each([
  "virtio-blk",
  "virtio-scsi",
  "scsi-hd",
  "scsi-cd",
  "ide-hd",
  "ide-cd",
  "floppy",
  "lsi",
  "pci-bridge",
])("tells the properties of %s", (model) => {
  const told = (command: readonly string[]): string => {
    const [name = "", ...words] = command;
    return spawnSync(name, [...words, "-device", `${model},help`], { encoding: "utf8" }).stdout;
  };
  expect(told(ours)).toBe(told(["qemu-system-x86_64"]));
});
