// Makes the library's files shorter. What is somebody's to import keeps the names that it exports and no others, has lines that a terminal can
// show, and keeps the marks of what is without effects, by which bundlers leave out what a page does not use: esbuild drops them with the
// white space, hence stand-ins for them meanwhile. What only the program loads is minified without them.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { transform } from "esbuild";

const MARK = "/* @__PURE__ */ ";

/**
 * What stands in for each mark of a call or a function without effects, and how the mark is written then: an operator that nobody writes,
 * and that binds as loosely as a mark of a call may stand; a statement before a function.
 */
const marks = [
  { mark: MARK, standIn: "~~~~~~~", short: "/* @__PURE__ */" },
  {
    mark: "// @__NO_SIDE_EFFECTS__\n",
    standIn: "blockwrightFunctionWithoutEffects;",
    short: "/* @__NO_SIDE_EFFECTS__ */",
  },
];
/** A mark of what the minifier made of a call: bundlers warn of marks before anything else than a call. */
const NO_CALL = /\/\* @__PURE__ \*\/(?=\[|[\w$]+\[\d+\](?!\())/g;
/** Node prints the line in which a program failed: a file of one line would fill the screen. */
const LINE_LIMIT = 400;

/** @typedef {{ outputs: Record<string, { imports: { path: string, external?: boolean }[], exports: string[], entryPoint?: string }> }} Metafile */

/** A function that the sources call one without effects. */
const WITHOUT_EFFECTS = /\/\/ @__NO_SIDE_EFFECTS__\nfunction ([\w$]+)/g;

/**
 * Marks the calls of functions without effects where they make a value: bundlers know of a function's mark in its own file only, and which
 * file that is follows from who else imports it.
 *
 * @param {string} text
 * @param {ReadonlySet<string>} names
 */
function withMarkedCalls(text, names) {
  const calls = new RegExp(`(?<=[:=(,] )(?=(?:${[...names].join("|")})\\()`, "g");
  return names.size === 0 ? text : text.replaceAll(calls, MARK);
}

/**
 * The text without white space and names that it does not need.
 *
 * @param {string} text
 * @param {string[]} target
 */
export async function shortened(text, target) {
  const marked = marks.reduce((now, { mark, standIn }) => {
    if (text.includes(standIn)) throw new Error(`the library has ${standIn} in it`);
    return now.replaceAll(mark, standIn);
  }, text);
  const { code } = await transform(marked, { target, minify: true, lineLimit: LINE_LIMIT });
  const all = marks.reduce((now, { mark, standIn, short }) => {
    const parts = now.split(standIn);
    if (parts.length !== text.split(mark).length) throw new Error(`marks ${short} were lost`);
    return parts.join(short);
  }, code);
  return all.replaceAll(NO_CALL, "");
}

/**
 * The files that these load.
 *
 * @param {Metafile} metafile
 * @param {readonly string[]} files
 */
function reachedFrom({ outputs }, files) {
  const reached = new Set(files);
  for (const file of reached)
    for (const { path, external } of outputs[file]?.imports ?? []) if (!external) reached.add(path);
  return reached;
}

/** How a class begins; esbuild numbers names of which there are several. */
const CLASS = /^(?:var (\w+?)\d* = )?class(?: _?(\w+?)\d*)?(?: extends [^{\n]+)? \{$/gm;

/**
 * The text with names in its classes that those see who inspect an object: of the ones that somebody imports by them.
 *
 * @param {string} text
 * @param {ReadonlySet<string>} names
 */
function withClassNames(text, names) {
  return text.replaceAll(CLASS, (/** @type {string} */ head, variable, own) => {
    const name = String(variable ?? own);
    return names.has(name) ? `${head}\n  static name = "${name}";` : head;
  });
}

/**
 * Makes the files of a bundle shorter.
 *
 * @param {string} root
 * @param {Metafile} metafile
 * @param {{ target: string[], isOwn: (source: string) => boolean }} options `isOwn`: whether only the program loads an entry
 */
export async function compact(root, metafile, { target, isOwn }) {
  const entries = Object.entries(metafile.outputs).filter(
    ([, { entryPoint }]) => entryPoint !== undefined && !isOwn(entryPoint),
  );
  const imported = reachedFrom(
    metafile,
    entries.map(([file]) => file),
  );
  const texts = Object.keys(metafile.outputs).map((name) => {
    return /** @type {const} */ ([name, readFileSync(join(root, name), "utf8")]);
  });
  const found = texts.flatMap(([, text]) => [...text.matchAll(WITHOUT_EFFECTS)].map(([, name = ""]) => name));
  const pure = new Set(found);
  const exported = new Set(entries.flatMap(([, { exports }]) => exports));
  await Promise.all(
    texts.map(async ([name, text]) => {
      const file = join(root, name);
      const short = imported.has(name)
        ? await shortened(withClassNames(withMarkedCalls(text, pure), exported), target)
        : (await transform(text, { target, minify: true })).code;
      writeFileSync(file, short);
    }),
  );
}
