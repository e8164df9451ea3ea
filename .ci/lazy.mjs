// The modules of a program that is bundled so that each is evaluated when the first of its exports is used (volumes.mjs). esbuild's bundles
// evaluate a module when an importer of it is: whoever opens one image would evaluate all drivers.
//
// That is sound since no import leads back to its importer, which is checked; since modules have no effects but what they export, which
// is checked, too; since no export changes (a rule of the linter's); and since a module that fails is never evaluated again.
// Exports that nobody imports are left out, with all that only they need.
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { build as esbuild, transform } from "esbuild";
import { withoutWords } from "./assert-words.mjs";

/**
 * A module that is made: its statements, and what they return for an export object, under the exports' own names. Other modules are
 * called by `namespace("src/x.ts")`.
 *
 * @typedef {{ body: string, imports?: string[] }} Made
 */

/**
 * @typedef {object} Program
 * @property {string} root
 * @property {string} entry the source that is evaluated first
 * @property {string} result its export that the program exports
 * @property {import("esbuild").BuildOptions} options
 * @property {ReadonlyMap<string, Made>} made modules by name
 * @property {(path: string, file: string) => { made: string } | { script: string } | undefined} resolve what is imported (`file`: from the root):
 *   a made module, or what is left to require(); undefined: a source
 */

/**
 * A source while it is bundled.
 *
 * @typedef {object} Module
 * @property {Set<string>} used exports that are imported; "*": all
 * @property {string[]} imports modules
 * @property {string} [code] statements in which other modules are variables, and exports are none
 * @property {Map<string, string>} exports the expression of each
 * @property {Map<string, string>} variables of the modules that its code imports
 * @property {Map<string, string>} constants
 */

/** What esbuild writes: imports, loading what is asked for later, the list of exports, and where a file's own text begins. */
const IMPORT = /^var ([\w$]+) = (?:__toESM\()?require\("([^"]+)"\)(?:(?:, 1)?\))?;\n/gm;
const LATER = /(?<=then\(\(\) => )__toESM\(require\("([^"]+)"\)(?:, 1)?\)/g;
const EXPORTS = /^__export\(stdin_exports, \{\n([^]*?)\n\}\);\n/m;
const EXPORTED = "var stdin_exports = {};\n";
const EXPORT = /^\s*([\w$]+): \(\) => ([\w$.]+),?$/gm;
const START = /^module\.exports = __toCommonJS\(\w+\);\n/m;
/** Lines at which a statement begins that only makes something. */
const WITHOUT_EFFECTS = /^(?:var |async function|function|\/\/|[)}\]])/;
/** What names a file only for people who read it. */
const PATH_KEY = /(__(?:esm|commonJS)\(\{\n\s+)"[^"]+"\(/g;
/** An export that another module has made. */
export const OF_ANOTHER = /^(import_\w+)\.([\w$]+)$/;
/** Helpers for files. */
const UNUSED = new Set(["__export", "__toCommonJS"]);
/** A module by its name, in statements. */
export const NAMESPACE = /\bnamespace\("([^"]+)"\)/g;

/**
 * The modules of a program, each of which has what its importers use, those that import others first.
 *
 * @param {Program} program
 * @returns {Promise<{ modules: Map<string, Module>, names: string[], helpers: Map<string, string> }>}
 */
export async function modulesOf(program) {
  const modules = await reached(program);
  /** @type {Map<string, string>} */
  const helpers = new Map();
  for (const level of levels(program, modules))
    await Promise.all(level.map((name) => addCode(program, { modules, name, helpers })));
  const names = levels(program, modules).flat();
  const isUsed = (/** @type {string} */ name) =>
    program.made.has(name) || modules.get(name)?.code !== undefined;
  for (const [helper] of helpers) if (UNUSED.has(helper)) helpers.delete(helper);
  return { modules, names: names.filter(isUsed), helpers };
}

/**
 * How esbuild is to find what a source imports: by the modules' names from the root.
 *
 * @param {Program} program
 * @param {(name: string, isLater: boolean) => boolean} [isInside]
 * @returns {import("esbuild").Plugin}
 */
