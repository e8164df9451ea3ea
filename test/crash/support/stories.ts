// One story: a job in a process of its own, a kill at some moment, and a look at what is left on the disk.
import { type ChildProcess, spawn } from "node:child_process";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Daemon, type QmpMessage } from "../../support/daemon.ts";
import { checkFaults, must } from "../../support/tools.ts";
import type { GuestStory } from "../guest.ts";
import { DiskModel } from "./disk-model.ts";
import type { ImageName, JobKind } from "./kinds.ts";
import { HANG_MS } from "../../support/until.ts";

/** How far the job is known to have come when its process died. */
export interface Outcome {
  ready: boolean;
  /** The command to complete was sent, so the disk may have moved. Kinds without READY complete by themselves. */
  mayHaveCompleted: boolean;
  completed: boolean;
  /** The story's own end was reached before the kill. */
  model: DiskModel;
  /** Changes of files up to the job's end, where that was reached. */
  changes?: number;
  /** How long the job took, ms, where its end was reached. */
  tookMs?: number;
}

/** What a story needs. */
export interface StoryInit {
  kind: JobKind;
  directory: string;
  templates: string;
  /** The disk's content at the start. */
  initial: Buffer;
}

/** Copies the images that the kind needs. */
export async function stage({ kind, directory, templates }: StoryInit): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  for (const image of kind.images) await copyFile(join(templates, image), join(directory, image));
}

/** A moment of a daemon's life: after some milliseconds, or as soon as a message is read (and some time after it). */
export interface Moment {
  on: "start" | "ready" | "completing" | "completed";
  delayMs: number;
}

/** Runs the kind in a storage daemon and kills it. */
export async function daemonStory(
  init: StoryInit,
  { program, moment }: { program: readonly string[]; moment: Moment },
): Promise<Outcome> {
  const { kind } = init;
  const daemon = await Daemon.start({ program });
  const outcome: Outcome = {
    ready: false,
    mayHaveCompleted: !kind.completes,
    completed: false,
    model: new DiskModel(init.initial),
  };
  let dead: Promise<void> | undefined;
  const reached = (name: Moment["on"]): void => {
    if (name === moment.on && !dead) dead = sleep(moment.delayMs).then(() => daemon.kill());
    if (name === moment.on && moment.delayMs === 0) process.kill(daemon.pid, "SIGKILL");
  };
  let started = 0;
  let failure: string | undefined;
  const fail = (message: QmpMessage): void => {
    failure ??= `${JSON.stringify(message)} ${daemon.errors}`;
    process.kill(daemon.pid, "SIGKILL");
  };
  const take = (message: QmpMessage): void => {
    if (message.event === "BLOCK_JOB_READY") {
      outcome.ready = true;
      reached("ready");
      outcome.mayHaveCompleted = true;
      if (moment.on !== "ready") daemon.send("job-complete", { id: "job" });
    } else if (message.event === "BLOCK_JOB_COMPLETED") {
      if (message.data?.["error"] !== undefined) return fail(message);
      outcome.completed = true;
      outcome.tookMs = performance.now() - started;
      reached("completed");
    } else if (message.error) fail(message);
    else if (message.event === undefined && outcome.ready) reached("completing");
  };
  for (const node of kind.nodes(init.directory)) await daemon.execute("blockdev-add", node);
  daemon.watch(take);
  started = performance.now();
  reached("start");
  daemon.send(kind.command.execute, kind.command.arguments);
  const guard = setTimeout(() => fail({ event: "the story takes too long" }), HANG_MS);
  const { code, signal } = await daemon.exited;
  clearTimeout(guard);
  await dead;
  if (failure !== undefined) throw new Error(failure);
  if (signal !== "SIGKILL") throw new Error(`the daemon ended by itself: ${code}: ${daemon.errors}`);
  return outcome;
}

/** Runs the kind under a guest in `program`, which kills itself, or is killed after some milliseconds. */
export async function guestStory(
  init: StoryInit,
  { program, story, killAfterMs }: { program: string; story: GuestStory; killAfterMs?: number },
): Promise<Outcome> {
  const path = join(init.directory, "story.json");
  await writeFile(path, JSON.stringify(story));
  const child = spawn(process.execPath, ["--enable-source-maps", program, path], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let late = false;
  const guard = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, HANG_MS);
  const outcome: Outcome = {
    ready: false,
    mayHaveCompleted: !init.kind.completes,
    completed: false,
    model: new DiskModel(init.initial),
  };
  const log = await listen(child, (line) => {
    const started = line["event"] === "JOB_STATUS_CHANGE";
    if (!started || killAfterMs === undefined) return;
    const delay = killAfterMs;
    killAfterMs = undefined;
    setTimeout(() => child.kill("SIGKILL"), delay);
  });
  clearTimeout(guard);
  if (late) throw new Error(`the story takes too long; its log ends with ${JSON.stringify(log.slice(-5))}`);
  for (const line of log) follow(outcome, line);
  return outcome;
}

