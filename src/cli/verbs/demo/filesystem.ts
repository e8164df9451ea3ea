/**
 * A filesystem to copy: ext4 made by mke2fs (of e2fsprogs) out of this package's own files, in three states of its life,
 * so that each image of the chain holds the blocks that one more change touched. Without mke2fs the files are laid on
 * the disk one after the other.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MiB = 1024 * 1024;

/** Size of the demo's disk, bytes. */
export const DISK_BYTES = 256 * MiB;

/** Programs that administrators have and users' PATHs often lack. */
const PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;

/** The raw disk, and how to go to its next state. */
export interface Filesystem {
  /** Raw image. */
  path: string;
  /** What it is, for the user. */
  kind: string;
  /** Changes files, as somebody who works would; `round` 1, 2 … */
  change(round: number): void;
}

function run(program: string, args: readonly string[], input?: string): boolean {
  const options = { env: { ...process.env, PATH }, stdio: ["pipe", "ignore", "ignore"] as const };
  const { status, error } = spawnSync(program, args, {
    ...options,
    stdio: [...options.stdio],
    input: input ?? "",
  });
  return error === undefined && status === 0;
}

/** Copies what makes up the package into `folder`. */
function stage(folder: string): void {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  mkdirSync(folder);
  for (const name of ["src", "docs", "assembly", "build", "test", "README.md", "LICENSE", "package.json"]) {
    const from = join(root, name);
    if (existsSync(from))
      cpSync(from, join(folder, name), { recursive: true, filter: (path) => !path.endsWith(".map") });
  }
}

/** Makes the first state in `directory`. */
export function makeFilesystem(directory: string): Filesystem {
  const staged = join(directory, "files");
  const path = join(directory, "disk.raw");
  stage(staged);
  writeFileSync(path, "");
  truncateSync(path, DISK_BYTES);
  if (run("mke2fs", ["-q", "-F", "-t", "ext4", "-L", "blockwright", "-d", staged, path]))
    return { path, kind: "ext4", change: (round) => changeExt4(path, { directory, round }) };
  layOut(path, staged, 0);
  return {
    path,
    kind: "plain files (mke2fs is not installed)",
    change: (round) => layOut(path, staged, round),
  };
}

/** Writes files of some megabytes and removes others, by debugfs. */
function changeExt4(path: string, { directory, round }: { directory: string; round: number }): void {
  const file = join(directory, `notes-${round}`);
  const text = `Change ${round} of the demo's disk.\n`;
  writeFileSync(file, text.repeat(Math.ceil((3 * MiB) / text.length)));
  const script = `mkdir round-${round}\nwrite ${file} round-${round}/notes.txt\nwrite ${file} round-${round}/copy.txt\nrm README.md\nquit\n`;
  if (!run("debugfs", ["-w", "-f", "-", path], script)) layOut(path, join(directory, "files"), round);
}

/** Writes each file at the next 64 KiB, in another place for each round. */
function layOut(path: string, folder: string, round: number): void {
  const disk = readFileSync(path);
  let at = round * 64 * MiB;
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" }).toSorted()) {
    const file = join(folder, name);
    if (!statSync(file).isFile()) continue;
    const bytes = readFileSync(file);
    if (at + bytes.byteLength > disk.byteLength) break;
    disk.set(bytes, at);
    at += Math.ceil(bytes.byteLength / 65536) * 65536;
    if (round > 0 && at > round * 64 * MiB + 4 * MiB) break;
  }
  writeFileSync(path, disk);
}