function namesOf({ root, resolve }, isInside = () => false) {
  return {
    name: "names",
    setup(build) {
      build.onResolve({ filter: /./ }, ({ path, importer, kind }) => {
        if (kind === "entry-point" || importer === "<stdin>") return undefined;
        const file = relative(root, join(dirname(importer), path));
        const found = resolve(path, file);
        const name = found ? ("made" in found ? found.made : found.script) : file;
        if (isInside(name, kind === "dynamic-import")) return { path: join(root, name), sideEffects: false };
        return { path: name, external: true, sideEffects: false };
      });
      // What a module exports of another one without naming it is to be imported from there: esbuild says where it is not.
      build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const text = readFileSync(path, "utf8");
        const own = text.replace(/^export \* from .*;$/gm, "");
        return {
          contents: /assert\(|AssertionError\(/.test(text) ? withoutWords(path, own) : own,
          loader: "ts",
        };
      });
    },
  };
}

/**
 * The modules that are reached from the entry.
 *
 * @param {Program} program
 */
async function reached(program) {
  const { root, entry, options, made } = program;
  /** @type {Map<string, Module>} */
  const modules = new Map();
  /** @param {string} name */
  const add = async (name) => {
    if (modules.has(name)) return;
    /** @type {Module} */
    const module = {
      used: new Set(),
      imports: [],
      exports: new Map(),
      variables: new Map(),
      constants: new Map(),
    };
    modules.set(name, module);
    module.imports = made.get(name)?.imports ?? [];
    if (!made.has(name)) {
      const plugins = [namesOf(program)];
      const built = await esbuild({ ...options, entryPoints: [join(root, name)], write: false, plugins });
      const imported = Object.values(built.metafile?.inputs ?? {}).flatMap(({ imports }) => imports);
      module.imports = imported.flatMap(({ path }) =>
        made.has(path) || path.startsWith("src/") ? [path] : [],
      );
    }
    await Promise.all(module.imports.map(add));
  };
  await add(entry);
  return modules;
}

/**
 * Modules by how many imports lead to them at most: the importers of one are all in earlier levels.
 *
 * @param {Program} program
 * @param {Map<string, Module>} modules
 */
function levels({ entry }, modules) {
  /** @type {Map<string, "begun" | "done">} */
  const states = new Map();
  /** @type {string[]} */
  const order = [];
  /** @param {string} name */
  const visit = (name) => {
    if (states.get(name) === "done") return;
    if (states.has(name)) throw new Error(`${name}: an import leads back to it`);
    states.set(name, "begun");
    for (const imported of modules.get(name)?.imports ?? []) visit(imported);
    states.set(name, "done");
    order.unshift(name);
  };
  visit(entry);
  /** @type {Map<string, number>} */
  const depths = new Map();
  /** @type {string[][]} */
  const found = [];
  for (const name of order) {
    const depth = depths.get(name) ?? 0;
    (found[depth] ??= []).push(name);
    for (const imported of modules.get(name)?.imports ?? [])
      depths.set(imported, Math.max(depths.get(imported) ?? 0, depth + 1));
  }
  return found;
}

/** @typedef {{ modules: Map<string, Module>, name: string, helpers: Map<string, string> }} Place */

/**
 * Adds a module's code, with no more than what its importers use, and tells the modules that it imports what it uses of them.
 *
 * @param {Program} program
 * @param {Place} place
 */
async function addCode(program, { modules, name, helpers }) {
  const module = /** @type {Module} */ (modules.get(name));
  if (name === program.entry) module.used.add(program.result);
  if (program.made.has(name)) {
    // What is made needs the modules that it names whole.
    for (const imported of module.imports) modules.get(imported)?.used.add("*");
    return;
  }
  if (module.used.size === 0) return;
  const from = `from ${JSON.stringify(join(program.root, name))};`;
  const list = module.used.has("*") ? "*" : `{ ${[...module.used].join(", ")} }`;
  const found = await built(program, `export ${list} ${from}`);
  module.exports = found.exported;
  for (const [key, helper] of found.helpers) helpers.set(key, helper);
  module.code = withVariables(found.code, { modules, name, module });
  await checkEffects(name, module.code);
  tellUses(modules, module);
}

