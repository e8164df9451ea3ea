// `npm test`: every check, then every suite, each with its time; the last line is `N passed, N failed` over all of
// them. A check such as the linter counts as one test. `npm test -- lint unit` runs only the stages named (the build
// always runs).
//
// Suites run two at a time with one test file each, so that two cores are busy while a suite waits for a program or a
// clock; what a suite prints is kept and shown when it ends.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
/** All stages together may take this long; what is left then is killed and counts as failed. */
const BUDGET_MS = 24 * 60_000;
const started = Date.now();
const reports = mkdtempSync(join(tmpdir(), "blockwright-test-"));

/** The programs that the suites hold Blockwright against, and the Debian packages that bring them. */
const PROGRAMS = {
  "qemu-img": "qemu-utils",
  "qemu-io": "qemu-utils",
  "qemu-storage-daemon": "qemu-system-common",
  chromium: "chromium",
  nasm: "nasm",
  "/usr/share/seabios/bios.bin": "seabios",
  cryptsetup: "cryptsetup-bin",
  sfdisk: "fdisk",
  mke2fs: "e2fsprogs",
  zsh: "zsh",
  fish: "fish",
  man: "man-db",
  openssl: "openssl",
  groff: "groff-base",
};

/** What is left of the budget. */
function limits() {
  return { cwd: root, timeout: Math.max(1, started + BUDGET_MS - Date.now()), killSignal: "SIGKILL" };
}

/** Runs a program with our output; true when it exits with 0 within the budget. */
function run(command, ...args) {
  const { status, error } = spawnSync(command, args, {
    ...limits(),
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (error) console.error(`${command}: ${error.message}`);
  return status === 0;
}

/** Runs a program while others run, its output into a file; true when it exits with 0 within the budget. */
async function runBeside(output, command, ...args) {
  const file = openSync(output, "w");
  const child = spawn(command, args, { ...limits(), stdio: ["ignore", file, file] });
  const status = await new Promise((resolve) => {
    child.on("error", (error) => {
      writeSync(file, `${command}: ${error.message}\n`);
      resolve(undefined);
    });
    child.on("close", resolve);
  });
  closeSync(file);
  return status === 0;
}

/** The path of a program of node_modules/.bin. */
function bin(name) {
  return join(root, "node_modules", ".bin", name);
}

/** Runs a program of node_modules/.bin. */
function tool(name, ...args) {
  return run(process.execPath, bin(name), ...args);
}

/** Whether a program can be found. */
function found(program) {
  if (program === "chromium" && process.env.BLOCKWRIGHT_CHROMIUM)
    return existsSync(process.env.BLOCKWRIGHT_CHROMIUM);
  if (program.startsWith("/")) return existsSync(program);
  return (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}

/** Sees to the programs: installs what is missing when it may, otherwise says how to. */
function packages() {
  const missing = Object.keys(PROGRAMS).filter((program) => !found(program));
  if (missing.length === 0) return true;
  const wanted = [...new Set(missing.map((program) => PROGRAMS[program]))];
  const install = ["install", "-y", "--no-install-recommends", ...wanted];
  if (process.getuid?.() !== 0 || !found("apt-get")) {
    console.error(`missing: ${missing.join(", ")}. On Debian:\n  sudo apt-get ${install.join(" ")}`);
    return false;
  }
  process.env.DEBIAN_FRONTEND = "noninteractive";
  return run("apt-get", "-q", "update") && run("apt-get", "-q", ...install);
}

/** A check counts as one test. */
function check(ok) {
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1 };
}

/** Runs a part of a vitest project and counts its tests. A file that does not even load counts as a failed test, and so does a part without tests. */
async function suite({ project, part, parts }) {
  const file = join(reports, `${project}-${part}.json`);
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  const args = ["run", "--project", project, `--shard=${part}/${parts}`, "--maxWorkers=1", ...reporters];
  const output = join(reports, `${project}-${part}.txt`);
  const ok = await runBeside(output, process.execPath, bin("vitest"), ...args);
  process.stdout.write(readFileSync(output));
  if (!existsSync(file)) return check(false);
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = JSON.parse(
    readFileSync(file, "utf8"),
  );
  const broken = testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  );
  const failed = numFailedTests + broken.length;
  if (numPassedTests + failed === 0) return check(false);
  // A run can fail without a failed test: an unhandled rejection, a killed worker, the budget.
  return { passed: numPassedTests, failed: ok ? failed : Math.max(1, failed), skipped: numPendingTests };
}

const checks = {
  format: () => tool("oxfmt", "--check"),
  lint: () => tool("oxlint", "--type-aware", "--deny-warnings"),
  types: () => tool("tsc", "--noEmit"),
  knip: () => tool("knip"),
  package: () => run(process.execPath, ".ci/check-package.mjs"),
};
/** The suites (vitest's projects), the longest first, and in how many parts they run. */
const suites = {
  interop: 4,
  crash: 2,
  acceptance: 1,
  browser: 1,
  fuzz: 1,
  unit: 1,
  sim: 1,
  conformance: 1,
  tidy: 1,
};
const SUITES_AT_ONCE = 2;

/** The line of a stage that began at `begin`; printed, and returned with its counts. */
function conclude(name, begin, { passed, failed, skipped = 0 }) {
  const seconds = ((Date.now() - begin) / 1000).toFixed(1).padStart(7);
  const counts = `${passed} ok${failed ? `, ${failed} NOT OK` : ""}${skipped ? `, ${skipped} skipped` : ""}`;
  const line = `${name.padEnd(12)} ${seconds} s   ${counts}`;
  console.log(line);
  return { passed, failed, line };
}

/** Runs a check. */
function checkStage(name, work) {
  const begin = Date.now();
  console.log(`\n--- ${name}`);
  return conclude(name, begin, check(work()));
}

/** Runs a part of a suite; what it prints appears when it is over. */
async function suiteStage({ project, part, parts }) {
  const begin = Date.now();
  const counts = await suite({ project, part, parts });
  const name = parts === 1 ? project : `${project} ${part}/${parts}`;
  console.log(`\n--- ${name} (above)`);
  return conclude(name, begin, counts);
}

/** Runs the stages; gives their results. */
async function stages(only) {
  const results = [checkStage("programs", packages)];
  results.push(checkStage("build", () => run(process.execPath, ".ci/build.mjs")));
  if (results[1].failed) return results;
  const wanted = (name) => only.length === 0 || only.includes(name);
  for (const [name, work] of Object.entries(checks)) if (wanted(name)) results.push(checkStage(name, work));
  const queue = Object.entries(suites)
    .filter(([project]) => wanted(project))
    .flatMap(([project, parts]) =>
      Array.from({ length: parts }, (_, i) => ({ project, part: i + 1, parts })),
    );
  const lane = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift())
      results.push(await suiteStage(next));
  };
  await Promise.all(Array.from({ length: SUITES_AT_ONCE }, lane));
  return results;
}

let results = [];
try {
  results = await stages(process.argv.slice(2));
} catch (error) {
  console.error(error);
  results.push({ ...check(false), line: "the runner itself failed" });
} finally {
  rmSync(reports, { recursive: true, force: true });
}
const total = (count) => results.reduce((sum, result) => sum + result[count], 0);
console.log(`\nStages:\n${results.map(({ line }) => line).join("\n")}`);
console.log(`all          ${((Date.now() - started) / 1000).toFixed(1).padStart(7)} s`);
console.log(`${total("passed")} passed, ${total("failed")} failed`);
process.exitCode = total("failed") === 0 ? 0 : 1;
