// Writes a program whose modules are evaluated when the first of their exports is used:
//
//   import { open } from "./open.ts";          function $m7() { return made[7] ?? make(7, () => { …; return { a: open }; }); }
//   open(path);                         -->    $m7().a(path);
//
// It has two volumes, since what a script costs to read and to look at grows with its length: the modules that most runs evaluate, and the
// others, which are loaded when the first of them is. A number or a short text that is exported stands where it is used.
//
// What every run evaluates is at the head of the first volume, bundled as esbuild does, and evaluated at once: an object for the exports of
// each module, a call wherever one is used, and what V8 learns of each such place cost a short run more than its own work.
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
/** What the second volume is given by the first: those, and what is evaluated at once (`$c7`). */
const GIVEN = /\$[mn]\d+(?=\(\))|\$c\d+\b/g;

/** What is asked of modules that are bundled together: an export, a module's namespace, or loading it. @typedef {{ number: number, path: string, member: string | undefined, isLater: boolean }} Wish */
/**
 * @typedef {object} Linking
 * @property {Map<string, Module>} modules
 * @property {Map<string, number>} numbers
 * @property {Program["made"]} made
 * @property {(name: string) => boolean} isFar whether a module is in the second volume
 * @property {Map<string, Wish>} far what the first asks of it
 * @property {(name: string) => boolean} isCommon whether a module is evaluated at once
 * @property {Map<string, Wish>} common what others ask of those
 */

/**
 * Notes a wish, and answers with its number.
 *
 * @param {Map<string, Wish>} wishes
 * @param {string} path
 * @param {string | undefined} member
 * @param {boolean} isLater
 */
function numberOf(wishes, path, member, isLater) {
  const name = `${path} ${member ?? isLater}`;
  const wish = wishes.get(name) ?? { number: wishes.size, path, member, isLater };
  wishes.set(name, wish);
  return wish.number;
}

/**
 * What the second volume has, as the first writes it.
 *
 * @param {Linking} linking
 * @param {string} path
 * @param {string | undefined} member
 * @param {boolean} isLater
 */