/**
 * Throws where a module does more than make something when it is evaluated.
 *
 * @param {string} name
 * @param {string} text
 */
async function checkEffects(name, text) {
  // Without texts of several lines a statement begins where a line does.
  const { code } = await transform(text, { supported: { "template-literal": false } });
  const effect = code.split("\n").find((line) => /^\S/.test(line) && !WITHOUT_EFFECTS.test(line));
  if (effect !== undefined) throw new Error(`${name}: evaluating it does something: ${effect}`);
}

/**
 * What esbuild makes of a module that is written here: the helpers, and the statements with what they export.
 *
 * @param {Program} program
 * @param {string} contents
 * @param {(name: string, isLater: boolean) => boolean} [isInside] what is bundled into it (`isLater`: where it is asked for by import()); by
 *   default what it names itself
 */
export async function built(program, contents, isInside) {
  const { outputFiles } = await esbuild({
    ...program.options,
    stdin: { contents, resolveDir: program.root },
    write: false,
    plugins: [namesOf(program, isInside)],
  });
  const text = outputFiles[0]?.text ?? "";
  const at = text.search(/^\/\/ /m);
  /** @type {Map<string, string>} */
  const exported = new Map();
  for (const [, name = "", local = ""] of (EXPORTS.exec(text)?.[1] ?? "").matchAll(EXPORT))
    exported.set(name, local);
  /** @type {Map<string, string>} */
  const helpers = new Map();
  for (const helper of text.slice(0, at).split(/^(?=var )/m)) {
    const [, key = ""] = /^var (__\w+) /.exec(helper) ?? [];
    if (key) helpers.set(key, helper);
  }
  const code = text
    .slice(at)
    .replace(EXPORTS, "")
    .replace(EXPORTED, "")
    .replace(START, "")
    .replaceAll(PATH_KEY, "$1a(");
  return { code, exported, helpers };
}

/**
 * The code with variables for the modules that it imports, which are noted.
 *
 * @param {string} code
 * @param {{ modules: Map<string, Module>, name: string, module: Module }} place
 */
function withVariables(code, { modules, name, module }) {
  const source = readFileSync(name, "utf8");
  if (/\$[mn]\d/.test(source)) throw new Error(`${name}: names like $m7 are the bundle's`);
  const text = code
    .replaceAll(IMPORT, (_all, /** @type {string} */ variable, /** @type {string} */ path) => {
      if (modules.has(path) && !variable.startsWith("import_"))
        return `var ${variable} = namespace("${path}");\n`;
      if (modules.has(path)) {
        if (source.includes(variable)) throw new Error(`${name}: it has ${variable} in it`);
        module.variables.set(variable, path);
        return "";
      }
      const isDefault = code.includes(`${variable}.default`);
      return `var ${variable} = ${isDefault ? `__toESM(require("${path}"), 1)` : `require("${path}")`};\n`;
    })
    .replaceAll(LATER, (all, /** @type {string} */ path) =>
      modules.has(path) ? `namespace("${path}")` : all,
    );
  return text;
}

/**
 * @param {Map<string, Module>} modules
 * @param {Module} module
 */
function tellUses(modules, module) {
  const text = withExports(module);
  for (const [, name = ""] of text.matchAll(NAMESPACE)) modules.get(name)?.used.add("*");
  for (const [variable, path] of module.variables)
    for (const [, member] of text.matchAll(new RegExp(`\\b${variable}\\b(?:\\.([\\w$]+))?`, "g")))
      modules.get(path)?.used.add(member ?? "*");
}

/**
 * A source's statements, with what they return.
 *
 * @param {Module} module
 */
export function withExports({ code = "", exports }) {
  const members = [...exports.values()].map((local, at) =>
    OF_ANOTHER.test(local) ? `get ${shortName(at)}() { return ${local}; }` : `${shortName(at)}: ${local}`,
  );
  return `${code}return { ${members.join(", ")} };\n`;
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/**
 * What an export is called between modules.
 *
 * @param {number} at
 * @returns {string}
 */
export function shortName(at) {
  const { length } = LETTERS;
  return (at < length ? "" : shortName(Math.floor(at / length) - 1)) + LETTERS[at % length];
}
