// Leaves of the declarations those that the types of package.json's entries reach, file by file. tsc writes one for every source that
// an entry's sources import, most of which no declaration names; npm would fetch them all the same. Of a folder's face (a file that only
// hands on) those names stay that a declaration asks it for. What opens the others (a purpose, for who reads the sources) is left out,
// too, and all words of those of which a program can import nothing: they only make types whole.
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What a declaration names of others: `from "…"`, `import "…"`, `import("…")`. */
const NAMED = /(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g;
/** The comment that opens a file; what follows it is no declaration of which it could tell. */
const OPENING = /^\/\*\*(?:(?!\*\/)[^])*\*\/\n(?=import |export (?:type )?[{*])/;

/** What a declaration hands on of others: `export … from "…"`. */
const HANDED_ON = /\bexport\s+(?:type\s+)?(?:\{[^}]*\}|\*(?:\s+as\s+\w+)?)\s+from\s+"(\.[^"]+)"/g;
/** A face's statement, and a file of nothing else. */
const HANDING = /^export (?:type )?\{([^}]*)\} from "(\.[^"]+)";\n?/gm;
/** What a declaration asks others for: names in braces, one name of `import("…")`, or all. */
const ASKED =
  /(?:\{([^{}]*)\}\s+from\s+"(\.[^"]+)")|(?:\bimport\("(\.[^"]+)"\)\.(\w+))|(?:\bfrom\s+"(\.[^"]+)")/g;
const IMPORTED = /\bimport\s+(?:type\s+)?\{([^}]*)\}\s+from\s+"(\.[^"]+)"/g;
/** What a class or an interface adds to: its members are seen there. */
const EXTENDS = /\b(?:class|interface)\s+\w+(?:<[^{]*>)?\s+extends\s+([^{]+)\{/g;
/** tsc indents by four spaces; tabs take a kibibyte less of the package. */
const INDENTS = /^(?: {4})+/gm;
const COMMENT = /[ \t]*\/\*\*(?:(?!\*\/)[^])*\*\/\n?/g;

/** @param {string} path */
const fileOf = (path) => `${path.replace(/(?:\.d)?\.[jt]s$/, "")}.d.ts`;

/** @param {string} text */
const namedIn = (text) => [...text.matchAll(NAMED)].map(([, name = ""]) => name);

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

/**
 * The declarations that these reach, themselves among them.
 *
 * @param {readonly string[]} entries
 * @param {(text: string) => string[]} [others] What a declaration leads to; default: all that it names.
 */
export function reachedFrom(entries, others = namedIn) {
  const reached = new Set(entries);
  for (const file of reached) {
    for (const name of others(readFileSync(file, "utf8"))) {
      const other = fileOf(join(dirname(file), name));
      if (!existsSync(other)) throw new Error(`${file} names ${name}, which is not there`);
      reached.add(other);
    }
  }
  return reached;
}

/** @param {string} names `A, type B as C`: what is asked for, by the names of the file asked. */
const namesOf = (names) =>
  names
    .split(",")
    .map((name) => name.trim().replace(/^type /, ""))
    .filter((name) => name !== "");

/**
 * What these declarations ask each file for; `*` for all.
 *
 * @param {Iterable<string>} files
 */
function askedBy(files) {
  /** @type {Map<string, Set<string>>} */
  const asked = new Map();
  for (const file of files) {
    for (const [, braces, from, whole, one, all] of readFileSync(file, "utf8").matchAll(ASKED)) {
      const other = fileOf(join(dirname(file), from ?? whole ?? all ?? ""));
      const names =
        braces === undefined ? [one ?? "*"] : namesOf(braces).map((name) => name.split(" as ")[0] ?? "");
      asked.set(other, new Set([...(asked.get(other) ?? []), ...names]));
    }
  }
  return asked;
}

/**
 * A face with the names that it is asked for; any other declaration as it is.
 *
 * @param {string} text
 * @param {ReadonlySet<string>} names
 */
function faceOf(text, names) {
  const isFace = text.replaceAll(COMMENT, "").replaceAll(HANDING, "").trim() === "";
  if (!isFace || names.has("*")) return text;
  return text.replaceAll(HANDING, (statement, /** @type {string} */ braces, /** @type {string} */ from) => {
    const kept = namesOf(braces).filter((name) => names.has(name.split(" as ").at(-1) ?? ""));
    const word = statement.startsWith("export type") ? "export type" : "export";
    const types = new Set([...braces.matchAll(/\btype (\w+)/g)].map(([, name]) => name));
    const list = kept.map((name) => (types.has(name.split(" ")[0]) ? `type ${name}` : name));
    return kept.length === 0 ? "" : `${word} { ${list.join(", ")} } from "${from}";\n`;
  });
}

/**
 * Takes from the faces, in the files, what no declaration that the entries reach asks them for: a face may ask another one.
 *
 * @param {readonly string[]} entries
 */
function narrowFaces(entries) {
  for (let isMoving = true; isMoving;) {
    isMoving = false;
    const reached = reachedFrom(entries);
    for (const [file, names] of askedBy(reached)) {
      if (entries.includes(file) || !reached.has(file)) continue;
      const text = readFileSync(file, "utf8");
      const narrow = faceOf(text, names);
      if (narrow === text) continue;
      writeFileSync(file, narrow);
      isMoving = true;
    }
  }
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
 * Removes the declarations that nothing reaches, the openings of those that are no entry, and all words where no program sees them.
 *
 * @param {string} root
 */
export function leaveReachedTypes(root) {
  const folder = join(root, "build", "types");
  const entries = publicTypes(root);
  narrowFaces(entries);
  const reached = reachedFrom(entries);
  const shown = reachedFrom(entries, shownIn);
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const file = join(folder, name);
    if (!name.endsWith(".d.ts")) continue;
    if (!reached.has(file)) {
      rmSync(file);
      continue;
    }
    const text = readFileSync(file, "utf8").replaceAll(INDENTS, (spaces) => "\t".repeat(spaces.length / 4));
    const isEntry = entries.includes(file);
    const kept = isEntry || shown.has(file) ? text : text.replaceAll(COMMENT, "");
    writeFileSync(file, isEntry ? kept : kept.replace(OPENING, ""));
  }
}
