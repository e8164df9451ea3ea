// The demo's Debian guest: whether this machine can put it together, and doing so when the page asks for it, in a process of
// its own (test/support/v86/debian-demo.ts).
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build.mjs";

/** Where its kernel and its initrd are. */
export const debianFolder = join(root, "build", "demo", "linux");

/** What the machine lacks for it, in words; undefined: nothing. */
function obstacle() {
  if (process.getuid?.() !== 0) return "apt and its packages need root, and this server does not run as root";
  const missing = ["apt-get", "dpkg-deb"].find((program) => spawnSync(program, ["--version"]).error);
  return missing && `it is made of Debian's packages, and this machine has no ${missing}`;
}

/** The guest. `state` is ready, none (it can be made), making, failed or impossible; `why` says why for the last two. */
export class DebianGuest {
  #state = "none";
  #why = "";

  /** With `isForbidden` it is as on a machine without apt, for tests. */
  constructor(isForbidden = false) {
    const isReady = ["vmlinuz", "initrd"].every((name) => existsSync(join(debianFolder, name)));
    if (isReady && !isForbidden) this.#state = "ready";
    else {
      const why = isForbidden ? "the server was started with --no-debian" : obstacle();
      if (why) this.#be("impossible", why);
    }
  }

  facts() {
    return { state: this.#state, why: this.#why };
  }

  /** Begins to make it, if that is possible and not done. */
  make() {
    if (this.#state !== "none" && this.#state !== "failed") return;
    this.#be("making", "");
    const words = [".ci/ts.mjs", "test/support/v86/debian-demo.ts", debianFolder];
    const child = spawn(process.execPath, words, { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (/** @type {Buffer} */ chunk) => (said = (said + chunk.toString()).slice(-4096)));
    child.once("error", ({ message }) => this.#be("failed", message));
    child.once("close", (status) => {
      if (status === 0) return this.#be("ready", "");
      const line = said.split("\n").find((one) => /^(E:|Error:)/.test(one.trim()));
      return this.#be("failed", line?.trim() ?? `its program ended with ${status}`);
    });
  }

  /**
   * @param {string} state
   * @param {string} why
   */
  #be(state, why) {
    this.#state = state;
    this.#why = why;
  }
}
