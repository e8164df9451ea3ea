/**
 * Sees to the programs of stages.ts: as root on Debian what is missing is installed, elsewhere the line that installs it
 * is printed.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import { type Program, programs } from "./stages.ts";

/** The paths of other browsers than those of the table. */
const others: Readonly<Record<string, string | undefined>> = {
  chromium: process.env["BLOCKWRIGHT_CHROMIUM"],
  "firefox-esr": process.env["BLOCKWRIGHT_FIREFOX"],
  MiniBrowser: process.env["BLOCKWRIGHT_MINIBROWSER"],
};

/** Whether a program can be found. */
function isFound(name: string): boolean {
  const other = others[basename(name)];
  if (other) return existsSync(other);
  if (name.startsWith("/")) return existsSync(name);
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, name)));
}

function apt(...words: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const { status } = spawnSync("apt-get", ["-q", ...words], { stdio: ["ignore", "inherit", "inherit"], env });
  return status === 0;
}

/** The programs that are not here. */
export function missingPrograms(): Program[] {
  return programs.filter(({ name }) => !isFound(name));
}

/**
 * Installs these; false, with the reason printed, where that cannot be. `isFor` says what for.
 */
export function install(missing: readonly Program[]): boolean {
  const names = [...new Set(missing.map(({ debian }) => debian))];
  const words = ["install", "-y", "--no-install-recommends", ...names];
  if (process.getuid?.() !== 0 || !isFound("apt-get")) {
    console.error(`missing: ${missing.map(({ name }) => name).join(", ")}. On Debian:`);
    console.error(`  sudo apt-get ${words.join(" ")}`);
    return false;
  }
  if (!apt("update") || !apt(...words)) return false;
  const still = missing.filter(({ name }) => !isFound(name));
  if (still.length > 0) console.error(`still missing: ${still.map(({ name }) => name).join(", ")}`);
  return still.length === 0;
}
