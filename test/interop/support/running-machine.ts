// A machine of QEMU's with disks a and b, whose guest's hands are qemu-io of the human monitor, and the tool that backs them up.
import { execFileSync, spawn, type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { QmpClient } from "../../../src/node.ts";
import { until } from "../../support/until.ts";

/** The built program. */
export const cli = fileURLToPath(new URL("../../../build/cli/main.js", import.meta.url));

/** What `backup create --json` tells of a backup. */
export interface Made {
  id: string;
  name: string;
  kind: string;
  time: string;
  "read-bytes": number;
}

/** What a run of the program came to. */
export interface Done {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A drive of the machine; what its device would write comes by its name. */
function drive(name: string): string[] {
  const disk = `if=none,id=drive-${name},driver=qcow2,node-name=${name}`;
  const below = `file.driver=throttle,file.throttle-group=reads,file.file.driver=file,file.file.filename=${name}.qcow2`;
  return ["-drive", `${disk},${below}`];
}

/** The machine in its folder; `mine` is the test's monitor, `tools` the tool's. */
export class RunningMachine {
  readonly folder: string;
  /** For the tool: its files are told from those of other tests. */
  readonly env: NodeJS.ProcessEnv;
  qmp!: QmpClient;
  #process!: ChildProcess;
  /** Writes that the machine has told of. */
  #wrote = 0;

  constructor(folder: string) {
    this.folder = folder;
    this.env = { ...process.env, TMPDIR: join(folder, "tmp") };
    mkdirSync(this.env["TMPDIR"]!);
  }

  /** Makes the disks, of 64 MiB. */
  makeDisks(): void {
    for (const name of ["a", "b"]) this.qemu("img", "create", "-q", "-f", "qcow2", `${name}.qcow2`, "64M");
  }

  async start(): Promise<void> {
    const words = ["-machine", "none", "-nodefaults", "-display", "none", "-S", ...drive("a"), ...drive("b")];
    words.push("-object", "throttle-group,id=reads");
    for (const socket of ["mine", "tools"]) {
      rmSync(join(this.folder, socket), { force: true });
      words.push("-qmp", `unix:${socket},server=on,wait=off`);
    }
    this.#process = spawn("qemu-system-x86_64", words, {
      cwd: this.folder,
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#process.stdout!.on(
      "data",
      (text: Buffer) => (this.#wrote += text.toString().split("wrote ").length - 1),
    );
    await until("the machine's monitors", () => existsSync(join(this.folder, "tools")));
    this.qmp = await QmpClient.connect(`unix:${join(this.folder, "mine")}`);
  }

  /** From now on nobody's reads of the images come back, until release(). */
  async hold(): Promise<void> {
    await this.#limitReads(1);
    // The first one is let through, and all others wait for as long as it should have taken.
    await this.qmp.executeRaw("human-monitor-command", { "command-line": 'qemu-io drive-a "read 0 4M"' });
  }

  async release(): Promise<void> {
    await this.#limitReads(0);
    // What waits already waits on, and a machine that is ended waits for it. One that is stopped drains its disks.
    await this.qmp.executeRaw("cont");
    await this.qmp.executeRaw("stop");
  }

  async #limitReads(bytesPerSecond: number): Promise<void> {
    const value = { "bps-read": bytesPerSecond };
    await this.qmp.executeRaw("qom-set", { path: "/objects/reads", property: "limits", value });
  }

  /** Ends it, well or by SIGKILL. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    await this.qmp.close();
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    await ended;
  }

  /** The guest's hands. */
  async guest(node: string, command: string): Promise<void> {
    const line = `qemu-io drive-${node} "${command}"`;
    const before = this.#wrote;
    await this.qmp.executeRaw("human-monitor-command", { "command-line": line });
    // It is told on the machine's stdout; what fails is not told like this, and the test ends by its time.
    if (command !== "flush") await until(`the guest's ${command}`, () => this.#wrote > before);
  }

  qemu(tool: string, ...words: string[]): string {
    return execFileSync(`qemu-${tool}`, words, { cwd: this.folder, encoding: "utf8" });
  }

  /** Runs a line of the program. */
  run(line: string): Done {
    const { folder: cwd, env } = this;
    return spawnSync(process.execPath, [cli, ...line.split(" ")], { cwd, env, encoding: "utf8" });
  }

  /** What a killed tool would leave: jobs, nodes, exports, frozen bitmaps, files. */
  async leftovers(): Promise<unknown[]> {
    const nodes = (await this.qmp.executeRaw("query-named-block-nodes", { flat: true })) as {
      "node-name": string;
      "dirty-bitmaps"?: { name: string }[];
    }[];
    const named = nodes.flatMap((node) => [
      node["node-name"],
      ...(node["dirty-bitmaps"] ?? []).map(({ name }) => name),
    ]);
    return [
      ...((await this.qmp.executeRaw("query-jobs")) as unknown[]),
      ...((await this.qmp.executeRaw("query-block-exports")) as unknown[]),
      ...named.filter((name) => /^bwb-|frozen/.test(name)),
      ...readdirSync(this.env["TMPDIR"]!),
    ];
  }
}
