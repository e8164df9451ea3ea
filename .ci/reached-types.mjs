// Leaves of the declarations those that the types of package.json's entries reach, file by file. tsc writes one for every source that
// an entry's sources import, most of which no declaration names; npm would fetch them all the same. What opens the others (a purpose,
// for who reads the sources) is left out, too.
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What a declaration names of others: `from "…"`, `import "…"`, `import("…")`. */
const NAMED = /(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g;
/** The comment that opens a file; what follows it is no declaration of which it could tell. */
const OPENING = /^\/\*\*(?:(?!\*\/)[^])*\*\/\n(?=import |export (?:type )?[{*])/;

/** @param {string} path */
const fileOf = (path) => `${path.replace(/(?:\.d)?\.[jt]s$/, "")}.d.ts`;

/**
 * The declarations that these reach, themselves among them.
 *
 * @param {readonly string[]} entries
 */
export function reachedFrom(entries) {
  const reached = new Set(entries);
  for (const file of reached) {
    for (const [, name = ""] of readFileSync(file, "utf8").matchAll(NAMED)) {
      const other = fileOf(join(dirname(file), name));
      if (!existsSync(other)) throw new Error(`${file} names ${name}, which is not there`);
      reached.add(other);
    }
  }
  return reached;
}

/**
 * The declarations that package.json names.
 *
 * @param {string} root
 */
export function publicTypes(root) {
  const { exports } = /** @type {{ exports: Record<string, string | { types: string }> }} */ (
    JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  );
  return Object.values(exports).flatMap((entry) =>
    typeof entry === "string" ? [] : [join(root, entry.types)],
  );
}

/**
 * Removes the declarations that nothing reaches, and the openings of those that are no entry.
 *
 * @param {string} root
 */
export function leaveReachedTypes(root) {
  const folder = join(root, "build", "types");
  const entries = publicTypes(root);
  const reached = reachedFrom(entries);
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const file = join(folder, name);
    if (!name.endsWith(".d.ts")) continue;
    if (!reached.has(file)) rmSync(file);
    else if (!entries.includes(file)) writeFileSync(file, readFileSync(file, "utf8").replace(OPENING, ""));
  }
}
