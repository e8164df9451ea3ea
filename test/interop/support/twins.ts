// Two directories with the same files: in one works qemu-img, in the other Blockwright's program. Every command is run in
// both, and what they print, their exit codes and the files they leave are compared. Blockwright's verbs run in one process
// that stays (verb-client.ts).
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { TRIES, wasTooBusy } from "../../support/tools.ts";
import { type Outcome, runVerb } from "../../support/verb-client.ts";

export { program, type Outcome } from "../../support/verb-client.ts";

/** The words of a line; `''` is an empty one. */
export function words(line: string): string[] {
  return line
    .split(" ")
    .filter((word) => word !== "")
    .map((word) => (word === "''" ? "" : word));
}

/** A pair of directories. */
export class Twins {
  readonly #root = mkdtempSync(join(tmpdir(), "blockwright-twins-"));
  theirs = join(this.#root, "theirs");
  ours = join(this.#root, "ours");

  constructor() {
    mkdirSync(this.theirs);
    mkdirSync(this.ours);
  }

  /** Removes both. */
  remove(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }

  /** Runs a tool in both directories, to make the same files there. */
  prepare(tool: string, ...words: string[]): void {
    const { status, stderr } = asked(tool, words, this.theirs);
    if (status !== 0) throw new Error(`${tool} ${words.join(" ")}: exit ${status}\n${stderr}`);
    this.same();
  }

  /** Runs a tool by a line of words in their directory alone. */
  run(tool: string, line: string): void {
    execFileSync(tool, words(line), { cwd: this.theirs });
  }

  /** Carries out commands of qemu-io on an image in their directory alone. */
  write(image: string, ...commands: string[]): void {
    const flags = commands.flatMap((command) => ["-c", command]);
    execFileSync("qemu-io", [...flags, image], { cwd: this.theirs });
  }

  /** For commands that only read: our program works in their directory too. */
  share(): void {
    this.ours = this.theirs;
  }

  /** Makes our directory a copy of theirs. */
  same(): void {
    rmSync(this.ours, { recursive: true, force: true });
    // Holes stay holes.
    execFileSync("cp", ["-a", "--sparse=auto", this.theirs, this.ours]);
  }

  /** What qemu-img says, in our program's name. */
  qemuImg(...words: string[]): Outcome {
    return outcome(asked("qemu-img", words, this.theirs));
  }

  /** What qemu-io says, in our program's name, to the commands in `words` or in `input`. */
  qemuIo(words: readonly string[], input = ""): Outcome {
    const said = spawnSync("qemu-io", words, { cwd: this.theirs, encoding: "utf8", input });
    return outcome({
      ...said,
      stdout: said.stdout.replaceAll("qemu-io> ", "blockwright> "),
      stderr: said.stderr.replaceAll(/^qemu-io: /gm, "blockwright: "),
    });
  }

  /** What our program says. */
  blockwright(...words: string[]): Outcome {
    return this.blockwrightWith("", ...words);
  }

  /** What our program says with something on its stdin. */
  blockwrightWith(input: string, ...words: string[]): Outcome {
    return outcome(runVerb(words, { cwd: this.ours, input }));
  }

  /** Both outcomes of one command. */
  both(...words: string[]): { theirs: Outcome; ours: Outcome } {
    return { theirs: this.qemuImg(...words), ours: this.blockwright(...words) };
  }

  /** Both outcomes of one command, the two programs at work at the same time. For verbs that print progress too. */
  async pair(...words: string[]): Promise<{ theirs: Outcome; ours: Outcome }> {
    const started = askedBeside("qemu-img", words, this.theirs);
    const ours = outcome(runVerb(words, { cwd: this.ours }));
    const theirs = outcome(await started);
    return {
      theirs: { ...theirs, stdout: withoutSteps(theirs.stdout) },
      ours: { ...ours, stdout: withoutSteps(ours.stdout) },
    };
  }

  /** `qemu-img info` of a file in either directory; undefined where there is none. Space on disk is left out. */
  info(directory: string, file: string): unknown {
    const { status, stdout } = spawnSync("qemu-img", ["info", "--output=json", file], {
      cwd: directory,
      encoding: "utf8",
    });
    if (status !== 0) return undefined;
    const { "actual-size": _, ...info } = JSON.parse(stdout) as Record<string, unknown>;
    return info;
  }
}

/** Twins with fresh copies, before each test, of the files that `make` makes once in `templates.theirs`. */
export function withTemplates(make: (templates: Twins) => void | Promise<void>): Twins {
  const [twins, templates] = [new Twins(), new Twins()];
  beforeAll(() => make(templates));
  beforeEach(() => {
    for (const directory of [twins.theirs, twins.ours])
      cpSync(templates.theirs, directory, { recursive: true });
  });
  afterAll(() => {
    twins.remove();
    templates.remove();
  });
  return twins;
}

/** Runs a real tool; one that was too busy is asked again. */
function asked(tool: string, words: readonly string[], cwd: string): Outcome {
  for (let tries = 1; ; tries++) {
    const said = spawnSync(tool, words, { cwd, encoding: "utf8" });
    if (said.error) throw said.error;
    if (tries === TRIES || !wasTooBusy(said.stderr)) return said;
  }
}

/** The same while we do something else. */
async function askedBeside(tool: string, words: readonly string[], cwd: string): Promise<Outcome> {
  for (let tries = 1; ; tries++) {
    const said = await started(tool, words, cwd);
    if (tries === TRIES || !wasTooBusy(said.stderr)) return said;
  }
}

function started(command: string, words: readonly string[], cwd: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, words, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, stdout, stderr }));
  });
}

/** Progress without the steps between its start and its end, which follow from how a program cuts its work. */
function withoutSteps(text: string): string {
  return text.replaceAll(/(?: {4}\(\d+\.\d\d\/100%\)\r)+/g, (lines) => {
    const all = lines.split("\r");
    return `${all[0]}\r${all.at(-2)}\r`;
  });
}

/** A program that a signal ended has the status that shells give it. */
function outcome({ status, signal, stdout, stderr }: Outcome & { signal?: NodeJS.Signals | null }): Outcome {
  const words = stderr
    .replaceAll(/^qemu-img: /gm, "blockwright: ")
    .replaceAll("with qemu-img check", "with blockwright check");
  return {
    status: signal ? 128 + constants.signals[signal] : status,
    stdout,
    stderr: words.replace(/^Try '(?:qemu-img|blockwright) --help' .*\n/m, "").trimEnd(),
  };
}