type Line = Record<string, unknown>;

/** All whole lines that a child wrote until it was killed. */
async function listen(child: ChildProcess, onLine: (line: Line) => void): Promise<Line[]> {
  const lines: Line[] = [];
  let text = "";
  let errors = "";
  child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
    const parts = (text + chunk).split("\n");
    text = parts.pop()!;
    for (const part of parts) {
      const line = JSON.parse(part) as Line;
      lines.push(line);
      onLine(line);
    }
  });
  child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
    errors += chunk;
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (...how) => resolve(how));
  });
  if (signal !== "SIGKILL") throw new Error(`the guest ended by itself: ${code}: ${errors}`);
  return lines;
}

function follow(outcome: Outcome, line: Line): void {
  const { model } = outcome;
  const id = line["id"] as number;
  if (line["say"] === "write")
    model.issue(line as unknown as { id: number; offset: number; bytes: number; value: number });
  else if (line["say"] === "written") model.complete(id);
  else if (line["say"] === "flush") model.flushIssued(id);
  else if (line["say"] === "flushed") model.flushCompleted(id);
  else if (line["say"] === "complete") outcome.mayHaveCompleted = true;
  else if (line["say"] === "done") outcome.changes = line["changes"] as number;
  else if (line["event"] === "BLOCK_JOB_READY") outcome.ready = true;
  else if (line["event"] === "BLOCK_JOB_COMPLETED") {
    const error = (line["data"] as Line)["error"];
    if (error !== undefined) throw new Error(`the job failed: ${JSON.stringify(line)}`);
    outcome.completed = true;
  }
}

/** What is wrong with the images that are left; empty if all is well. */
export async function judge(init: StoryInit, outcome: Outcome): Promise<string[]> {
  const { kind, directory } = init;
  const faults: string[] = [];
  for (const image of kind.images.filter((name) => name.endsWith(".qcow2"))) {
    const fault = await checkFaults(join(directory, image), "allowed");
    if (fault !== undefined) faults.push(fault);
  }
  const candidates = outcome.completed
    ? [kind.after]
    : outcome.mayHaveCompleted && kind.after.file !== kind.before.file
      ? [kind.before, kind.after]
      : [kind.before];
  const wrong: string[] = [];
  for (const candidate of candidates) {
    const fault = outcome.model.fault(await content(directory, candidate));
    if (fault === undefined) break;
    wrong.push(`${candidate.file}: ${fault}`);
  }
  if (wrong.length === candidates.length) faults.push(...wrong);
  if (outcome.completed) {
    faults.push(...(await copyFaults(init, kind.copy)), ...(await linkFaults(init)));
  }
  if (outcome.ready && outcome.model.touched === 0) faults.push(...(await copyFaults(init, kind.readyCopy)));
  return faults;
}

async function content(directory: string, { file, format }: ImageName): Promise<Buffer> {
  if (format === "raw") return readFile(join(directory, file));
  const flat = join(directory, `${file}.flat`);
  await must("qemu-img", "convert", "-q", "-f", format, "-O", "raw", join(directory, file), flat);
  return readFile(flat);
}

async function copyFaults(init: StoryInit, copy: ImageName | undefined): Promise<string[]> {
  if (!copy) return [];
  const fault = new DiskModel(init.initial).fault(await content(init.directory, copy));
  return fault === undefined ? [] : [`the copy ${copy.file}: ${fault}`];
}

/** Whether the header names what the finished job has linked. */
async function linkFaults({ kind, directory }: StoryInit): Promise<string[]> {
  const wanted = kind.backingAfter;
  if (wanted === undefined) return [];
  const json = await must("qemu-img", "info", "--output=json", join(directory, kind.after.file));
  const info = JSON.parse(json) as { "backing-filename"?: string };
  const found = info["backing-filename"];
  const expected = wanted === null ? undefined : join(directory, wanted);
  return found === expected ? [] : [`the header names ${String(found)} instead of ${String(expected)}`];
}
