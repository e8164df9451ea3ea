// An image on a file system whose server does not answer (nbdfuse of libnbd, which is stopped): the program hears Ctrl-C while it waits for
// opening or looking at a file, ends at the second one at the latest, and has made nothing.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { program } from "../support/verb-client.ts";
import { HANG_MS } from "../support/until.ts";

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

// The mount has a folder of its own, which nobody looks into while its server is stopped.
const folder = mkdtempSync(join(tmpdir(), "blockwright-stalled-mount-"));
const mounts = mkdtempSync(join(tmpdir(), "blockwright-mount-"));
const disk = join(mounts, "disk.img");
let server: ChildProcess | undefined;
/** Why there is none. */
let reason: string | undefined;

const isMounted = (): boolean => readFileSync("/proc/self/mountinfo", "utf8").includes(disk);

/** Where the threads of a process wait in the kernel; empty once it has ended, or where the kernel does not tell. */
function places(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/wchan`, "utf8"),
    );
  } catch {
    return [];
  }
}

const waits = (pid: number): boolean => places(pid).some((place) => /request_wait_answer|fuse/.test(place));

beforeAll(async () => {
  if (!existsSync("/dev/fuse")) return void (reason = "there is no /dev/fuse");
  if (places(process.pid).every((place) => place === "0"))
    return void (reason = "the kernel does not tell where a process waits");
  writeFileSync(disk, "");
  const words = [disk, "[", "nbdkit", "memory", "64M", "]"];
  // A group of its own: what nbdfuse starts ends with it.
  server = spawn("nbdfuse", words, { stdio: "ignore", detached: true });
  let ended: string | undefined;
  server
    .once("error", (error) => (ended = error.message))
    .once("exit", () => (ended ??= "nbdfuse has ended"));
  while (!isMounted() && ended === undefined) await pause(20);
  if (ended !== undefined) return void (reason = ended);
  process.kill(server.pid!, "SIGSTOP");
  // What it has told is known for a while; after that whoever asks waits.
  for (let isKnown = true; isKnown;) {
    const asker = spawn("stat", [disk], { stdio: "ignore" });
    let answered = false;
    asker.once("close", () => (answered = true));
    while (!answered && !waits(asker.pid!)) await pause(10);
    isKnown = answered;
    asker.kill("SIGKILL");
  }
}, HANG_MS);

afterAll(async () => {
  if (server?.pid !== undefined && reason === undefined) {
    // What waits for it fails then.
    process.kill(-server.pid, "SIGKILL");
    execFileSync("umount", ["-l", disk], { stdio: "ignore" });
  }
  for (const path of [folder, mounts]) rmSync(path, { recursive: true, force: true });
}, HANG_MS);

/** Whether a SIGINT was sent that it has not taken yet. */
function isSignalled(pid: number): boolean {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return /^ShdPnd:\s*[0-9a-f]*[2367abef]$/m.test(status);
}

/** Runs a verb and interrupts it twice while it waits for the file: its status, or the signal that ended it, and what it said. */
async function interrupted(words: readonly string[]): Promise<{ end: unknown; said: string }> {
  const child = spawn(process.execPath, [program, ...words], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const pid = child.pid!;
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (more: string) => (said += more));
  const closed = new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal)));
  let isOver = false;
  void closed.then(() => (isOver = true));
  const until = async (condition: () => boolean): Promise<void> => {
    while (!isOver && !condition()) await pause(10);
  };
  await until(() => waits(pid));
  child.kill("SIGINT");
  await until(() => !isSignalled(pid));
  child.kill("SIGINT");
  return { end: await closed, said };
}

describe.each([
  ["info", "-f", "raw", disk],
  ["info", disk],
  ["check", disk],
  ["convert", "-O", "qcow2", disk, "copy.qcow2"],
  ["create", "-f", "qcow2", "-b", disk, "-F", "raw", "overlay.qcow2"],
])("%s %s", (...words) => {
  test("ends, and has made nothing", { timeout: HANG_MS }, async (context) => {
    if (reason !== undefined) context.skip(reason);
    const { end, said } = await interrupted(words);
    expect(said).toMatch(/^blockwright: (?:cancelled by SIGINT|ended by a second SIGINT: .*)\n$/);
    // Without native calls the system ends it.
    expect([130, "SIGKILL"]).toContain(end);
    expect(readdirSync(folder)).toEqual([]);
  });
});
