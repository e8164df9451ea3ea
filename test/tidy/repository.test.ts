/**
 * The rules over the repository as a whole: nothing generated, no machine's paths, a lock file that works anywhere.
 */
import { describe, expect, it } from "vitest";
import { readText, repositoryFiles } from "./source.ts";

const files = repositoryFiles(/./);
const TEXT = /\.(ts|mjs|js|json|md|sh|yml)$|^\.ci\/run$/;

/** Folders of somebody's machine. Code must not name the folder for temporary files either: `os.tmpdir()` does. */
const MACHINE_PATH = new RegExp(`(^|[^\\w./-])/(${["work", "home", "root", "Users"].join("|")})/`);
const TEMPORARY_PATH = new RegExp(`["'\`]/${"tmp"}/`);

/** `path:line` of each line of a file that matches. */
function linesWith(path: string, pattern: RegExp): string[] {
  const lines = readText(path).split("\n");
  return lines.flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : []));
}

describe("the repository", () => {
  it("holds nothing that a compiler wrote", () => {
    expect(files.length).toBeGreaterThan(20);
    const generated =
      /^build\/(?!\.gitignore$)|^node_modules\/|\.(wasm|map|tgz|tsbuildinfo)$|^src\/.*\.(js|d\.ts)$/;
    // Types of packages that bring none are written by hand.
    const written = ["src/adapters/random-access-storage.d.ts", "src/platform/node/ws.d.ts"];
    expect(files.filter((path) => generated.test(path) && !written.includes(path))).toEqual([]);
    expect(files).toContain("build/.gitignore");
  });

  it("has the top level of the design", () => {
    const names = new Set(files.map((path) => path.split("/")[0] ?? ""));
    const known =
      /^(assembly|src|test|build|docs|examples|\.ci|\.[\w.-]+|(package|package-lock|asconfig|tsconfig)\.json|(README|CHANGELOG|CONTRIBUTING|SECURITY)\.md|LICENSE|(vitest|knip)\.[\w.]+)$/;
    expect([...names].filter((name) => !known.test(name))).toEqual([]);
  });

  it("has a lock file without a registry's address", () => {
    const lock = JSON.parse(readText("package-lock.json")) as {
      packages: Record<string, Record<string, unknown>>;
    };
    const entries = Object.entries(lock.packages);
    expect(entries.length).toBeGreaterThan(50);
    expect(entries.filter(([, entry]) => "resolved" in entry).map(([name]) => name)).toEqual([]);
  });

  it("knows what every package must be, byte for byte", () => {
    const { packages } = JSON.parse(readText("package-lock.json")) as {
      packages: Record<string, { integrity?: string; link?: boolean }>;
    };
    const unknown = Object.entries(packages).filter(
      ([path, { integrity, link }]) => path !== "" && !link && !(integrity ?? "").startsWith("sha512-"),
    );
    // `npm install --package-lock-only` fills in what is left out of the file.
    expect(unknown.map(([path]) => path)).toEqual([]);
  });

  it("locks the packages of every platform, without which npm ci refuses (.ci/complete-lock.mjs adds them)", () => {
    const { packages } = JSON.parse(readText("package-lock.json")) as {
      packages: Record<string, { optionalDependencies?: Record<string, string> }>;
    };
    const names = new Set(Object.keys(packages).map((path) => path.replace(/^.*node_modules\//, "")));
    const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
    expect(wanted.length).toBeGreaterThan(50);
    expect(wanted.filter((name) => !names.has(name))).toEqual([]);
  });

  it("names no machine's folders", () => {
    const texts = files.filter((path) => TEXT.test(path) && path !== "package-lock.json");
    expect(texts.length).toBeGreaterThan(20);
    expect(texts.flatMap((path) => linesWith(path, MACHINE_PATH))).toEqual([]);
    const code = texts.filter((path) => /\.(ts|mjs|sh)$/.test(path));
    expect(code.flatMap((path) => linesWith(path, TEMPORARY_PATH))).toEqual([]);
  });

  it("would notice such a folder", () => {
    expect(MACHINE_PATH.test(`open("/${"home"}/me/disk.img")`)).toBe(true);
    expect(MACHINE_PATH.test("build/work/x and https://example.org/home/x")).toBe(false);
    expect(TEMPORARY_PATH.test(`"/${"tmp"}/disk.img"`)).toBe(true);
  });
});
