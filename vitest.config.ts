// The test projects, one per suite folder. `vitest run --project unit` runs one; a suite without files passes.
// At most two files run at once (the CI machine has two cores), and heavy suites run theirs one by one.
import { playwright } from "@vitest/browser-playwright";
import { browserProfile } from "./test/support/browser-profile.ts";
import { browserCommands } from "./test/support/browser-commands.ts";
import { CHROMIUM, CHROMIUM_ARGUMENTS } from "./test/support/chromium.ts";
import { HANG_MS } from "./test/support/until.ts";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";

/** What the browser's cryptography loads late; found late, it would make the page load again. */
const NOBLE = ["ciphers/aes.js", "hashes/legacy.js", "hashes/pbkdf2.js", "hashes/sha2.js"].map(
  (name) => `@noble/${name}`,
);

/** Makes the test page cross-origin isolated, so that SharedArrayBuffer and precise clocks exist. */
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** How long a test may take, and wait for one thing: these end what hangs, and nothing that a busy machine does slowly. */
const patience = {
  testTimeout: 3 * HANG_MS,
  hookTimeout: 3 * HANG_MS,
  expect: { poll: { timeout: HANG_MS } },
} as const;

/** A suite that runs in Node. `heavy` suites start processes or long stories and run one file at a time. */
function suite(name: string, heavy = false): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      environment: "node",
      ...patience,
      fileParallelism: !heavy,
    },
  };
}

/** The tests that must hold in Chromium too: everything below test/browser, the kernels' and the jobs' unit tests. */
const browser: TestProjectInlineConfiguration = {
  server: { headers: ISOLATION },
  optimizeDeps: { include: [...NOBLE, "fast-check", "fzstd", "@assemblyscript/loader"] },
  test: {
    name: "browser",
    include: [
      "test/browser/**/*.test.ts",
      "test/unit/base/**/*.test.ts",
      "test/unit/kernels/**/*.test.ts",
      "test/unit/job/**/*.test.ts",
      "test/unit/api/**/*.test.ts",
      "test/unit/platform/browser/**/*.test.ts",
      "test/unit/block/**/*.test.ts",
      "test/unit/machine/**/*.test.ts",
      "test/unit/server/monitor/commands/**/*.test.ts",
      "test/unit/drivers/**/*.test.ts",
      "test/unit/workload/**/*.test.ts",
    ],
    exclude: ["**/*.node.test.ts"],
    globalSetup: ["test/support/browser-profile.ts"],
    ...patience,
    fileParallelism: false,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({
        persistentContext: browserProfile,
        launchOptions: { executablePath: CHROMIUM, args: CHROMIUM_ARGUMENTS },
      }),
      instances: [{ browser: "chromium" }],
      commands: browserCommands,
    },
  },
};

export default defineConfig({
  test: {
    passWithNoTests: true,
    maxWorkers: 2,
    maxConcurrency: 2,
    projects: [
      suite("unit"),
      browser,
      suite("tidy"),
      suite("sim", true),
      suite("interop", true),
      suite("iotests", true),
      suite("conformance", true),
      suite("crash", true),
      suite("fuzz", true),
      suite("acceptance", true),
      suite("packed", true),
    ],
  },
});
