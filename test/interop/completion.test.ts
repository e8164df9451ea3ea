// The completions in the real bash, zsh and fish, and the man pages in the real man: every verb and option that --help shows is
// there, and nobody warns.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runVerb } from "../support/verb-client.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-completion-"));
const blockwright = (...words: string[]): string => runVerb(words, { cwd: directory }).stdout;
/** Verb -> the option names that its help shows. */
const verbs = new Map<string, string[]>();

/** The names that a --help lists. */
const commandsIn = (help: string): string[] =>
  [...help.matchAll(/^ {2}(\w+) (?:\[|<)/gm)].map(([, name = ""]) => name).filter((name) => name !== "help");

beforeAll(() => {
  for (const verb of commandsIn(blockwright("--help"))) {
    // These have a command line of their own.
    if (verb === "daemon" || verb === "machine") continue;
    const help = blockwright(verb, "--help");
    const helps = [help, ...commandsIn(help).map((below) => blockwright(verb, below, "--help"))];
    const names = helps
      .flatMap((text) => [...text.matchAll(/^ {2}(-\w)?(?:, )?(--[\w-]+)?/gm)])
      .flatMap(([, short, long]) => [short, long].filter((name) => name !== undefined));
    verbs.set(verb, [...new Set(names)]);
  }
  for (const shell of ["bash", "zsh", "fish"])
    writeFileSync(join(directory, `completion.${shell}`), blockwright("completion", shell));
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

function run(shell: string, words: string[], script: string): string {
  const { stdout, stderr, status } = spawnSync(shell, [...words, script], {
    cwd: directory,
    encoding: "utf8",
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout;
}

/** The words that a line of the output has. */
const sorted = (line = ""): string[] =>
  line
    .split(" ")
    .filter((word) => word !== "")
    .toSorted();

describe("completion", () => {
  it("knows enough to be worth a test", () => {
    expect(verbs.size).toBeGreaterThan(20);
    expect(verbs.get("check")).toEqual(expect.arrayContaining(["-r", "--repair", "--gate", "-h", "--help"]));
  });

  it("completes in bash", () => {
    const lines = [...verbs.keys()].map((verb) => `ask ${verb} -; ask ${verb} --gate ""`);
    const script = `source ./completion.bash; complete -p blockwright
      ask() { COMP_WORDS=(blockwright "$@"); COMP_CWORD=$#; _blockwright; echo "\${COMPREPLY[*]}"; }
      ask ""; ask che; ask check -f ""; ask check -r ""; ask measure --output ""; ask convert -t w; ask create -o lazy
      ask backup re; ask completion ""; ask man che; ask daemon --moni; ask daemon --gate l; ask io -r ""\n${lines.join("\n")}`;
    const printed = run("bash", ["--norc", "-c"], script).split("\n");
    const [registered, first, begun] = printed;
    const [values, rest] = [printed.slice(3, 13), printed.slice(13)];
    expect(registered).toBe("complete -o default -F _blockwright blockwright");
    expect(sorted(first)).toEqual(expect.arrayContaining([...verbs.keys(), "daemon", "--help"]));
    expect(begun).toBe("check");
    expect(values).toEqual([
      ...["raw qcow2 luks", "leaks all", "human json", "writeback writethrough", "lazy_refcounts="],
      ...["restore", "bash zsh fish", "check", "--monitor", "local"],
    ]);
    // The file of a verb whose option takes no value.
    expect(rest.shift()).toBe("");
    [...verbs].forEach(([verb, options], index) => {
      expect({ verb, options: [...new Set(sorted(rest[2 * index]))] }).toEqual({
        verb,
        options: options.toSorted(),
      });
      const policies = options.includes("--gate") ? "deny same-dir local all" : "";
      expect({ verb, values: rest[2 * index + 1] }).toEqual({ verb, values: policies });
    });
  });

  it("completes in zsh", () => {
    // compinit registers it; what it hands to zsh's own functions is looked at here.
    const asks = [...verbs.keys()].map(
      (verb) => `words=(blockwright ${verb} -); CURRENT=3; _blockwright; print`,
    );
    const script = `autoload -Uz compinit; compinit -u -d ./dump; source ./completion.zsh; print $_comps[blockwright]
      _describe() { print -r -- \${(P)2} }
      _arguments() { print -rn -- " \${(j:|:)@}|" }
      words=(blockwright ""); CURRENT=2; _blockwright\n${asks.join("\n")}`;
    const [registered, first = "", ...rest] = run("zsh", ["-fc"], script).split("\n");
    expect(registered).toBe("_blockwright");
    for (const verb of verbs.keys()) expect(first).toContain(`${verb}:`);
    [...verbs].forEach(([verb, options], index) => {
      const found = [...(rest[index] ?? "").matchAll(/[ |]\*(-[\w-]+)\[/g)].map((match) => match[1] ?? "");
      expect({ verb, found: [...new Set(found)].toSorted() }).toEqual({ verb, found: options.toSorted() });
      if (options.includes("--gate")) expect(rest[index]).toContain(":policy:(deny same-dir local all)");
      if (verb === "check") expect(rest[index]).toContain(":what:(leaks all)");
      if (verb === "completion") expect(rest[index]).toContain("1:word:(bash zsh fish)");
    });
  });

  it("completes in fish", () => {
    const asks = [...verbs.keys()].map(
      (verb) =>
        `ask "blockwright ${verb} -"; ask "blockwright ${verb} --"; ask "blockwright ${verb} --gate "`,
    );
    const script = `source ./completion.fish
      function ask; echo (complete -C $argv[1] | string replace -r "\\t.*" ""); end
      ask "blockwright "; ask "blockwright check -r "; ask "blockwright completion "; ask "blockwright daemon --moni"\n${asks.join("\n")}`;
    const [first, repair, shells, daemon, ...rest] = run("fish", ["--no-config", "-c"], script).split("\n");
    expect([repair, shells, daemon].map(sorted)).toEqual([
      ["all", "leaks"],
      ["bash", "fish", "zsh"],
      ["--monitor"],
    ]);
    expect(sorted(first)).toEqual(expect.arrayContaining([...verbs.keys()]));
    [...verbs].forEach(([verb, options], index) => {
      const found = new Set([...sorted(rest[3 * index]), ...sorted(rest[3 * index + 1])]);
      expect({ verb, missing: options.filter((name) => !found.has(name)) }).toEqual({ verb, missing: [] });
      if (options.includes("--gate"))
        expect(sorted(rest[3 * index + 2])).toEqual(
          expect.arrayContaining(["all", "deny", "local", "same-dir"]),
        );
    });
  });

  it("refuses other shells", () => {
    const { status, stderr } = runVerb(["completion", "csh"], { cwd: directory });
    expect([status, stderr]).toEqual([1, expect.stringContaining("bash, zsh, fish")]);
  });
});

describe("man", () => {
  it("has a page of every verb with every option, which man finds nothing to warn of", () => {
    const pages = join(directory, "pages");
    expect(blockwright("man", "--all", pages)).toBe("");
    const wanted = [
      "blockwright.1",
      "blockwright-daemon.1",
      "blockwright-machine.1",
      ...[...verbs.keys()].map((verb) => `blockwright-${verb}.1`),
    ];
    expect(readdirSync(pages).toSorted()).toEqual(wanted.toSorted());
    const env = { ...process.env, MANWIDTH: "200", LC_ALL: "C.UTF-8", MAN_KEEP_FORMATTING: "" };
    const render = (page: string): string => {
      const words = ["--warnings", "-l", join(pages, page)];
      const { stdout, stderr, status } = spawnSync("man", words, { encoding: "utf8", env });
      expect({ page, status, stderr }).toEqual({ page, status: 0, stderr: "" });
      return stdout;
    };
    for (const [verb, options] of verbs) {
      const text = render(`blockwright-${verb}.1`);
      const missing = options.filter((name) => !new RegExp(`^ +(?:-\\w, )?${name}\\b`, "m").test(text));
      expect({ verb, missing }).toEqual({ verb, missing: [] });
      expect(text).not.toContain("?");
    }
    const text = render("blockwright.1");
    for (const verb of verbs.keys()) expect(text).toContain(`blockwright-${verb}(1)`);
  });

  it("prints one page, and knows no verb that there is not", () => {
    expect(blockwright("man", "check")).toContain("blockwright\\-check \\- look for damage");
    expect(blockwright("man")).toContain(".SH VERBS");
    const { status, stderr } = runVerb(["man", "nope"], { cwd: directory });
    expect([status, stderr]).toEqual([1, "blockwright: There is no verb 'nope'\n"]);
  });

  it("is packed with the package", () => {
    expect(readdirSync(fileURLToPath(new URL("../../build/man", import.meta.url)))).toContain(
      "blockwright-check.1",
    );
  });
});
