/**
 * The documentation is true: its links lead somewhere, its examples run as they stand, its tables of measurements are those
 * of docs/benchmarks.json, and it mentions every export, option, command, event, driver and limit that there is.
 */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { limits } from "../../src/base/limits.ts";
import { engineCommands } from "../../src/server/monitor/commands/index.ts";
import { schema } from "../../src/wire/qapi/index.ts";
import { codeWords, deadLink, exportsOf, linksOf, markedTable, runnable, runnableNames } from "./docs.ts";
import { readText, repositoryFiles } from "./source.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const program = join(root, "build", "cli", "main.js");
const pages = repositoryFiles(/^[^/]+\.md$|^docs\/.*\.md$/);

function help(...words: string[]): string {
  return execFileSync(process.execPath, [program, ...words, "--help"], { encoding: "utf8" });
}

/** The names that a page does not mention. */
function missing(page: string, names: Iterable<string>): string[] {
  const words = codeWords(page);
  return [...names].filter((name) => !words.has(name));
}

it("is there", () => {
  for (const name of ["API", "ARCHITECTURE", "BROWSER", "CLI", "ERROR-POLICY", "GLOSSARY"])
    expect(pages).toContain(`docs/${name}.md`);
  for (const name of ["README", "CHANGELOG", "SECURITY"]) expect(pages).toContain(`${name}.md`);
});

describe("links", () => {
  it("lead to files and headings that exist", () => {
    const links = pages.flatMap(linksOf);
    expect(links.length).toBeGreaterThan(60);
    expect(links.map(deadLink).filter((dead) => dead !== undefined)).toEqual([]);
  });

  it("that lead nowhere would be noticed", () => {
    expect(deadLink({ page: "README.md", path: "docs/NONE.md", fragment: undefined })).toContain(
      "does not exist",
    );
    expect(deadLink({ page: "README.md", path: "README.md", fragment: "none" })).toContain("no heading");
    expect(deadLink({ page: "README.md", path: "README.md", fragment: "try-it" })).toBeUndefined();
  });
});

describe("README's matrix", () => {
  const matrix = readText("README.md").split("## What exists")[1]?.split("## Speed")[0] ?? "";
  const rows = matrix.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| | "));

  it("has every driver and every kind of job", () => {
    const first = rows.map((row) => row.split("|")[1] ?? "").join(" ");
    const drivers = repositoryFiles(/^src\/drivers\/.*\.ts$/)
      .filter((path) => /: DriverType = /.test(readText(path)))
      .map((path) => /name: "([^"]+)"/.exec(readText(path).split(": DriverType = ")[1] ?? "")?.[1] ?? path);
    expect(drivers.length).toBeGreaterThan(8);
    for (const name of [...drivers, "mirror", "backup", "stream", "commit", "create"])
      expect(first).toMatch(new RegExp(`(^|[^\\w-])${name}([^\\w-]|$)`));
  });

  it("links what it says to tests", () => {
    const targets = [...matrix.matchAll(/\]\(([^)]+)\)/g)].map((match) => match[1] ?? "");
    expect(targets.length).toBeGreaterThan(50);
    expect(targets.filter((target) => !/^test\/.*(\.test\.ts|\/scenarios\/\w+\.mjs)$/.test(target))).toEqual(
      [],
    );
    const claims = rows
      .flatMap((row) => row.split("|").map((cell) => cell.trim()))
      .filter((cell) => cell === "yes");
    expect(claims).toEqual([]);
  });
});

describe("README's numbers", () => {
  it("are those of the recordings", () => {
    const recordings = repositoryFiles(/^test\/conformance\/expected\/.*\.json$/);
    const count = recordings.reduce(
      (sum, path) => sum + Object.keys(JSON.parse(readText(path)) as object).length,
      0,
    );
    expect(readText("README.md")).toContain(`${count} recorded scenarios`);
  });
});

