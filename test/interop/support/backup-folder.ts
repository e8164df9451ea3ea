// A folder for each test of a file, and the program and QEMU's tools in it.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { cli, type Done } from "./running-machine.ts";

/** The folder of the test that runs, and what is done there. */
export interface BackupFolder {
  /** A path in it; without names its own. */
  at(this: void, ...names: string[]): string;
  /** Runs a line of the program. */
  blockwright(this: void, line: string): Done;
  /** What a line of the program says on stdout, which must succeed without a word on stderr. */
  must(this: void, line: string): string;
  /** Runs `qemu-TOOL`; throws where that fails. */
  qemu(this: void, tool: string, ...words: string[]): string;
}

const MOST_OUTPUT = 2 ** 29;

/** Has each test of the file find a folder of its own. */
export function folderOfEachTest(prefix: string): BackupFolder {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), prefix));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const blockwright = (line: string): Done =>
    spawnSync(process.execPath, [cli, ...line.split(" ")], {
      cwd: folder,
      encoding: "utf8",
      maxBuffer: MOST_OUTPUT,
    });
  return {
    at: (...names) => join(folder, ...names),
    blockwright,
    must: (line) => {
      const { status, stdout, stderr } = blockwright(line);
      expect(`${stderr}${status}`).toBe("0");
      return stdout;
    },
    qemu: (tool, ...words) => execFileSync(`qemu-${tool}`, words, { cwd: folder, encoding: "utf8" }),
  };
}
