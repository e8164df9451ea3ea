// The test projects, one per suite folder. `vitest run --project unit` runs one; a suite without files passes.
// At most two files run at once (the CI machine has two cores), and heavy suites run theirs one by one.
import { playwright } from "@vitest/browser-playwright";
import { browserProfile } from "./test/support/browser-profile.ts";
import { browserCommands } from "./test/support/browser-commands.ts";
import { CHROMIUM, CHROMIUM_ARGUMENTS } from "./test/support/chromium.ts";
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

/** A suite that runs in Node. `heavy` suites start processes or long stories and run one file at a time. */
function suite(name: string, timeoutSeconds: number, heavy = false): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      environment: "node",
      testTimeout: timeoutSeconds * 1000,
      hookTimeout: timeoutSeconds * 1000,
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
    testTimeout: 120_000,
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
      suite("unit", 120),
      browser,
      suite("tidy", 180),
      suite("sim", 600, true),
      suite("interop", 300, true),
      suite("iotests", 610, true),
      suite("conformance", 600, true),
      suite("crash", 900, true),
      suite("fuzz", 300, true),
      suite("acceptance", 300, true),
      suite("packed", 300, true),
    ],
  },
});