function wished({ far }, path, member, isLater) {
  return `(far())[${numberOf(far, path, member, isLater)}]${isLater ? "()" : ""}`;
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
  const bundled = () =>
    linking.isFar(path)
      ? wished(linking, path, member, false)
      : linking.isCommon(path)
        ? `$c${numberOf(linking.common, path, member, false)}`
        : undefined;
  if (member === undefined) return bundled() ?? `($n${linking.numbers.get(path)}())`;
  const local = exports.get(member) ?? "";
  const [, variable = "", origin] = OF_ANOTHER.exec(local) ?? [];
  const from = variables.get(variable);
  // What stands in between is not evaluated.
  if (from !== undefined) return memberOf(linking, from, origin);
  const constant = constants.get(local);
  if (constant !== undefined) return constant;
  return bundled() ?? `${call}.${shortName([...exports.keys()].indexOf(member))}`;
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
 * Modules that are bundled as esbuild does, since they are evaluated together. What they are asked for are its exports, `$` before each
 * number; what it answers is the text, in which they call others, and the expression of each wish.
 *
 * @param {Program} program
 * @param {Linking} linking
 * @param {Map<string, Wish>} wishes
 * @param {(name: string, isLater: boolean) => boolean} isInside
 */
async function bundledText(program, linking, wishes, isInside) {
  const asked = [...wishes.values()];
  const lines = asked.map(({ number, path, member, isLater }) => {
    const key = `$${number}`;
    const file = JSON.stringify(join(program.root, path));
    if (member !== undefined) return `export { ${member} as ${key} } from ${file};`;
    return isLater ? `export const ${key} = () => import(${file});` : `export * as ${key} from ${file};`;
  });
  const { code, exported, helpers } = await built(program, lines.join("\n"), isInside);
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
  return {
    text: linked(linking, declared, module),
    list: asked.map(({ number }) => exported.get(`$${number}`) ?? ""),
    helpers,
  };
}

/**
 * The second volume, and what every run evaluates at once. Modules behind import() are evaluated when they are asked for: of the second
 * volume by esbuild's functions, and none of the others is, since it would then have been evaluated before. Each may ask for something of the other that it
 * was not asked for before, so they are made until neither does.
 *
 * @param {Program} program
 * @param {Linking} linking
 */
async function bundledTexts(program, linking) {
  const { modules, far, common, isFar, isCommon } = linking;
  // What stands in between leads to what is evaluated, and is not itself.
  const isAtOnce = (/** @type {string} */ name) => isCommon(name) || isOnlyOfOthers(modules.get(name));
  for (;;) {
    const before = far.size + common.size;
    const head = await bundledText(program, linking, common, (name, isLater) => !isLater && isAtOnce(name));
    const further = await bundledText(program, linking, far, isFar);
    if (far.size + common.size === before) return { head, further };
  }
}

/**
 * Whether a module has nothing but exports of others.
 *
 * @param {Module | undefined} module
 */
function isOnlyOfOthers(module) {
  if (module?.code === undefined || /^[^/\n]/m.test(module.code)) return false;
  return [...module.exports.values()].every((local) => OF_ANOTHER.test(local));
}

/** @param {Map<string, string>} helpers */
const textOf = (helpers) => [...helpers.values()].join("");

/**
 * Bundles a program. What it answers makes its volumes: the modules of which `isNear` is true in the first, those of which `isCommon` is at
 * its head. It exports `result`, and `made`, the other modules that were evaluated by their places in `names`.
 *
 * @param {Program & { further: string }} program `further`: how the first volume requires the second
 */
export async function bundleLazily(program) {
  const { modules, names, helpers } = await modulesOf(program);
  const numbers = new Map(names.map((name, at) => [name, at]));
  const at = [...(modules.get(program.entry)?.exports.keys() ?? [])].indexOf(program.result);
  const none = () => false;
  /** @type {Linking} */
  const whole = {
    ...{ modules, numbers, made: program.made },
    ...{ isFar: none, far: new Map(), isCommon: none, common: new Map() },
  };
  // Constants of a module are known before its importers' turn.
  for (const name of names.toReversed()) bodyOf(whole, name);
  /**
   * @param {(name: string) => boolean} isNear
   * @param {(name: string) => boolean} isCommon never of the entry, which runs the program
   */
  const volumes = async (isNear, isCommon) => {
    const isOwn = (/** @type {string} */ name) => numbers.has(name) && !program.made.has(name);
    /** @type {Linking} */
    const linking = {
      ...{ ...whole, far: new Map(), common: new Map() },
      isFar: (name) => isOwn(name) && !isNear(name),
      isCommon: (name) => isOwn(name) && isCommon(name),
    };
    const lazy = names.filter((name) => !linking.isFar(name) && !linking.isCommon(name));
    const bodies = new Map(lazy.map((name) => [name, bodyOf(linking, name)]));
    const { head, further } = await bundledTexts(program, linking);
    const furtherText = `${further.text}return [${further.list.join(", ")}];\n`;
    const given = `[${[...new Set(furtherText.match(GIVEN))].join(", ")}]`;
    const variables = head.list.map((local, number) => `const $c${number} = ${local};\n`).join("");
    const first = `${textOf(new Map([...helpers, ...head.helpers]))}const made = Array(${names.length});
${MAKE}let further;
const far = () => further ??= require(${JSON.stringify(program.further)}).modules(${given});
${head.text}${variables}${functionsOf(linking, bodies, furtherText + head.text)}exports.made = made;
exports.${program.result} = $m${numbers.get(program.entry)}().${shortName(at)};
`;
    const second = `${textOf(further.helpers)}exports.modules = (${given}) => {\n${furtherText}};\n`;
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
