// The programs that `blockwright shims` makes, against QEMU's own: what scripts parse of --version and --help, wrong command
// lines with their words and statuses, and work done by a script that expects QEMU.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { program } from "./support/twins.ts";

const names = ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"] as const;
const all = [...names, "qemu-system-x86_64"];
let shims = "";
let directory = "";

beforeAll(() => {
  shims = join(mkdtempSync(join(tmpdir(), "blockwright-shims-")), "a dir's");
  const made = execFileSync(process.execPath, [program, "shims", shims], { encoding: "utf8" });
  expect(made).toBe(all.map((name) => `${join(shims, name)}\n`).join(""));
});

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-shims-work-"));
  return () => rmSync(directory, { recursive: true, force: true });
});

afterAll(() => rmSync(join(shims, ".."), { recursive: true, force: true }));

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

function run(command: string, args: readonly string[], input = ""): Ended {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", cwd: directory, input });
  return { status, stdout, stderr };
}

/** What both programs of a name do. */
function both(name: string, args: readonly string[], input = ""): [ours: Ended, theirs: Ended] {
  return [run(join(shims, name), args, input), run(name, args, input)];
}

describe.each(names)("%s", (name) => {
  it("tells its version as QEMU's", () => {
    const [ours, theirs] = both(name, ["--version"]);
    const pattern = /^(qemu-[\w-]+ (?:version )?\d+\.\d+\.\d+) \(/;
    expect(pattern.exec(ours.stdout)?.[1]).toBe(pattern.exec(theirs.stdout)?.[1]);
    expect(ours).toMatchObject({ status: 0, stderr: "" });
    expect(ours.stdout).toContain("(Blockwright ");
    expect(run(join(shims, name), ["-V"]).stdout).toBe(ours.stdout);
  });

  it("begins its help as QEMU's", () => {
    const [ours, theirs] = both(name, ["--help"]);
    const head = ({ stdout }: Ended): string[] =>
      stdout
        .slice(0, stdout.indexOf("\n\n"))
        .split("\n")
        .filter((line) => !line.startsWith("Copyright"))
        .map((line) => line.replace(/ \(.*$/, ""));
    expect(head(ours)).toEqual(head(theirs));
    expect(head(ours).join()).toContain(name);
    expect(ours.status).toBe(0);
    expect(ours.stdout).not.toContain("blockwright");
    expect(ours.stdout).not.toMatch(/qemu-\S+ (?:nbd|io|daemon|machine) /);
  });

  it("refuses an option that there is not", () => {
    const [ours, theirs] = both(name, ["--nonsense"]);
    expect(ours.status).toBe(theirs.status);
    expect(ours.stderr.split("\n")[0]).toBe(theirs.stderr.split("\n")[0]);
  });
});

it.each([
  ["qemu-img", []],
  ["qemu-img", ["nonsense"]],
  ["qemu-img", ["mirror", "a", "b"]],
  ["qemu-img", ["create", "--nonsense"]],
  ["qemu-img", ["info", "missing"]],
  ["qemu-img", ["info", "-f"]],
  ["qemu-io", ["-c", "read 0 1", "missing"]],
  ["qemu-storage-daemon", ["nonsense"]],
  ["qemu-storage-daemon", ["--chardev"]],
  ["qemu-storage-daemon", ["--blockdev", "driver=nonsense,node-name=x"]],
])("%s %j fails as QEMU's does, word by word", (name, args) => {
  const [ours, theirs] = both(name, args);
  expect(ours).toEqual(theirs);
});

it("names the formats where scripts look for them", () => {
  const [ours, theirs] = both("qemu-img", ["--help"]);
  const formats = ({ stdout }: Ended): string[] =>
    /^Supported formats: (.*)$/m.exec(stdout)?.[1]?.split(" ") ?? [];
  expect(formats(ours)).toEqual(expect.arrayContaining(["file", "luks", "qcow2", "raw"]));
  expect(formats(theirs)).toEqual(expect.arrayContaining(["file", "luks", "qcow2", "raw"]));
  // Tests of QEMU's look here for it.
  expect(formats(ours)).toContain("quorum");
  const [machine] = both("qemu-system-x86_64", ["-drive", "format=help"]);
  expect(formats(ours)).toEqual(formats(machine));
});

it("serve a script that expects QEMU", () => {
  const script = `
    set -e
    qemu-img create -f qcow2 base.qcow2 1M
    qemu-io -f qcow2 -c 'write -q -P 5 0 64k' base.qcow2
    qemu-img create -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
    printf 'write -q -P 6 64k 64k\\nquit\\n' | qemu-io -f qcow2 top.qcow2
    qemu-img amend -o backing_file=x top.qcow2 2>&1 || true
    qemu-img map --output=json top.qcow2
    qemu-img commit -q top.qcow2
    qemu-img compare -f qcow2 -F qcow2 base.qcow2 top.qcow2
    qemu-img check base.qcow2`;
  const answer = (path: string): string => {
    const env = { ...process.env, PATH: path };
    const text = execFileSync("/bin/sh", ["-c", script], { cwd: directory, encoding: "utf8", env });
    rmSync(join(directory, "base.qcow2"));
    rmSync(join(directory, "top.qcow2"));
    return text;
  };
  const path = process.env["PATH"] ?? "";
  const ours = answer(`${shims}${delimiter}${path}`);
  expect(ours).toBe(answer(path));
  expect(ours).toContain("qemu-img: Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.\n");
});

it("run the daemon in the background under its name", () => {
  const pidfile = join(directory, "pid");
  const socket = join(directory, "s");
  const chardev = ["--chardev", `socket,id=m,path=${socket},server=on,wait=off`, "--monitor", "chardev=m"];
  const started = run(join(shims, "qemu-storage-daemon"), ["--daemonize", "--pidfile", pidfile, ...chardev]);
  expect(started).toEqual({ status: 0, stdout: "", stderr: "" });
  const pid = Number(readFileSync(pidfile, "utf8"));
  expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toContain("--run-as=qemu-storage-daemon");
  expect(existsSync(socket)).toBe(true);
  process.kill(pid, "SIGTERM");
});

it.each([["shims"], ["man", "--all"]])("%s ends where no folder can be made", (...words) => {
  expect(run(process.execPath, [program, ...words, "/proc/none"])).toEqual({
    ...{ status: 1, stdout: "" },
    stderr: "blockwright: '/proc/none': No such file or directory\n",
  });
});

it("are not written over what somebody else has made", () => {
  symlinkSync("/bin/true", join(directory, "qemu-io"));
  const args = [program, "shims", directory];
  const refused = run(process.execPath, args);
  expect(refused).toMatchObject({ status: 1, stdout: "" });
  expect(refused.stderr).toBe(
    `blockwright: '${join(directory, "qemu-io")}' exists; --force writes over it\n`,
  );
  expect(existsSync(join(directory, "qemu-img"))).toBe(false);
  expect(run(process.execPath, [...args, "--force", "-q"])).toEqual({ status: 0, stdout: "", stderr: "" });
  // Its own are made anew without a word.
  expect(run(process.execPath, args).status).toBe(0);
  writeFileSync(join(directory, "qemu-img"), "mine");
  expect(run(process.execPath, args).status).toBe(1);
});
