// A Linux guest for v86, put together at test time: Debian's i386 kernel, and an initrd with its busybox and the modules for
// an IDE disk. Packages come by an apt directory of our own for i386, from the mirror that this system uses; they and the
// result are kept below build/test, and nothing of it is committed.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../root.ts";

const folder = join(root, "build", "test", "debian-i386/");
/** What the guest needs for its disk; what these depend on is found. */
const MODULES = ["ata_piix", "sd_mod"];

/** How every first program begins: the disk is there behind it. */
export const START = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
export PATH=/bin
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
until [ -b /dev/sda ]; do busybox sleep 1; done
`;

/** The tests' first program: hashes the disk, writes to it, hashes it again. */
const INIT = `${START}
echo START
echo "BEFORE $(busybox md5sum < /dev/sda)"
busybox yes blockwright | busybox dd of=/dev/sda bs=64k seek=32 count=16 iflag=fullblock conv=fsync 2> /dev/null
echo "WROTE $?"
echo 3 > /proc/sys/vm/drop_caches
echo "AFTER $(busybox md5sum < /dev/sda)"
while true; do echo TICK; busybox sleep 1; done
`;

/** Where the guest writes, and what: for the test's own copy of the disk. */
export const LINUX_WRITE = { offset: 32 * 65_536, bytes: 16 * 65_536, line: "blockwright\n" };

/** What v86 boots. */
export interface LinuxGuest {
  kernel: Uint8Array;
  initrd: Uint8Array;
}

/**
 * The kernel, and an initrd with `init` as its first program; what they are made of is fetched if it is not there yet, which
 * takes a minute and the network.
 */
export function linuxGuest(init = INIT): LinuxGuest {
  const [kernel, parts] = [join(folder, "vmlinuz"), join(folder, "parts.cpio")];
  if (!existsSync(parts)) build();
  // The kernel unpacks one archive after the other.
  const initrd = Buffer.concat([readFileSync(parts), cpio([["init", 0o100755, Buffer.from(init)]])]);
  return { kernel: new Uint8Array(readFileSync(kernel)), initrd: new Uint8Array(initrd) };
}

/** The mirror of Debian's main archive that this system takes packages from. */
function mirror(): string {
  const format = ["--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"];
  const lines = execFileSync("apt-get", ["indextargets", ...format], { encoding: "utf8" }).split("\n");
  const main = lines
    .map((line) => line.split(" "))
    .find(([, name, part]) => name === "bookworm" && part === "main");
  return main?.[0] ?? "http://deb.debian.org/debian";
}

/** Runs apt for i386 in a directory of its own. */
function apt(program: "apt-get" | "apt-cache", ...args: string[]): string {
  const options = [
    `Dir::State=${folder}apt/state`,
    `Dir::State::lists=${folder}apt/lists`,
    `Dir::State::status=${folder}apt/status`,
    `Dir::Cache=${folder}apt/cache`,
    `Dir::Etc::sourcelist=${folder}apt/sources.list`,
    "Dir::Etc::sourceparts=-",
    "APT::Architecture=i386",
    "APT::Architectures=i386",
    "APT::Sandbox::User=root",
    "Acquire::Languages=none",
  ];
  return execFileSync(program, [...options.flatMap((option) => ["-o", option]), "-q", ...args], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
}

function build(): void {
  rmSync(folder, { recursive: true, force: true });
  for (const name of ["state", "lists/partial", "cache/archives/partial"])
    mkdirSync(join(folder, "apt", name), { recursive: true });
  writeFileSync(join(folder, "apt", "status"), "");
  // The security suite's index for i386 may lag behind its signature.
  writeFileSync(join(folder, "apt", "sources.list"), `deb ${mirror()} bookworm main\n`);
  apt("apt-get", "update");
  const kernels = apt("apt-cache", "search", "--names-only", "^linux-image-6\\.1\\.0-[0-9]+-686-unsigned$")
    .split("\n")
    .flatMap((line) => /^\S+/.exec(line)?.[0] ?? []);
  const number = (name: string): number => Number(/0-(\d+)-/.exec(name)?.[1]);
  const kernel = kernels.toSorted((a, b) => number(a) - number(b)).at(-1);
  if (!kernel) throw new Error("Debian has no i386 kernel any more");
  apt("apt-get", "download", kernel, "busybox-static");
  const unpacked = join(folder, "root");
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".deb")))
    execFileSync("dpkg-deb", ["-x", join(folder, name), unpacked]);
  const version = kernel.slice("linux-image-".length, -"-unsigned".length);
  writeFileSync(join(folder, "parts.new"), partsOf(unpacked, version));
  writeFileSync(join(folder, "vmlinuz"), readFileSync(join(unpacked, "boot", `vmlinuz-${version}`)));
  rmSync(unpacked, { recursive: true });
  renameSync(join(folder, "parts.new"), join(folder, "parts.cpio"));
}

/** What every initrd has: busybox, and the modules for the disk. */
function partsOf(unpacked: string, version: string): Uint8Array {
  const modules = modulesOf(join(unpacked, "lib", "modules", version));
  const files: [name: string, mode: number, data: Uint8Array][] = [
    ["bin", 0o040755, new Uint8Array()],
    ["bin/busybox", 0o100755, readFileSync(join(unpacked, "bin", "busybox"))],
    ["modules", 0o040755, new Uint8Array()],
    ["modules/order", 0o100644, Buffer.from(modules.map(([name]) => name).join("\n"))],
    ...modules.map(([name, data]): [string, number, Uint8Array] => [`modules/${name}`, 0o100644, data]),
  ];
  return cpio(files);
}

/** The modules, each behind those that it depends on (which its .modinfo names). */
function modulesOf(folderOfKernel: string): [name: string, data: Uint8Array][] {
  const paths = new Map<string, string>();
  for (const path of readdirSync(folderOfKernel, { recursive: true, encoding: "utf8" })) {
    const name = /([^/]+)\.ko$/.exec(path)?.[1];
    if (name) paths.set(name.replaceAll("-", "_"), join(folderOfKernel, path));
  }
  const taken = new Map<string, Uint8Array>();
  const take = (name: string): void => {
    const path = paths.get(name.replaceAll("-", "_"));
    if (!path) throw new Error(`the kernel has no module '${name}'`);
    if (taken.has(`${name}.ko`)) return;
    const data = readFileSync(path);
    const depends = /\0depends=([^\0]*)\0/.exec(data.toString("latin1"))?.[1] ?? "";
    for (const other of depends.split(",").filter((one) => one !== "")) take(other);
    taken.set(`${name}.ko`, data);
  };
  for (const name of MODULES) take(name);
  return [...taken];
}

/** An archive in cpio's format newc, which the kernel unpacks. */
function cpio(files: readonly (readonly [name: string, mode: number, data: Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const pad = (length: number): Uint8Array => new Uint8Array((4 - (length % 4)) % 4);
  const add = (name: string, mode: number, data: Uint8Array, inode: number): void => {
    const fields = [inode, mode, 0, 0, 1, 0, data.byteLength, 0, 0, 0, 0, name.length + 1, 0];
    const hex = fields.map((field) => field.toString(16).padStart(8, "0")).join("");
    const head = Buffer.from(`070701${hex}${name}\0`);
    parts.push(head, pad(head.byteLength), data, pad(data.byteLength));
  };
  for (const [i, [name, mode, data]] of files.entries()) add(name, mode, data, i + 1);
  add("TRAILER!!!", 0, new Uint8Array(), 0);
  return new Uint8Array(Buffer.concat(parts));
}
