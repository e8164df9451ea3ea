/**
 * How the build shortens the library's files (.ci/compact.mjs): exported names stay, lines stay short, and what a page does not use a bundler
 * can still leave out.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { withoutWords } from "../../.ci/assert-words.mjs";
import { shortened } from "../../.ci/compact.mjs";
import { root } from "../support/root.ts";

const target = ["chrome120"];

/** Bundles the module for who imports nothing but `used`. */
async function bundledFor(contents: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: 'export { used } from "library";' },
    bundle: true,
    write: false,
    format: "esm",
    plugins: [
      {
        name: "library",
        setup({ onLoad, onResolve }) {
          onResolve({ filter: /^library$/ }, ({ path }) => ({ path, namespace: "library" }));
          onLoad({ filter: /.*/, namespace: "library" }, () => ({ contents }));
        },
      },
    ],
  });
  return outputFiles[0]!.text;
}

it("keeps the marks of calls and of functions without effects", async () => {
  const source = `// @__NO_SIDE_EFFECTS__
function tableOf(name) {
  return { name };
}
export var used = tableOf("wanted");
var unused = tableOf("unwanted table");
class Registry {
  names = /* @__PURE__ */ new Set(["in a class"]);
}
var other = /* @__PURE__ */ new Registry();
export { unused, other };
`;
  const short = await shortened(source, target);
  expect(short.length).toBeLessThan(source.length);
  expect(short.match(/__PURE__/g)).toHaveLength(2);
  expect(short).not.toContain("tableOf");
  expect(short).toMatch(/export var used=|as used\b/);
  const bundled = await bundledFor(short);
  expect(bundled).toContain("wanted");
  expect(bundled).not.toMatch(/unwanted table|in a class/);
  // The same without the marks keeps all.
  const unmarked = await bundledFor(short.replaceAll(/\/\* @__\w+__ \*\//g, ""));
  expect(unmarked).toContain("unwanted table");
  expect(unmarked).toContain("in a class");
});

it("has lines that a terminal can show", async () => {
  const source = Array.from(
    { length: 200 },
    (_, i) => `export function name${i}(given) { return given + ${i}; }`,
  );
  const lines = (await shortened(source.join("\n"), target)).split("\n");
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThan(500);
});

it("refuses a text in which a stand-in has a meaning", async () => {
  await expect(shortened("export var x = ~~~~~~~1;\n", target)).rejects.toThrow("in it");
});

it("asserts lose their words, and nothing else does", () => {
  const source =
    'assert(a, "a (b)");\nassert(\n  f(1, "x"),\n  `job ${g("y")}`,\n);\nexpect(b, "c"); assert(d);\nif (a) throw new AssertionError(`${a} is`);\nthrow new Error("e");';
  const bare =
    'assert(a);\nassert(\n  f(1, "x"),\n);\nexpect(b, "c"); assert(d);\nif (a) throw new AssertionError();\nthrow new Error("e");';
  expect(withoutWords("src/a.ts", source)).toBe(bare);
});

it("drops the marks of calls that the minifier has made something else of", async () => {
  const source = `import { table } from "library";
var first = /* @__PURE__ */ (() => table[0])();
var rows = /* @__PURE__ */ [[1]].map(String);
var made = /* @__PURE__ */ table(1);
export { first, rows, made };
`;
  const short = await shortened(source, target);
  expect(short).toMatch(/=\w+\[0\],/);
  expect(short.match(/__PURE__ \*\/\w+\(1\)/g)).toHaveLength(1);
  expect(short.match(/__PURE__/g)).toHaveLength(1);
});

it("leaves the names of workers' scripts whole, and right for the file that has them", () => {
  const folders = ["build", "build/chunks"];
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder)).map((name) => join(folder, name)),
  );
  const named = files
    .filter((file) => file.endsWith(".js"))
    .flatMap((file) => {
      const text = readFileSync(join(root, file), "utf8");
      // A name that is broken over lines is none for a bundler that looks for it.
      expect(text, file).not.toMatch(/(?:new URL\(|import\(|from|import)"[^"\n]*\\\n/);
      return [...text.matchAll(/new URL\("([^"]+)",import\.meta\.url\)/g)].map(([, name = ""]) =>
        join(dirname(file), name),
      );
    });
  expect(named.toSorted()).toEqual(["build/guest-worker.js", "build/worker.js"]);
  for (const file of named) expect(existsSync(join(root, file)), file).toBe(true);
});
