// A program that runs a script with compiled code that is kept, and says on stderr whether it took some:
// SCRIPT HASH FOLDER NAME.
import { createRequire } from "node:module";
import { Script } from "node:vm";
import { runCached } from "../../src/platform/node/code-cache.ts";

const [file = "", hash = "", folder = "", name = ""] = process.argv.slice(2);
const { runInThisContext } = Script.prototype;
Script.prototype.runInThisContext = function (this: Script, ...args): unknown {
  if (this.cachedDataRejected === false) process.stderr.write("took kept code\n");
  return runInThisContext.apply(this, args);
};
runCached({ file, hash, folder, name, require: createRequire(import.meta.url) });
