/**
 * What `npm test` runs and for how long: the one table of checks, suites, parts, budgets and programs. docs/TESTING.md
 * shows the budgets to people, and a test holds the two equal.
 */

/** A check is a program that is content (exit 0) or not; it counts as one test. */
export interface Check {
  readonly name: string;
  /** A program of node_modules/.bin, or a script that Node runs, with its words. */
  readonly words: readonly string[];
  /** What it takes on two cores when nothing else runs, seconds. */
  readonly seconds: number;
}

/** The checks, in the order in which they begin. */
export const checks: readonly Check[] = [
  { name: "format", words: ["oxfmt", "--check"], seconds: 2 },
  { name: "lint", words: ["oxlint", "--type-aware", "--deny-warnings"], seconds: 10 },
  { name: "types", words: ["tsc", "--noEmit"], seconds: 6 },
  { name: "types-ci", words: ["tsc", "--noEmit", "-p", ".ci"], seconds: 3 },
  { name: "knip", words: ["knip"], seconds: 4 },
  { name: "package", words: [".ci/check-package.mjs"], seconds: 20 },
];

/** A suite is a project of vitest.config.ts. */
export interface Suite {
  readonly name: string;
  /** A run in which no test ends for so many minutes hangs, and is killed. */
  readonly quietMinutes: number;
  /** Two runs of it at a time would meet: one browser's profile, one port. */
  readonly alone?: boolean;
}

/** The suites; a new one needs a line here and a place in `budgets`. */
export const suites: readonly Suite[] = [
  { name: "tidy", quietMinutes: 10 },
  { name: "unit", quietMinutes: 10 },
  { name: "conformance", quietMinutes: 20 },
  { name: "interop", quietMinutes: 15 },
  { name: "iotests", quietMinutes: 30 },
  { name: "sim", quietMinutes: 20 },
  { name: "crash", quietMinutes: 30 },
  { name: "fuzz", quietMinutes: 10 },
  { name: "browser", quietMinutes: 10, alone: true },
  { name: "acceptance", quietMinutes: 10, alone: true },
  { name: "packed", quietMinutes: 10 },
];

/** Files of many like tests that run in parts (test/support/shard.ts), and in how many. */
export const parts: Readonly<Record<string, number>> = {
  "test/conformance/conformance.test.ts": 4,
  "test/crash/sigkill.test.ts": 4,
  "test/fuzz/qcow2.test.ts": 3,
  "test/iotests/iotests.test.ts": 40,
  "test/iotests/machine.test.ts": 24,
  "test/sim/stories.test.ts": 4,
};

/** A share of the time: `minutes` on the clock for what these suites have not run yet. */
export interface Phase {
  readonly name: string;
  readonly minutes: number;
  readonly suites: readonly string[];
}

const everything = suites.map(({ name }) => name);
/** What `npm ci` before README's command may take of its minutes. */
export const INSTALL_MINUTES = 1;
/** What fetches packages has its place in CI only. */
const quick = everything.filter((name) => !["iotests", "packed"].includes(name));
const command: Phase = { name: "README's command", minutes: 10, suites: quick };

/**
 * The budgets, by BLOCKWRIGHT_TEST_BUDGET. In `full`, what CI has, README's command comes first and the phases go on with
 * what it left out; a phase of suites that do not exist yet leaves its minutes to whatever is left at the end.
 */
export const budgets = {
  command: [command],
  full: [
    command,
    { name: "QEMU's own tests", minutes: 14, suites: ["iotests"] },
    { name: "simulation and fuzzing", minutes: 10, suites: ["sim", "crash", "fuzz"] },
    { name: "browsers", minutes: 7, suites: ["browser", "acceptance"] },
    { name: "services", minutes: 5, suites: ["packed", "services"] },
    { name: "rest", minutes: 2, suites: quick },
  ],
  all: [{ name: "everything", minutes: Infinity, suites: everything }],
} as const satisfies Readonly<Record<string, readonly Phase[]>>;

/** A budget's name. */
export type Budget = keyof typeof budgets;

/** A program that the suites hold Blockwright against. */
export interface Program {
  /** Its name on the PATH, or the path of a file. */
  readonly name: string;
  /** The Debian package that brings it. */
  readonly debian: string;
  /** The only test files that need it; absent: so many do that README's command installs it. */
  readonly wantedBy?: RegExp;
}

const IOTESTS = /^test\/iotests\//;

