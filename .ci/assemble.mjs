// Assembles the guests for v86 that need no operating system: src/dashboard/guest.asm, test/support/v86/monitor.asm.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * The bytes of the program `source`, a path within the repository at `root`. Throws in words that say what to install.
 *
 * @param {{ root: string, source: string }} program
 */
export function assemble({ root, source }) {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-nasm-"));
  try {
    const out = join(folder, "guest.bin");
    execFileSync("nasm", ["-f", "bin", "-I", `${root}/`, "-o", out, source], { cwd: root });
    return readFileSync(out);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== "ENOENT") throw error;
    throw new Error("the guest is assembled by nasm, which is not here; on Debian: apt-get install nasm");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
