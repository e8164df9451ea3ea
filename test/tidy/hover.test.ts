/**
 * The declarations of the QAPI table that the package ships (.ci/hover.mjs): they say of every option of a driver and every argument of
 * a command what it is, their types are those that the sources compute, and their sentences are in no bundle.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { schema } from "../../src/wire/qapi/index.ts";
import { type MemberRef, type TypeRef, membersOf } from "../../src/wire/qapi/schema.ts";
import { hoverText } from "../../.ci/hover-texts.mjs";
import { root } from "../support/root.ts";

/** Every member that a command's arguments may have, at any depth: `[type, member]`. */
function argumentMembers(): [string, string][] {
  const found: [string, string][] = [];
  const seen = new Set<string>();
  const visit = (ref: TypeRef): void => {
    const name = typeof ref === "string" ? ref : ref[0];
    const definition = schema.types[name];
    if (!definition || seen.has(name)) return;
    seen.add(name);
    if (definition.kind === "struct") {
      if (definition.base !== undefined) visit(definition.base);
      members(name, definition.members);
    } else if (definition.kind === "union") {
      members(name, definition.base);
      for (const branch of Object.values(definition.branches)) if (branch !== null) visit(branch);
    } else if (definition.kind === "alternate") for (const type of definition.types) visit(type);
  };
  const members = (owner: string, list: { readonly [name: string]: MemberRef }): void => {
    for (const { name, type } of membersOf(list)) {
      found.push([owner, name]);
      visit(type);
    }
  };
  for (const [name, { data }] of Object.entries(schema.commands))
    if (typeof data === "string") visit(data);
    else members(name, data);
  return found;
}

it("every option and argument has its sentence", () => {
  const found = argumentMembers();
  expect(found.length).toBeGreaterThan(250);
  expect(found.filter(([owner, member]) => hoverText(owner, member) === undefined)).toEqual([]);
  const declared = readFileSync(join(root, "build/.types/wire/qapi/table.d.ts"), "utf8");
  expect(declared).toContain(`/** ${hoverText("BlockdevOptionsQcow2", "overlap-check")} */`);
});

it("no bundle holds the sentences", () => {
  const bundles = ["build", "build/chunks", "build/cli"].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".js"))
      .map((name) => join(root, folder, name)),
  );
  expect(bundles.length).toBeGreaterThan(9);
  const sentence = hoverText("BlockdevOptions", "force-share") ?? "";
  expect(sentence.length).toBeGreaterThan(20);
  expect(bundles.filter((file) => readFileSync(file, "utf8").includes(sentence))).toEqual([]);
});

it("the types are those of the sources", () => {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-hover-"));
  try {
    const names = (keys: Iterable<string>): string => [...keys].map((key) => JSON.stringify(key)).join(", ");
    writeFileSync(
      join(folder, "same.ts"),
      `import type * as Shipped from ${JSON.stringify(join(root, "build/.types/wire/qapi/table.d.ts"))};
import type * as Computed from ${JSON.stringify(join(root, "src/wire/qapi/table.ts"))};
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : "wider") : "narrower";
type Wrong<T> = { [K in keyof T as T[K] extends true ? never : K]: T[K] };
const types: Wrong<{ [N in Computed.TypeName]: Same<Shipped.TypeOf<N>, Computed.TypeOf<N>> }> = {};
const args: Wrong<{ [N in Computed.CommandName]: Same<Shipped.ArgsOf<N>, Computed.ArgsOf<N>> }> = {};
const answers: Wrong<{ [N in Computed.CommandName]: Same<Shipped.ReturnOf<N>, Computed.ReturnOf<N>> }> = {};
const events: Wrong<{ [N in Computed.EventName]: Same<Shipped.EventDataOf<N>, Computed.EventDataOf<N>> }> = {};
const typeNames: Shipped.TypeName[] = [${names(Object.keys(schema.types))}];
const commandNames: Shipped.CommandName[] = [${names(Object.keys(schema.commands))}];
console.log(types, args, answers, events, typeNames, commandNames);
`,
    );
    const compilerOptions = {
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      target: "es2022",
      lib: ["es2023", "dom"],
      types: [],
      module: "nodenext",
      allowImportingTsExtensions: true,
      skipLibCheck: true,
    };
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["same.ts"] }));
    expect(said(folder)).toBe("");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

/** What the compiler says of a project. */
function said(project: string): string {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  try {
    return execFileSync(process.execPath, [tsc, "-p", project], { encoding: "utf8" });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}
