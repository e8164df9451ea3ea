// `npm test`: every check and every suite, one after the other, each with its time; the last line is
// `N passed, N failed` over all of them. A check such as the linter counts as one test. A suite without files is
// skipped with a line that says so. `npm test -- lint unit` runs only the stages named (the build always runs).
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
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
};

/** Runs a program with our output; true when it exits with 0 within the budget. */
function run(command, ...args) {
  const timeout = Math.max(1, started + BUDGET_MS - Date.now());
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    timeout,
    killSignal: "SIGKILL",
  });
  if (error) console.error(`${command}: ${error.message}`);
  return status === 0;
}

/** A program of node_modules/.bin. */
function tool(name, ...args) {
  return run(process.execPath, join(root, "node_modules", ".bin", name), ...args);
}

/** Whether a program can be found. */
function found(program) {
  if (program === "chromium" && process.env.BLOCKWRIGHT_CHROMIUM)
    return existsSync(process.env.BLOCKWRIGHT_CHROMIUM);
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

/** Runs one vitest project and counts its tests; a file that does not even load counts as a failed test. */
function suite(project) {
  const file = join(reports, `${project}.json`);
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  const ok = tool("vitest", "run", "--project", project, ...reporters);
  if (!existsSync(file)) return check(false);
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = JSON.parse(
    readFileSync(file, "utf8"),
  );
  const broken = testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  );
  const failed = numFailedTests + broken.length;
  // A run can fail without a failed test: an unhandled rejection, a killed worker, the budget.
  return { passed: numPassedTests, failed: ok ? failed : Math.max(1, failed), skipped: numPendingTests };
}

/** Whether a folder of test/ holds a test file. */
function hasTests(folder) {
  const path = join(root, "test", folder);
  return (
    existsSync(path) &&
    readdirSync(path, { recursive: true }).some((name) => String(name).endsWith(".test.ts"))
  );
}

const checks = {
  format: () => tool("oxfmt", "--check"),
  lint: () => tool("oxlint", "--type-aware", "--deny-warnings"),
  types: () => tool("tsc", "--noEmit"),
  knip: () => tool("knip"),
  package: () => run(process.execPath, ".ci/check-package.mjs"),
};
/** Suites and the folders of which one must hold tests. */
const suites = {
  tidy: ["tidy"],
  unit: ["unit"],
  browser: ["browser", "unit/kernels", "unit/job"],
  sim: ["sim"],
  conformance: ["conformance"],
  interop: ["interop"],
  crash: ["crash"],
};

/** Runs one stage, prints and returns its line. */
function stage(name, work) {
  const begin = Date.now();
  console.log(`\n--- ${name}`);
  const { passed, failed, skipped = 0 } = work();
  const seconds = ((Date.now() - begin) / 1000).toFixed(1).padStart(7);
  const counts = `${passed} ok${failed ? `, ${failed} NOT OK` : ""}${skipped ? `, ${skipped} skipped` : ""}`;
  const line = `${name.padEnd(12)} ${seconds} s   ${counts}`;
  console.log(line);
  return { passed, failed, line };
}

/** Runs the stages; gives their results. */
function stages(only) {
  const results = [stage("programs", () => check(packages()))];
  results.push(stage("build", () => check(run(process.execPath, ".ci/build.mjs"))));
  if (results[1].failed) return results;
  for (const [name, work] of Object.entries(checks)) {
    if (only.length === 0 || only.includes(name)) results.push(stage(name, () => check(work())));
  }
  for (const [name, folders] of Object.entries(suites)) {
    if (only.length > 0 && !only.includes(name)) continue;
    if (folders.some(hasTests)) results.push(stage(name, () => suite(name)));
    else console.log(`\n--- ${name}: skipped, test/${name} holds no test yet`);
  }
  return results;
}

let results = [];
try {
  results = stages(process.argv.slice(2));
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
