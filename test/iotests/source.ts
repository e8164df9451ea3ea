// QEMU's own block tests, out of Debian's source package: fetched and unpacked once into build/test/iotests, without a change to
// the machine's list of sources. Nothing of them is part of this project. Source: debian/README.source of qemu 7.2.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root } from "../support/root.ts";

const folder = join(root, "build", "test", "iotests");

/** Why the tests can't be had here, or the folder of qemu-iotests. */
export type IotestsSource = { readonly missing: string } | { readonly path: string };

/** The unpacked tests, if they are here already. */
function unpacked(): string | undefined {
  if (!existsSync(folder)) return undefined;
  const source = readdirSync(folder).find((name) => name.startsWith("qemu-") && !name.endsWith(".xz"));
  const path = source && join(folder, source, "tests", "qemu-iotests");
  return path !== undefined && existsSync(join(path, "common.env")) ? path : undefined;
}

/** The mirror that the machine's own packages come from. */
function mirror(): string | undefined {
  const lists = ["/etc/apt/sources.list", ...entries("/etc/apt/sources.list.d")];
  const text = lists.flatMap((name) => (existsSync(name) ? [readFileSync(name, "utf8")] : [])).join("\n");
  return /^(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s+)?)(\S+)/m.exec(text)?.[1];
}

function entries(path: string): string[] {
  return existsSync(path) ? readdirSync(path).map((name) => join(path, name)) : [];
}

/** apt with a list of sources and a state of its own. */
function apt(uri: string): string[] {
  const list = join(folder, "source.list");
  const line = (suite: string): string => `deb-src ${uri} ${suite} main\n`;
  writeFileSync(list, ["bookworm", "bookworm-updates"].map(line).join(""));
  mkdirSync(join(folder, "lists", "partial"), { recursive: true });
  const options = {
    "Dir::Etc::SourceList": list,
    "Dir::Etc::SourceParts": "-",
    "Dir::State::Lists": join(folder, "lists"),
    "APT::Sandbox::User": "root",
  };
  return Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

/** Waits while another process fetches them; the file that stands for that is taken away when it ends. */
function alone<T>(body: () => T): T {
  mkdirSync(dirname(folder), { recursive: true });
  const lock = `${folder}.lock`;
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      // One that was killed leaves its file behind.
      if (tries >= 900) throw new Error(`${lock} is in the way`, { cause: error });
      execFileSync("sleep", ["1"]);
    }
  }
  try {
    return body();
  } finally {
    rmSync(lock);
  }
}

/** Fetches and unpacks the tests where they are not here yet; says in one line why it can't. */
export function iotestsSource(): IotestsSource {
  const here = unpacked();
  return here === undefined ? alone(fetched) : { path: here };
}

function fetched(): IotestsSource {
  const here = unpacked();
  if (here !== undefined) return { path: here };
  if (spawnSync("dpkg-source", ["--version"]).error)
    return { missing: "dpkg-source is missing (apt-get install dpkg-dev)" };
  const uri = mirror();
  if (uri === undefined) return { missing: "no Debian mirror in /etc/apt" };
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const options = apt(uri);
  const run = (...words: string[]): void => {
    execFileSync("apt-get", [...options, "-q", ...words], { cwd: folder, stdio: "pipe", timeout: 600_000 });
  };
  try {
    run("update");
    run("source", "qemu");
  } catch (error) {
    const words = error instanceof Error ? error.message.split("\n")[0] : String(error);
    return { missing: `the source package of qemu can't be fetched: ${words}` };
  }
  for (const name of readdirSync(folder)) {
    const tests = join(folder, name, "tests", "qemu-iotests");
    if (existsSync(tests)) writeFileSync(join(tests, "common.env"), "");
  }
  const path = unpacked();
  return path === undefined ? { missing: "the source package holds no qemu-iotests" } : { path };
}
