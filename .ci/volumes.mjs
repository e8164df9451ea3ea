// Writes a program whose modules are evaluated when the first of their exports is used:
//
//   import { open } from "./open.ts";          function $m7() { return made[7] ?? make(7, () => { …; return { a: open }; }); }
//   open(path);                         -->    $m7().a(path);
//
// It has two volumes, since what a script costs to read and to look at grows with its length: the modules that most runs evaluate, and the
// others, which are loaded when the first of them is. A number or a short text that is exported stands where it is used.
import { join } from "node:path";
import { transform } from "esbuild";
import { built, modulesOf, NAMESPACE, OF_ANOTHER, shortName, withExports } from "./lazy.mjs";

/** @typedef {import("./lazy.mjs").Program} Program */
/** @typedef {import("./lazy.mjs").Module} Module */

/** Numbers (of factors) and short texts that are exported. */
const CONSTANT = /^var ([\w$]+) = (-?[\d.e]+(?: \* [\d.e]+)*|"[^"\\\n]{0,12}"|true|false);$/gm;
/** Evaluates a module; one that asks for itself, or that failed, is told of. */
const MAKE = `const begun = new Set();
const make = (at, body) => {
  if (begun.has(at)) throw new Error("a module of the program failed");
  begun.add(at);
  return made[at] = body();
};
`;

/** A module that is loaded when it is asked for. */
const LATER = /(?<=then\(\(\) => )namespace\("([^"]+)"\)/g;
/** How modules call each other, by number: for short names of exports (`$m7()`), and for the exports' own (`$n7()`). */
const CALL = /\$([mn])(\d+)\(\)/g;

/** What the first volume asks of the second: an export, a module's namespace, or loading it. @typedef {{ number: number, path: string, member: string | undefined, isLater: boolean }} Wish */
/** @typedef {{ modules: Map<string, Module>, numbers: Map<string, number>, made: Program["made"], isFar: (name: string) => boolean, far: Map<string, Wish> }} Linking */

/**
 * What the second volume has, as the first writes it.
 *
 * @param {Linking} linking
 * @param {string} path
 * @param {string | undefined} member
 * @param {boolean} isLater
 */
function wished({ far }, path, member, isLater) {
  const name = `${path} ${member ?? isLater}`;
  const wish = far.get(name) ?? { number: far.size, path, member, isLater };
  far.set(name, wish);
  return `(far())[${wish.number}]${isLater ? "()" : ""}`;
}

/**
 * An export of a module, or all of them, as its importers write it.
 *
 * @param {Linking} linking
 * @param {string} path
 * @param {string | undefined} member
 * @returns {string}
 */
function memberOf(linking, path, member) {
  const { exports, constants, code, variables } = /** @type {Module} */ (linking.modules.get(path));
  const call = `($m${linking.numbers.get(path)}())`;
  if (code === undefined) return member === undefined ? call : `${call}.${member}`;
  if (member === undefined)
    return linking.isFar(path) ? wished(linking, path, member, false) : `($n${linking.numbers.get(path)}())`;
  const local = exports.get(member) ?? "";
  const [, variable = "", origin] = OF_ANOTHER.exec(local) ?? [];
  const from = variables.get(variable);
  // What stands in between is not evaluated.
  if (from !== undefined) return memberOf(linking, from, origin);
  const constant = constants.get(local);
  if (constant !== undefined) return constant;
  if (linking.isFar(path)) return wished(linking, path, member, false);
  return `${call}.${shortName([...exports.keys()].indexOf(member))}`;
}

/**
 * The code with calls in the places of variables for modules, and of names of modules.
 *
 * @param {Linking} linking
 * @param {string} text
 * @param {Module} module
 */
function linked(linking, text, { variables }) {
  let now = text;
  for (const [variable, path] of variables) {
    const uses = new RegExp(
      `\\(0, ${variable}\\.([\\w$]+)\\)(?=\\()|\\b${variable}\\b(?:\\.([\\w$]+))?`,
      "g",
    );
    now = now.replaceAll(uses, (_all, /** @type {string} */ called, /** @type {string} */ read) =>
      memberOf(linking, path, called ?? read),
    );
  }
  return now
    .replaceAll(LATER, (all, /** @type {string} */ path) =>
      linking.isFar(path) ? wished(linking, path, undefined, true) : all,
    )
    .replaceAll(NAMESPACE, (_all, /** @type {string} */ path) => memberOf(linking, path, undefined));
}

/**
 * A module's statements, in which it calls others.
 *
 * @param {Linking} linking
 * @param {string} name
 */
function bodyOf(linking, name) {
  const module = /** @type {Module} */ (linking.modules.get(name));
  const text = linked(linking, linking.made.get(name)?.body ?? withExports(module), module);
  for (const [, local = "", value = ""] of text.matchAll(CONSTANT))
    module.constants.set(local, valueOf(value));
  return text;
}

/**
 * The function that makes a module's exports accessible by their own names.
 *
 * @param {Linking} linking
 * @param {string} name
 */
function namespaceOf(linking, name) {
  const number = linking.numbers.get(name);
  const members = [...(linking.modules.get(name)?.exports ?? [])].map(([member, local], at) =>
    OF_ANOTHER.test(local)
      ? `get ${member}() { return ${memberOf(linking, name, member)}; }`
      : `${member}: m.${shortName(at)}`,
  );
  return `function $n${number}() { const m = $m${number}(); return { ${members.join(", ")} }; }\n`;
}

/**
 * A constant: a product as a number.
 *
 * @param {string} text
 */
function valueOf(text) {
  if (!text.includes(" * ")) return text;
  return String(text.split(" * ").reduce((product, factor) => product * Number(factor), 1));
}

