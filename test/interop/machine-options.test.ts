// Options that come out of files (`-readconfig`), and drives whose changes go with the machine (`snapshot=on`, `-snapshot`), beside the
// real qemu-system-x86_64.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Machines, qmp } from "./support/machines.ts";

const machines = new Machines();
afterAll(() => machines.remove());
beforeAll(() => {
  machines.tool("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M");
  machines.tool("qemu-img", "create", "-q", "-f", "raw", "b.raw", "1M");
});

const questions = [qmp("query-block"), qmp("query-name"), qmp("query-chardev"), "info block"];

describe("-readconfig", () => {
  it.each<[string, string]>([
    ["a drive", '[drive "d"]\n  file = "b.raw"\n  format = "raw"\n  if = "none"\n'],
    [
      "a drive and its device",
      '# words\n\n[drive "d"]\n  file = "a.qcow2"\n  if = "none"\n[device "x"]\n  driver = "virtio-blk-pci"\n  drive = "d"\n',
    ],
    ["a name and character devices", '[name]\n guest = "a,b"\n[chardev "c"]\n backend = "null"\n'],
    ["an object", '[object "t"]\n qom-type = "throttle-group"\n'],
    ["a group without options", "[name]\n"],
    ["a header that does not end", '[drive "d"\n if = "none"\n'],
    ["a group that is not there", '[foo]\n a = "b"\n'],
    ["a group that is not there, without options", "[foo]\n"],
    ["an option without a group", ' a = "b"\n'],
    ["a line of blanks", '[drive "d"]\n  if = "none"\n   \n'],
    ["a value without quotes", '[drive "d"]\n  foo = b.raw\n  if = "none"\n'],
    ["an option that is not there", '[drive "d"]\n  foo = "b"\n'],
    ["a name that is taken", '[drive "d"]\n  if = "none"\n[drive "d"]\n  file = "a.qcow2"\n'],
    ["a device of no kind", '[device "z"]\n driver = "foo"\n[name]\n guest = "q"\n'],
    ["a device without a kind", '[device "z"]\n drive = "foo"\n'],
    ["a device without its drive", '[device]\n  driver = "ide-hd"\n  drive = "q"\n'],
    ["an object of no kind", '[object "z"]\n qom-type = "foo"\n'],
    ["a monitor without its character device", '[mon "m"]\n chardev = "q"\n'],
    ["no medium of that kind", '[drive "d"]\n if = "none"\n media = "foo"\n'],
    ["no bus of that kind", '[drive "d"]\n if = "foo"\n file = "b.raw"\n'],
    ["a file that is not there", '[drive "d"]\n if = "none"\n file = "nope"\n'],
    ["descriptors", '[add-fd]\n fd = "1"\n set = "2"\n'],
  ])("of %s", async (_what, text) => {
    writeFileSync(join(machines.folder, "c.cfg"), text);
    await machines.expectSame(["-readconfig", "c.cfg"], questions);
  });

  it.each(["nope.cfg", "/"])("of %s", async (name) => {
    await machines.expectSame(["-readconfig", name], []);
  });
});

describe("drives whose changes go", () => {
  const steps = [
    "info status",
    'qemu-io d "write -P 5 0 64k"',
    'qemu-io d "read -P 5 0 64k"',
    qmp("blockdev-add", { driver: "file", "node-name": "f", filename: "b.raw", "read-only": true }),
  ];
  const drive = "if=none,id=d,file=b.raw,format=raw";

  it.each<[string, string[]]>([
    ["by the drive's option", ["-drive", `${drive},snapshot=on`]],
    ["by the machine's", ["-drive", drive, "-snapshot"]],
    ["but for a drive that wants to keep them", ["-drive", `${drive},snapshot=off`, "-snapshot"]],
    ["over qcow2", ["-drive", "if=none,id=d,file=a.qcow2,snapshot=on"]],
  ])("%s", async (_what, options) => {
    await machines.expectSame(options, steps);
  });

  it("are written into the image by commit", async () => {
    const lines = ['qemu-io d "write -P 5 0 64k"', "commit d"];
    const options = ["-drive", `${drive},snapshot=on`];
    const { its, mine } = await machines.answers(options, lines);
    const said = ({ answers }: { answers?: unknown }): unknown => answers;
    expect(said(mine as object)).toEqual(said(its as object));
  });

  it("are refused as their images are", async () => {
    await machines.expectSame(["-drive", "if=none,id=d,file=nope,snapshot=on"], []);
  });
});
