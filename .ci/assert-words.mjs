// Leaves the words of asserts out of what is built: they are 5 KiB of the package, and 1 KiB of a page. Whoever meets a broken invariant there
// has its place in the stack.
import { readFileSync } from "node:fs";
import { parseSync, Visitor } from "oxc-parser";

/**
 * A source whose asserts have no words.
 *
 * @param {string} path
 * @param {string} text
 */
export function withoutWords(path, text) {
  /** @type {{ from: number, to: number }[]} */
  const words = [];
  const visitor = new Visitor({
    CallExpression({ callee, arguments: [condition, message] }) {
      if (callee.type === "Identifier" && callee.name === "assert" && condition && message)
        words.push({ from: condition.end, to: message.end });
    },
    NewExpression({ callee, arguments: [message] }) {
      if (callee.type === "Identifier" && callee.name === "AssertionError" && message)
        words.push({ from: message.start, to: message.end });
    },
  });
  visitor.visit(parseSync(path, text).program);
  // From the end on, so that the places before stay right.
  return words
    .toSorted((a, b) => b.from - a.from)
    .reduce((now, { from, to }) => now.slice(0, from) + now.slice(to), text);
}

/** @type {import("esbuild").Plugin} */
export const wordlessAsserts = {
  name: "wordless-asserts",
  setup(build) {
    build.onLoad({ filter: /[\\/]src[\\/].*\.ts$/, namespace: "file" }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      return /assert\(|AssertionError\(/.test(text)
        ? { contents: withoutWords(path, text), loader: "ts" }
        : undefined;
    });
  },
};