describe("README's examples", () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "blockwright-docs-"));
    mkdirSync(join(directory, "node_modules", ".bin"), { recursive: true });
    symlinkSync(root, join(directory, "node_modules", "blockwright"));
    symlinkSync(program, join(directory, "node_modules", ".bin", "blockwright"));
  });

  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  /** Runs a block as a user would; returns what it prints. */
  function run(name: string): string {
    const file = join(directory, `${name}.mjs`);
    writeFileSync(file, runnable("README.md", name));
    return execFileSync(process.execPath, [file], { cwd: directory, encoding: "utf8", timeout: 60_000 });
  }

  it("are all run here", () => {
    const known = ["bitmap", "browser", "client", "daemon", "enospc", "example", "file"];
    expect(runnableNames("README.md").toSorted()).toEqual(known);
  });

  it("the first one", () => {
    expect(runnable("README.md", "example").trim().split("\n").length).toBeLessThanOrEqual(14);
    expect(run("example")).toMatch(/cancelled: false \} written while the job runs/);
  });

  it("a mirror that waits for room", () => {
    const text = run("enospc");
    expect(text).toMatch(/^write of \d+ bytes at \d+: no space$/m);
    expect(text).toContain("cancelled: true");
  });

  it("incremental backups", () => {
    expect(run("bitmap")).toBe("65536 bytes copied\n");
    expect(existsSync(join(directory, "tuesday.qcow2"))).toBe(true);
  });

  it("one file out of a compressed image", () => {
    for (const name of ["partitioninfo", "ext2fs", "file-disk"])
      symlinkSync(join(root, "node_modules", name), join(directory, "node_modules", name));
    mkdirSync(join(directory, "tree", "etc"), { recursive: true });
    writeFileSync(join(directory, "tree", "etc", "motd"), "hello\n");
    writeFileSync(join(directory, "disk.raw"), "");
    truncateSync(join(directory, "disk.raw"), 12 * 1024 * 1024);
    const tool = (line: string, input = ""): unknown =>
      execFileSync(line.split(" ")[0]!, line.split(" ").slice(1), { cwd: directory, input });
    tool("sfdisk -q disk.raw", "label: gpt\nstart=2048, size=20480\n");
    tool("mke2fs -q -t ext4 -E offset=1048576 -d tree disk.raw 10M");
    tool("qemu-img convert -c -O qcow2 disk.raw disk.qcow2");
    expect(run("file")).toBe("hello\n\n");
  });

  it("qcow2 in a browser", () => {
    expect(run("browser")).toBe("hello\n");
  });

  it("the daemon and its client", () => {
    writeFileSync(join(directory, "disk.raw"), "");
    truncateSync(join(directory, "disk.raw"), 1024 * 1024);
    const PATH = [join(directory, "node_modules", ".bin"), process.env["PATH"]].join(delimiter);
    execFileSync("sh", ["-ec", runnable("README.md", "daemon")], {
      cwd: directory,
      env: { ...process.env, PATH },
      stdio: ["ignore", "ignore", "inherit"],
    });
    expect(run("client")).toMatch(/device: 'nightly',\s+len: 1048576,\s+offset: 1048576/);
  });
});

describe("README's commands", () => {
  it("are the two that CI runs", () => {
    const section = readText("README.md").split("## Try it")[1]?.split("\n## ")[0] ?? "";
    const commands = section.split("\n").flatMap((line) => /^ {4}(\S.*)$/.exec(line)?.[1] ?? []);
    expect(commands).toEqual(["npm ci && npm start", "npm ci && npm test"]);
  });
});

interface Measured {
  command: string;
  method: string;
  columns: string[];
  rows: (string | number)[][];
}

describe("README's measurements", () => {
  const { machine, ...tables } = JSON.parse(readFileSync(join(root, "docs/benchmarks.json"), "utf8")) as {
    machine: string;
  } & Record<string, Measured>;

  it.each(Object.entries(tables as Record<string, Measured>))(
    "%s are those of docs/benchmarks.json",
    (name, table) => {
      const cells = (row: readonly (string | number)[]): string => `| ${row.join(" | ")} |`;
      const lines = [
        cells(table.columns),
        cells(table.columns.map(() => "---")),
        ...table.rows.map(cells),
        "",
        `\`${table.command}\`: ${table.method}.`,
      ];
      expect(table.rows.length).toBeGreaterThan(0);
      expect(markedTable("README.md", name)).toBe(lines.join("\n"));
    },
  );

  it("name the machine", () => {
    expect(readText("README.md").replaceAll(/\s+/g, " ")).toContain(machine);
  });
});

