// Two machines with the same options in two folders with the same images: the real qemu-system-x86_64 and ours. They are sent the same
// lines of QMP or of the human monitor, one after the other, and must answer the same, with the same events in their order.
import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { program } from "./twins.ts";

const theirs = ["qemu-system-x86_64", "-display", "none", "-accel", "tcg"];
const ours = [
  ...[process.execPath, program, "--run-as=qemu-system-x86_64", "-display", "none"],
  ...["-accel", "qtest"],
];

/** A line of QMP. */
export const qmp = (execute: string, args: object = {}): string =>
  JSON.stringify({ execute, arguments: args });

/** A line that waits: until an event of this name with these data has come since the last such line. */
export interface Until {
  readonly until: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** What a test sends: a line, which is the human monitor's unless it is JSON, or what it waits for. */
export type Step = string | Until;

interface Message {
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  timestamp?: unknown;
}

/** One machine that is talked to. */
class Talk {
  readonly answers: unknown[] = [];
  readonly events: unknown[] = [];
  isGreeted = false;
  #left: Step[];
  #new: Message[] = [];
  readonly #say: (line: string) => void;

  constructor(steps: readonly Step[], say: (line: string) => void) {
    this.#left = [qmp("qmp_capabilities"), ...steps, qmp("quit")];
    this.#say = say;
  }

  take(message: Message): void {
    delete message.timestamp;
    if ("QMP" in message) {
      this.isGreeted = true;
      return this.#next();
    }
    if (message.event !== undefined) {
      this.events.push(steady(message));
      this.#new.push(message);
      if (typeof this.#left[0] === "object") this.#next();
      return;
    }
    this.answers.push(steady(message));
    this.#next();
  }

  #next(): void {
    const [step] = this.#left;
    if (typeof step === "object") {
      const at = this.#new.findIndex((one) => matches(one, step));
      if (at < 0) return;
      this.#new = this.#new.slice(at + 1);
      this.#left.shift();
      return this.#next();
    }
    this.#left.shift();
    if (step === undefined) return;
    this.#say(step.startsWith("{") ? step : qmp("human-monitor-command", { "command-line": step }));
  }
}

function matches({ event, data = {} }: Message, { until, data: wanted = {} }: Until): boolean {
  return event === until && Object.entries(wanted).every(([key, value]) => data[key] === value);
}

/** Names that are made up. */
function steadyWords(text: string): string {
  return text.replaceAll(/#block\d+/g, "NODE");
}

/** Names that are made up, and room on the disk of the host, are not looked at. */
function steady(message: unknown): unknown {
  const text = JSON.stringify(message)
    .replaceAll(/#block\d+/g, "NODE")
    .replaceAll(/vl\.[\w-]{6}/g, "TEMPORARY")
    .replaceAll(/"actual-size":\d+,?/g, "")
    .replaceAll(/\d+\.\d+ sec \([^)]*\)/g, "TIME")
    .replaceAll(",}", "}");
  return JSON.parse(text);
}

function talk(words: readonly string[], cwd: string, steps: readonly Step[]): Promise<unknown> {
  const [command, ...args] = [...words, "-qmp", "stdio"];
  const child = spawn(command, args, { cwd, stdio: ["pipe", "pipe", "pipe"] });
  const one = new Talk(steps, (line) => child.stdin.write(`${line}\n`));
  // A machine that can't be what it is to be greets, and ends.
  child.stdin.on("error", () => undefined);
  let stderr = "";
  let rest = "";
  const printed: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines)
      if (line.startsWith("{")) one.take(JSON.parse(line) as Message);
      else printed.push(line.replaceAll(/\d+\.\d+ sec \([^)]*\)/g, "TIME"));
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) =>
      resolve({
        ...{ answers: one.answers, events: one.events },
        // Whoever fails greets now and then: the real one's monitors are a thread of their own.
        ...(status === 0 ? { isGreeted: one.isGreeted } : {}),
        ...{ printed, stderr: steadyWords(stderr), status },
      }),
    );
  });
}

/** The folders of a test file, and what runs in them. */
export class Machines {
  readonly #root = mkdtempSync(join(tmpdir(), "blockwright-machines-"));
  readonly #images = join(this.#root, "images");

  constructor() {
    mkdirSync(this.#images);
  }

  /** Where images are made, before the machines start. */
  get folder(): string {
    return this.#images;
  }

  /** Runs a tool there. */
  tool(name: string, ...words: string[]): void {
    const { status, stderr } = spawnSync(name, words, { cwd: this.#images, encoding: "utf8" });
    if (status !== 0) throw new Error(`${name} ${words.join(" ")}: ${stderr}`);
  }

  /** What both answer, each over images of its own; `bare`: with the devices that a machine has by itself. */
  async answers(
    options: readonly string[],
    steps: readonly Step[],
    { bare = false }: { bare?: boolean } = {},
  ): Promise<{ its: unknown; mine: unknown }> {
    const run = (words: readonly string[]): Promise<unknown> => {
      const cwd = mkdtempSync(join(this.#root, "run-"));
      cpSync(this.#images, cwd, { recursive: true });
      return talk([...words, ...(bare ? [] : ["-nodefaults"]), ...options], cwd, steps);
    };
    const [its, mine] = await Promise.all([run(theirs), run(ours)]);
    return { its, mine };
  }

  /** They must answer the same. */
  async expectSame(options: readonly string[], steps: readonly Step[]): Promise<void> {
    const { its, mine } = await this.answers(options, steps);
    expect(mine).toEqual(its);
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}
