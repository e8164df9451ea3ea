// The library's own worker, for tests in which it loads a module late: vitest rewrites `import()` to ask the runner of its page, which no
// worker has.
import "../../../src/worker.ts";

Object.assign(globalThis, {
  __vitest_browser_runner__: { wrapDynamicImport: (load: () => unknown) => load() },
});
