// Leaves of the declarations that tsc writes the words that a program sees: those of what an entry hands on, and of what the classes
// there add to. All others only make types whole. What opens a file that is no entry (a purpose, for who reads the sources) goes, too.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The comment that opens a file; what follows it is no declaration of which it could tell. */
const OPENING = /^\/\*\*(?:(?!\*\/)[^])*\*\/\n(?=import |export (?:type )?[{*])/;
/** What a declaration hands on of others: `export … from "…"`. */
const HANDED_ON = /\bexport\s+(?:type\s+)?(?:\{[^}]*\}|\*(?:\s+as\s+\w+)?)\s+from\s+"(\.[^"]+)"/g;
const IMPORTED = /\bimport\s+(?:type\s+)?\{([^}]*)\}\s+from\s+"(\.[^"]+)"/g;
/** What a class or an interface adds to: its members are seen there. */
const EXTENDS = /\b(?:class|interface)\s+\w+(?:<[^{]*>)?\s+extends\s+([^{]+)\{/g;
const COMMENT = /[ \t]*\/\*\*(?:(?!\*\/)[^])*\*\/\n?/g;
/** tsc indents by four spaces; tabs take a kibibyte less of the package. */
const INDENTS = /^(?: {4})+/gm;

/** @param {string} path */
const fileOf = (path) => `${path.replace(/(?:\.d)?\.[jt]s$/, "")}.d.ts`;

/**
 * Of which files a program sees declarations by name: what is handed on, and what the classes there add to.
 *
 * @param {string} text
 */
function shownIn(text) {
  const bases = new Set([...text.matchAll(EXTENDS)].flatMap(([, names = ""]) => names.match(/\w+/g) ?? []));
  const isBase = (/** @type {string} */ names) =>
    names.match(/\w+/g)?.some((name) => bases.has(name)) ?? false;
  const imported = [...text.matchAll(IMPORTED)].filter(([, names = ""]) => isBase(names));
  return [
    ...[...text.matchAll(HANDED_ON)].map(([, name = ""]) => name),
    ...imported.map(([, , name = ""]) => name),
  ];
}

/** @param {readonly string[]} entries */
function shownBy(entries) {
  const shown = new Set(entries);
  for (const file of shown) {
    for (const name of shownIn(readFileSync(file, "utf8"))) {
      const other = fileOf(join(dirname(file), name));
      if (!existsSync(other)) throw new Error(`${file} names ${name}, which is not there`);
      shown.add(other);
    }
  }
  return shown;
}

/**
 * @param {string} folder The declarations.
 * @param {readonly string[]} entries Those of the package's entries: paths of files in the folder.
 */
export function leaveShownWords(folder, entries) {
  const shown = shownBy(entries);
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const file = join(folder, name);
    if (!name.endsWith(".d.ts")) continue;
    const text = readFileSync(file, "utf8").replaceAll(INDENTS, (spaces) => "\t".repeat(spaces.length / 4));
    const kept = shown.has(file) ? text : text.replaceAll(COMMENT, "");
    writeFileSync(file, entries.includes(file) ? kept : kept.replace(OPENING, ""));
  }
}