describe("docs/API.md", () => {
  it.each([
    ["index", 90],
    ["node", 90],
    ["browser", 90],
    ["v86", 15],
  ] as const)("mentions every export of the entry %s", (entry, least) => {
    const names = exportsOf(`build/types/${entry}.d.ts`);
    expect(names.size).toBeGreaterThan(least);
    expect(missing("docs/API.md", names)).toEqual([]);
  });

  it.each(["file-disk", "random-access"])("mentions every export of the entry %s", (entry) => {
    const names = exportsOf(`build/types/adapters/${entry}.d.ts`);
    expect(names.size).toBeGreaterThan(1);
    expect(missing("docs/API.md", names)).toEqual([]);
  });

  it("mentions every export of the entry worker", () => {
    const names = exportsOf("build/types/worker.d.ts");
    expect(names.size).toBeGreaterThan(3);
    expect(missing("docs/API.md", names)).toEqual([]);
  });

  it("mentions every command that a monitor serves, and no other of the table", () => {
    const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: "" };
    const served = engineCommands({ version, onQuit: () => undefined }).names();
    expect(served.length).toBeGreaterThan(50);
    expect(missing("docs/API.md", served)).toEqual([]);
    const unserved = Object.keys(schema.commands).filter((name) => !served.includes(name as never));
    expect(unserved.filter((name) => !missing("docs/API.md", [name]).length)).toEqual([]);
  });

  it("mentions every event", () => {
    expect(missing("docs/API.md", Object.keys(schema.events))).toEqual([]);
  });

  it("mentions every option of every driver and object", () => {
    const types = Object.entries(schema.types).filter(([name]) =>
      /^BlockdevOptions|^ThrottleGroup/.test(name),
    );
    expect(types.length).toBeGreaterThan(9);
    const members = types.flatMap(([, type]) =>
      Object.keys(("members" in type ? type.members : undefined) ?? {}),
    );
    expect(members.length).toBeGreaterThan(40);
    const names = members
      .map((name) => name.replace(/^\*/, ""))
      .filter((name) => !/^x-[ib]o?ps|^limits$/.test(name));
    expect(missing("docs/API.md", names)).toEqual([]);
  });
});

describe("docs/CLI.md", () => {
  const verbs = [...help().matchAll(/^ {2}(\w+) (?:\[|<)/gm)].map((match) => match[1] ?? "");

  it("mentions every verb and every option", () => {
    expect(verbs).toEqual(
      expect.arrayContaining(["daemon", "info", "mirror", "backup", "stream", "commit", "demo"]),
    );
    for (const verb of verbs.filter((name) => name !== "help")) {
      const options = [...help(verb).matchAll(/(?:^|[ ,])(--?[a-zA-Z][\w-]*)/gm)].map(
        (match) => match[1] ?? "",
      );
      expect(options.length).toBeGreaterThan(1);
      expect({ verb, missing: missing("docs/CLI.md", options) }).toEqual({ verb, missing: [] });
      expect(readText("docs/CLI.md")).toMatch(new RegExp(`^## .*\\b${verb}\\b`, "m"));
    }
  });

  it("mentions no option that there is not", () => {
    const known = new Set(
      verbs.flatMap((verb) =>
        verb === "help" ? [] : [...help(verb).matchAll(/--[a-z][\w-]*/g)].map(String),
      ),
    );
    for (const extra of ["--version", "--export", "--nbd-server"]) known.add(extra);
    const named = [...codeWords("docs/CLI.md")].filter((word) => /^--[a-z]/.test(word));
    expect(named.filter((word) => !known.has(word))).toEqual([]);
  });

  it("mentions every variable of the environment that the program reads", () => {
    const sources = repositoryFiles(/^src\/.*\.ts$/).map(readText);
    const read = sources.flatMap((text) =>
      [...text.matchAll(/process\.env\["(\w+)"\]/g)].map((match) => match[1] ?? ""),
    );
    const internal = new Set(["PATH", "INIT_CWD", "npm_lifecycle_event"]);
    expect(read.length).toBeGreaterThan(3);
    expect(
      missing(
        "docs/CLI.md",
        read.filter((name) => !internal.has(name)),
      ),
    ).toEqual([]);
  });
});

describe("the other pages", () => {
  it("SECURITY.md names every limit", () => {
    expect(missing("SECURITY.md", Object.keys(limits))).toEqual([]);
  });

  it("docs/ARCHITECTURE.md names every folder of src/", () => {
    const folders = new Set(repositoryFiles(/^src\/[^/]+\//).map((path) => path.split("/")[1] ?? ""));
    const text = readText("docs/ARCHITECTURE.md");
    expect([...folders].filter((name) => !text.includes(`src/${name}/`))).toEqual([]);
  });
});