/** The programs. */
export const programs: readonly Program[] = [
  { name: "qemu-img", debian: "qemu-utils" },
  { name: "qemu-io", debian: "qemu-utils" },
  { name: "qemu-storage-daemon", debian: "qemu-system-common" },
  { name: "chromium", debian: "chromium" },
  { name: "nasm", debian: "nasm" },
  { name: "/usr/share/seabios/bios.bin", debian: "seabios" },
  {
    name: "cryptsetup",
    debian: "cryptsetup-bin",
    wantedBy: /^test\/interop\/(luks|luks-detached|encrypted-jobs)\.test/,
  },
  { name: "sfdisk", debian: "fdisk", wantedBy: /^test\/(interop\/adapters|tidy\/docs-examples)\.test/ },
  {
    name: "mke2fs",
    debian: "e2fsprogs",
    wantedBy: /^test\/(interop\/(adapters|oci)|tidy\/docs-examples)\.test/,
  },
  { name: "debugfs", debian: "e2fsprogs", wantedBy: /^test\/interop\/(adapters|oci)\.test/ },
  { name: "e2fsck", debian: "e2fsprogs", wantedBy: /^test\/interop\/adapters\.test/ },
  { name: "docker-registry", debian: "docker-registry", wantedBy: /^test\/interop\/oci\.test/ },
  { name: "skopeo", debian: "skopeo", wantedBy: /^test\/interop\/oci\.test/ },
  { name: "zsh", debian: "zsh", wantedBy: /^test\/interop\/completion\.test/ },
  { name: "fish", debian: "fish", wantedBy: /^test\/interop\/completion\.test/ },
  { name: "man", debian: "man-db", wantedBy: /^test\/interop\/completion\.test/ },
  { name: "groff", debian: "groff-base", wantedBy: /^test\/interop\/completion\.test/ },
  {
    name: "qemu-system-x86_64",
    debian: "qemu-system-x86",
    wantedBy:
      /^test\/(iotests\/|interop\/(machine(-(descriptors|devices|graph|nodes|pairs))?|backup-running|monitor-commands|luks-shared|preallocate|quorum|shims)\.test)/,
  },
  {
    name: "qemu-nbd",
    debian: "qemu-utils",
    wantedBy: /^test\/(iotests\/|interop\/nbd-|interop\/target-gone)/,
  },
  { name: "nbdkit", debian: "nbdkit", wantedBy: /^test\/interop\/nbd-servers\.test/ },
  { name: "dpkg-source", debian: "dpkg-dev", wantedBy: IOTESTS },
  { name: "getfattr", debian: "attr", wantedBy: IOTESTS },
  { name: "setfacl", debian: "acl", wantedBy: IOTESTS },
  {
    name: "/usr/share/doc/fio-examples",
    debian: "fio-examples",
    wantedBy: /^test\/interop\/workload\.test/,
  },
  {
    name: "/usr/lib/python3/dist-packages/six.py",
    debian: "python3-six",
    wantedBy: /^test\/interop\/workload\.test/,
  },
  { name: "fio_jsonplus_clat2csv", debian: "fio", wantedBy: /^test\/interop\/workload\.test/ },
  { name: "firefox-esr", debian: "firefox-esr", wantedBy: /^test\/acceptance\/firefox-/ },
  {
    name: "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser",
    debian: "libwebkit2gtk-4.1-0",
    wantedBy: /^test\/acceptance\/webkit\.test/,
  },
  { name: "emcc", debian: "emscripten", wantedBy: /^test\/acceptance\/emscripten\.test/ },
  { name: "Xvfb", debian: "xvfb", wantedBy: /^test\/acceptance\/webkit\.test/ },
  {
    name: "openssl",
    debian: "openssl",
    wantedBy: /^test\/(unit\/drivers\/protocol\/https\.node|interop\/nbd-(servers?|websocket))\.test/,
  },
  { name: "nbdinfo", debian: "libnbd-bin", wantedBy: /^test\/interop\/nbd-/ },
  { name: "nbdcopy", debian: "libnbd-bin", wantedBy: /^test\/interop\/nbd-/ },
  { name: "nbdsh", debian: "python3-libnbd", wantedBy: /^test\/interop\/nbd-/ },
  {
    name: "redis-server",
    debian: "redis-server",
    wantedBy:
      /^test\/interop\/fleet-(queues|silent|poison|shards|store-shards|faults|limits|storm|dashboard|recipe)\.test/,
  },
  {
    name: "redis-cli",
    debian: "redis-tools",
    wantedBy:
      /^test\/interop\/fleet-(queues|silent|poison|shards|store-shards|faults|limits|storm|dashboard|recipe)\.test/,
  },
  {
    name: "/usr/lib/postgresql/15/bin/postgres",
    debian: "postgresql-15",
    wantedBy: /^test\/interop\/fleet-(queues|poison|limits|storm)\.test/,
  },
  {
    name: "/usr/lib/python3/dist-packages/swift/__init__.py",
    debian: "python3-swift",
    wantedBy: /^test\/interop\/s3-swift\.test/,
  },
  { name: "nbd-client", debian: "nbd-client", wantedBy: /^test\/interop\/nbd-server\.test/ },
];