/**
 * The functions of modules, and of their namespaces that are asked for.
 *
 * @param {Linking} linking
 * @param {ReadonlyMap<string, string>} bodies
 * @param {string} others text that calls them, too
 */
function functionsOf(linking, bodies, others) {
  const names = [...linking.numbers.keys()];
  const functions = [...bodies].map(([name, body]) => {
    const number = linking.numbers.get(name);
    return `function $m${number}() { return made[${number}] ?? make(${number}, () => {\n${body}}); }\n`;
  });
  const whole = new Set(called([others, ...bodies.values()].join(""), "n"));
  return [...functions, ...[...whole].map((number) => namespaceOf(linking, names[number] ?? ""))].join("");
}

/**
 * The modules that a text calls.
 *
 * @param {string} text
 * @param {"m" | "n"} [kind]
 */
function called(text, kind) {
  return [...text.matchAll(CALL)].flatMap(([, found, number]) =>
    kind === undefined || kind === found ? [Number(number)] : [],
  );
}

/** How esbuild writes that a module of a bundle imports: at once, or when the module is evaluated. */
const BUNDLED = /^(?:var |\s+)(import_\w+|\w+) = (?:__toESM\()?require\("([^"]+)"\)(?:(?:, 1)?\))?;\n/gm;

/**
 * The second volume: modules that are bundled as esbuild does, since they are evaluated together; those behind import() are not, before it.
 * None of the first volume needs one of them while it is evaluated, since it would then have been evaluated with it.
 *
 * @param {Program} program
 * @param {Linking} linking
 * @param {(name: string) => boolean} isFar
 */
async function furtherText(program, linking, isFar) {
  const lines = [...linking.far.values()].map(({ number, path, member, isLater }) => {
    const key = `$${number}`;
    const file = JSON.stringify(join(program.root, path));
    if (member !== undefined) return `export { ${member} as ${key} } from ${file};`;
    return isLater ? `export const ${key} = () => import(${file});` : `export * as ${key} from ${file};`;
  });
  const { code, exported, helpers } = await built(program, lines.join("\n"), isFar);
  /** @type {Map<string, string>} */
  const variables = new Map();
  const text = code
    .replaceAll(BUNDLED, (all, /** @type {string} */ variable, /** @type {string} */ path) => {
      if (linking.modules.has(path)) variables.set(variable, path);
      else
        return code.includes(`${variable}.default`) ? all : all.replace(/__toESM\((.*?\))(?:, 1)?\)/, "$1");
      return all.startsWith("var") ? "" : "\n";
    })
    .replaceAll(
      /(?<=then\(\(\) => )__toESM\(require\("([^"]+)"\)(?:, 1)?\)/g,
      (all, /** @type {string} */ path) => (linking.modules.has(path) ? `namespace("${path}")` : all),
    );
  const declared = text.replaceAll(/^var ([\w$, ]+);\n/gm, (_all, /** @type {string} */ list) => {
    const kept = list.split(", ").filter((variable) => !variables.has(variable));
    return kept.length === 0 ? "" : `var ${kept.join(", ")};\n`;
  });
  const module = /** @type {Module} */ ({ variables });
  const list = [...linking.far.values()].map(({ number }) => exported.get(`$${number}`)).join(", ");
  return {
    text: linked(linking, `${declared}return [${list}];\n`, module),
    helpers: [...helpers.values()].join(""),
  };
}

/**
 * Bundles a program. What it answers makes its volumes: the modules of which `isNear` is true in the first, which exports `result`, and
 * `made`, the modules that were evaluated by their places in `names`.
 *
 * @param {Program & { further: string }} program `further`: how the first volume requires the second
 */
export async function bundleLazily(program) {
  const { modules, names, helpers } = await modulesOf(program);
  const numbers = new Map(names.map((name, at) => [name, at]));
  const at = [...(modules.get(program.entry)?.exports.keys() ?? [])].indexOf(program.result);
  /** @type {Linking} */
  const whole = { modules, numbers, made: program.made, isFar: () => false, far: new Map() };
  // Constants of a module are known before its importers' turn.
  for (const name of names.toReversed()) bodyOf(whole, name);
  /** @param {(name: string) => boolean} isNear */
  const volumes = async (isNear) => {
    const isFar = (/** @type {string} */ name) =>
      numbers.has(name) && !isNear(name) && !program.made.has(name);
    /** @type {Linking} */
    const linking = { ...whole, isFar, far: new Map() };
    const near = names.filter((name) => !isFar(name));
    const bodies = new Map(near.map((name) => [name, bodyOf(linking, name)]));
    const further = await furtherText(program, linking, isFar);
    const calls = [...new Set([...further.text.matchAll(CALL)].map(([call]) => call.slice(0, -2)))];
    const given = `[${calls.join(", ")}]`;
    const first = `${helpers}const made = Array(${names.length});
${MAKE}let further;
const far = () => further ??= require(${JSON.stringify(program.further)}).modules(${given});
${functionsOf(linking, bodies, further.text)}exports.made = made;
exports.${program.result} = $m${numbers.get(program.entry)}().${shortName(at)};
`;
    const second = `${further.helpers}exports.modules = (${given}) => {\n${further.text}};\n`;
    return Promise.all([first, second].map((text) => minified(program, text)));
  };
  return { names, volumes };
}

/**
 * A script.
 *
 * @param {Program} program
 * @param {string} text
 */
async function minified({ options }, text) {
  const { target = [], banner } = options;
  const script = `${banner?.js ?? ""}(() => {\n"use strict";\n${text}})();\n`;
  const { code } = await transform(script, { target, charset: "ascii", legalComments: "none", minify: true });
  return code;
}
